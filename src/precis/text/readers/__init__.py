"""The formats in which documents come, one file each."""

from __future__ import annotations

import io
import zlib
from gzip import BadGzipFile, GzipFile
from pathlib import PurePath

from precis.text.readers.docx import OLD_OFFICE_MAGIC, Docx
from precis.text.readers.epub import Epub
from precis.text.readers.html import Html
from precis.text.readers.kinds import kind_of
from precis.text.readers.mail import Mail
from precis.text.readers.notebook import Notebook
from precis.text.readers.opendocument import OpenDocument
from precis.text.readers.pdf import Pdf
from precis.text.readers.plain import Plain
from precis.text.readers.reader import Pages, Reader, UnknownFormatError, UnreadableError
from precis.text.readers.rtf import Rtf
from precis.text.readers.sheets import Sheets
from precis.text.readers.slides import Slides
from precis.text.readers.subtitles import Subtitles

__all__ = ["READABLE", "READERS", "Pages", "Reader", "UnreadableError", "may_be_readable", "read_pages"]

# Each knows its files by their suffix or by how they begin; plain text is what is left.
READERS: tuple[Reader, ...] = (
    *(Pdf(), Docx(), Html(), Epub(), OpenDocument(), Rtf(), Slides(), Sheets()),
    *(Mail(), Notebook(), Subtitles()),
)
PLAIN = Plain()
READABLE = ", ".join(reader.name for reader in READERS) + f", {PLAIN.name}"
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_UNPACKED = 400_000_000  # bytes; far above any document


def read_pages(data: bytes, name: str) -> Pages:
    """Return the text of every page of a file, as its format gives it, and what the user must know of it.

    Parameters
    ----------
    data
        The file's bytes; compressed with gzip, they are unpacked.
    name
        The file's name: its suffix says what its content leaves open.

    Returns
    -------
    Pages
        One text a page for PDF and a slide for PPTX, where those without text are empty; one text for
        every other format.

    Raises
    ------
    UnreadableError
        When the file is empty, damaged, locked, scanned or binary, or in an unknown encoding.
    """
    if not data.strip():
        raise UnreadableError(f"the file is empty; expected {READABLE}")
    if data.startswith(_GZIP_MAGIC):
        data, name = _unpacked(data), name.removesuffix(".gz")
    try:
        return _reader_of(data, PurePath(name).suffix.lower()).read(data)
    except UnknownFormatError as cause:
        raise UnreadableError(f"{cause.reason}; expected {READABLE}: {cause.remedy}") from cause


def may_be_readable(suffix: str) -> bool:
    """Whether a file with such a suffix, in small letters with its dot, is worth opening."""
    return any(suffix in reader.suffixes for reader in READERS) or PLAIN.can_have(suffix)


def _reader_of(data: bytes, suffix: str) -> Reader:
    for reader in READERS:
        if reader.magic and data.startswith(reader.magic):
            return reader
    kind = kind_of(data, suffix)
    for reader in READERS:
        if kind in reader.suffixes:
            return reader
    if data.startswith(OLD_OFFICE_MAGIC):
        raise UnknownFormatError(
            "an old Office file, or one locked with a password",
            "save it in the new format without a password",
        )
    return PLAIN


def _unpacked(data: bytes) -> bytes:
    try:
        with GzipFile(fileobj=io.BytesIO(data)) as file:
            unpacked = file.read(_MOST_UNPACKED + 1)
    except (BadGzipFile, EOFError, zlib.error) as cause:
        raise UnreadableError("a damaged or cut-off gzip file; download it again") from cause
    if len(unpacked) > _MOST_UNPACKED:
        raise UnreadableError(
            f"more than {_MOST_UNPACKED // 1_000_000} MB when it is unpacked; split the document"
        )
    return unpacked
