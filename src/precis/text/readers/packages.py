"""Zip archives that hold one document: DOCX, PPTX, XLSX, ODT, EPUB."""

from __future__ import annotations

import io
import posixpath
import zipfile
from functools import cached_property
from urllib.parse import unquote
from xml.etree import ElementTree

from precis.text.readers.reader import UnreadableError

ZIP_MAGIC = b"PK\x03\x04"
# Far above what any document holds; an archive made to fill the memory unpacks to terabytes.
_MOST_BYTES = 400_000_000


class Package:
    """A zip archive whose parts name each other through relationships, as Office's formats do.

    Parameters
    ----------
    data
        The file's bytes.

    Raises
    ------
    zipfile.BadZipFile
        It is no whole archive.
    UnreadableError
        Its parts are too large for a document.
    """

    def __init__(self, data: bytes) -> None:
        self._archive = zipfile.ZipFile(io.BytesIO(data))
        if sum(entry.file_size for entry in self._archive.infolist()) > _MOST_BYTES:
            raise UnreadableError(
                f"its parts unpack to more than {_MOST_BYTES // 1_000_000} MB; split the document"
            )

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all parts."""
        return frozenset(self._archive.namelist())

    def read(self, name: str) -> bytes:
        """Return a part's bytes."""
        return self._archive.read(name)

    def xml(self, name: str) -> ElementTree.Element:
        """Return a part's root node."""
        return ElementTree.fromstring(self.read(name))

    def related(self, part: str) -> dict[str, tuple[str, str]]:
        """Return the parts that a part names: by id, the kind of the relationship and the part's name.

        The package itself is the part with the empty name. What lies outside of the package is left out.
        """
        folder, name = posixpath.split(part)
        relations = posixpath.join(folder, "_rels", f"{name}.rels")
        if relations not in self.names:
            return {}
        found = {}
        for relation in self.xml(relations):
            if relation.get("TargetMode") != "External":
                target = posixpath.normpath(
                    posixpath.join("/", folder, unquote(relation.get("Target", "")))
                ).lstrip("/")
                kind = relation.get("Type", "").rpartition("/")[2]
                found[relation.get("Id", "")] = (kind, target)
        return found

    def main_part(self, default: str) -> str:
        """Return the name of the part that the package is about, `default` where it does not say."""
        for kind, target in self.related("").values():
            if kind == "officeDocument" and target in self.names:
                return target
        return default
