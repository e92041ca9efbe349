"""What a file is, by its content where that is plain, by its name where it is not."""

from __future__ import annotations

import re
from zipfile import BadZipFile

from precis.text.readers.packages import ZIP_MAGIC, Package
from precis.text.readers.reader import UnreadableError

_BYTES_SEEN = 4096
# By what Office calls the main part of a package.
_OFFICE = {"wordprocessingml": ".docx", "presentationml": ".pptx", "spreadsheetml": ".xlsx"}
_OFFICE |= {"ms-word.": ".docx", "ms-powerpoint.": ".pptx", "ms-excel.": ".xlsx"}
_MIME_TYPES = {b"application/epub+zip": ".epub", b"application/vnd.oasis.opendocument": ".odt"}
# A page or a mail may be saved under any of these; in a file of another suffix, it is source.
_SAVED_AS = {
    "",
    ".txt",
    ".text",
    ".php",
    ".asp",
    ".aspx",
    ".jsp",
    ".cgi",
    ".shtml",
    ".download",
    ".doc",
    ".xls",
    ".msg",
}
_HTML = re.compile(
    rb"(?:<\?xml[^>]*\?>|(?><!--.*?-->)|\s)*+<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)
_MAIL = re.compile(rb"(?:From |[A-Za-z][A-Za-z0-9-]*:[ \t])")
_MAIL_HEADERS = (
    rb"^from:",
    rb"^(?:subject|to|date):",
    rb"^(?:mime-version|message-id|received|content-type|date):",
)


def kind_of(data: bytes, suffix: str) -> str:
    """Return the suffix that a file of this content has by right; `suffix` where that is open."""
    if data.startswith(ZIP_MAGIC):
        return _in_zip(data) or suffix
    start = data[:_BYTES_SEEN].removeprefix(b"\xef\xbb\xbf")
    if suffix in _SAVED_AS:
        return _saved(start, data) or suffix
    return suffix


def _saved(start: bytes, data: bytes) -> str:
    """Return what a text that has no suffix of its own is."""
    if _HTML.match(start) and b"<?php" not in start and b"<%" not in start:
        return ".html"
    if _is_mail(start):
        return ".eml"
    if start.startswith(b"WEBVTT"):
        return ".vtt"
    if start.lstrip().startswith(b"{") and b'"nbformat"' in data and b'"cells"' in data:
        return ".ipynb"
    return ""


def _is_mail(start: bytes) -> bool:
    if not _MAIL.match(start):
        return False
    head = re.split(rb"\r?\n\r?\n", start, maxsplit=1)[0]
    return all(re.search(header, head, re.IGNORECASE | re.MULTILINE) for header in _MAIL_HEADERS)


def _in_zip(data: bytes) -> str:
    """Return what a zip archive holds; empty where it is no document that we know."""
    try:
        package = Package(data)
        if "mimetype" in package.names:
            kind = package.read("mimetype").strip()
            return next((suffix for mime, suffix in _MIME_TYPES.items() if kind.startswith(mime)), "")
        return _office(package)
    except (BadZipFile, UnreadableError, LookupError, SyntaxError, ValueError, OSError, RuntimeError):
        return ""


def _office(package: Package) -> str:
    """Return which of Office's formats a package is of; empty where of none."""
    if "[Content_Types].xml" not in package.names:
        return ""
    main = package.main_part("")
    for override in package.xml("[Content_Types].xml"):
        if main and override.get("PartName", "").lstrip("/") == main:
            kind = override.get("ContentType", "")
            return next((suffix for word, suffix in _OFFICE.items() if word in kind), "")
    return ""
