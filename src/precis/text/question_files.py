"""The bytes of a questions file: what encoding its text has, or that it is a workbook."""

from __future__ import annotations

import codecs
import io
import zipfile
from pathlib import Path

from precis.errors import QuestionsError

# UTF-32 first: its mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OLD_OFFICE = bytes.fromhex("D0CF11E0A1B11AE1")


def read_bytes(path: Path) -> bytes:
    """Read a file whole.

    Raises
    ------
    QuestionsError
        There is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as cause:
        raise QuestionsError(f"{path}: no such file; check the path") from cause
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise QuestionsError(f"{path}: cannot be read ({reason}); check the file") from cause


def is_workbook(data: bytes, name: str) -> bool:
    """Whether a file is an Excel workbook.

    Raises
    ------
    QuestionsError
        It is another office file, or an archive.
    """
    if data.startswith(_OLD_OFFICE):
        raise QuestionsError(
            f"{name}: an old or a locked Office file (.xls, or with a password); save it as .xlsx without a "
            "password, or as CSV"
        )
    if not data.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError) as cause:
        raise QuestionsError(
            f"{name}: a damaged workbook or archive ({cause}); get or save it again"
        ) from cause
    if "xl/workbook.xml" not in parts:
        raise QuestionsError(
            f"{name}: an archive that is no Excel workbook; unpack it, or save the table as .xlsx or CSV"
        )
    return True


def decoded(data: bytes, name: str) -> str:
    """Give a file's text: UTF-8, or UTF-16 or UTF-32, which Excel's "Unicode text" and PowerShell write.

    Raises
    ------
    QuestionsError
        It is none of these.
    """
    encoding = _encoding(data)
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as cause:
        called = "UTF-8" if encoding == "utf-8-sig" else encoding.upper()
        raise QuestionsError(
            f"{name}: not {called} text (see byte {cause.start}); save it as UTF-8"
        ) from cause


def _encoding(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    # without a mark: most text has many characters whose upper half is zero
    even, odd = data[0:400:2].count(0), data[1:400:2].count(0)
    if even + odd == 0 or max(even, odd) < len(data[:400]) / 8:
        return "utf-8-sig"
    return "utf-16-le" if odd > even else "utf-16-be"
