"""The formats in which documents come, one file each."""

from __future__ import annotations

from precis.text.readers.docx import Docx
from precis.text.readers.html import Html
from precis.text.readers.pdf import Pdf
from precis.text.readers.plain import Plain
from precis.text.readers.reader import Reader, UnknownFormatError, UnreadableError

__all__ = ["READABLE", "READERS", "Reader", "UnreadableError", "may_be_readable", "page_texts"]

# The first that knows a file by how it begins or by its suffix reads it; plain text is what is left.
READERS: tuple[Reader, ...] = (Pdf(), Docx(), Html())
PLAIN = Plain()
READABLE = ", ".join(reader.name for reader in READERS) + f", {PLAIN.name}"


def page_texts(data: bytes, suffix: str) -> list[str]:
    """Return the text of every page of a file, as its format gives it.

    Parameters
    ----------
    data
        The file's bytes.
    suffix
        The file's suffix in small letters, with its dot.

    Returns
    -------
    list of str
        One text a page for PDF, where blank pages are empty; one text for every other format.

    Raises
    ------
    UnreadableError
        When the file is empty, damaged, locked, scanned or binary, or in an unknown encoding.
    """
    if not data.strip():
        raise UnreadableError(f"the file is empty; expected {READABLE}")
    try:
        return _reader_of(data, suffix).pages(data)
    except UnknownFormatError as cause:
        raise UnreadableError(f"{cause.reason}; expected {READABLE}: {cause.remedy}") from cause


def may_be_readable(suffix: str) -> bool:
    """Whether a file with such a suffix, in small letters with its dot, is worth opening."""
    return any(suffix in reader.suffixes for reader in READERS) or PLAIN.can_have(suffix)


def _reader_of(data: bytes, suffix: str) -> Reader:
    for reader in READERS:
        if suffix in reader.suffixes or (reader.magic and data.startswith(reader.magic)):
            return reader
    return PLAIN
