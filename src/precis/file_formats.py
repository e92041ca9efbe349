"""The text of one file: what is known of PDF, DOCX, HTML and of the encodings of plain text.

Every reader here favours the words over the layout: a character that is lost or wrong is compiled
into the soft prompt without a trace. None of them needs a download.
"""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
from xml.etree import ElementTree

READABLE = "PDF, DOCX, HTML, Markdown or other UTF-8 text"
HTML_SUFFIXES = {".html", ".htm", ".xhtml"}

# Longest first: the mark of UTF-16 is how the mark of UTF-32 begins.
_BYTE_ORDER_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
# Text by its bytes, yet markup that no reader of the text could follow: RTF and PostScript.
_MARKUP_MAGIC = (b"{\\rtf", b"%!PS")
# How every old Office file begins, and every modern one that is locked with a password.
_OLD_OFFICE_MAGIC = b"\xd0\xcf\x11\xe0"
# The text within these is kept, the marks are not: addresses, image data and front matter are not prose.
_HTML_UNWRAPPED = ["head", "title", "meta", "a", "img", "svg"]
_WORD_MARKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
# Formatting; what tracked changes removed; the second copy of a text box; a reading aid above a word.
_WORD_SKIPPED = {"pPr", "rPr", "del", "moveFrom", "Fallback", "rt"}


class UnreadableError(Exception):
    """Why a file cannot be read, without its name: the caller knows the path that the user will recognise."""


def page_texts(data: bytes, suffix: str) -> list[str]:
    """Return the text of every page of a file, as its format gives it.

    Parameters
    ----------
    data
        The file's bytes.
    suffix
        The file's suffix in small letters, with its dot. A PDF is known without it.

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
    if suffix == ".pdf" or data.startswith(b"%PDF-"):
        return _pdf(data)
    if suffix == ".docx":
        return [_docx(data)]
    return [_html(data) if suffix in HTML_SUFFIXES else _decode(data)]


def _decode(data: bytes, declared: str | None = None) -> str:
    """Decode text. Nothing is guessed: a wrong guess would be compiled as if it were the document."""
    marked = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    if data.startswith(_MARKUP_MAGIC) or (b"\0" in data and not marked):
        raise UnreadableError(f"not a format that can be read; expected {READABLE}: convert it first")
    try:
        return data.decode(marked or "utf-8")
    except UnicodeDecodeError as cause:
        with contextlib.suppress(UnicodeDecodeError, LookupError):
            if declared:
                return data.decode(declared)
        raise UnreadableError(
            f"neither a known format nor {marked or declared or 'UTF-8'} text (see byte {cause.start}); "
            f"expected {READABLE}: convert it, text for example with iconv"
        ) from cause


def _html(data: bytes) -> str:
    from kreuzberg import ExtractionConfig, extract_bytes_sync  # lazily: it costs a tenth of a second

    # Like browsers: what the page declares in its first kilobyte counts, and Latin-1 means Windows-1252.
    declaration = rb"<(?:meta|\?xml)[^>]+(?:charset|encoding)\s*=\s*[\"']?([\w-]+)"
    declared = re.search(declaration, data[:1024], re.IGNORECASE)
    encoding = declared[1].decode("ascii").lower() if declared else None
    text = _decode(data, "windows-1252" if encoding == "iso-8859-1" else encoding)
    # Plain output loses the text of `div` and `dl`, Markdown output keeps it; its cache is a folder on disk.
    config = ExtractionConfig(
        use_cache=False, output_format="markdown", html_options={"strip_tags": _HTML_UNWRAPPED}
    )
    try:
        return str(extract_bytes_sync(text.encode(), "text/html", config=config).content)
    except Exception as cause:  # whatever a parser raises, it is the file that it could not parse
        raise UnreadableError(f"damaged HTML ({cause}); repair it, or save it as text") from cause


def _pdf(data: bytes) -> list[str]:
    from kreuzberg import ExtractionConfig, PageConfig, extract_bytes_sync

    # The pages are the text as it lies there; the joined content repeats what looks like a table.
    config = ExtractionConfig(use_cache=False, pages=PageConfig(extract_pages=True))
    try:
        pages = extract_bytes_sync(data, "application/pdf", config=config).pages or []
    except Exception as cause:  # whatever a parser raises, it is the file that it could not parse
        if "password" in str(cause).lower():
            raise UnreadableError("a PDF locked with a password; save a copy without it") from cause
        raise UnreadableError("a damaged or cut-off PDF; export or download it again") from cause
    texts = [_join_hyphens(page["content"]) for page in sorted(pages, key=lambda page: page["page_number"])]
    if not any(text.strip() for text in texts):
        raise UnreadableError("a PDF without text: it seems to be scanned; run OCR first (say, ocrmypdf)")
    return texts


def _join_hyphens(text: str) -> str:
    """Resolve the marks that the PDF engine leaves where a line ended in a hyphen.

    Between small letters typesetters put far more hyphens of their own than authors do.
    """
    text = re.sub(r"(?<=[^\W\d_])[\x02\ufffe](?=[^\W\d_A-Z])", "", text)
    return re.sub(r"[\x02\ufffe]", "-", text)


def _docx(data: bytes) -> str:
    """Read a Word file from its own XML: the converters at hand lose `&`, `<`, `>` and tabs from it."""
    if data.startswith(_OLD_OFFICE_MAGIC):
        raise UnreadableError("locked with a password, or an old .doc; save it as DOCX without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = {"word/footnotes.xml", "word/endnotes.xml"}.intersection(archive.namelist())
            parts = [archive.read(name) for name in ("word/document.xml", *sorted(names, reverse=True))]
        return "".join(_word_text(ElementTree.fromstring(part)) for part in parts)
    except Exception as cause:  # whatever a parser raises, it is the file that it could not parse
        raise UnreadableError("a damaged or cut-off DOCX; open it in Word and save it again") from cause


def _word_text(node: ElementTree.Element) -> str:
    """Return the text below a node of WordprocessingML; tables come out as rows of `| a | b |`."""
    tag = node.tag.rpartition("}")[2]
    if tag == "t":
        return node.text or ""
    if tag in _WORD_SKIPPED:
        return ""
    inside = _WORD_MARKS.get(tag, "") + "".join(map(_word_text, node))
    if tag == "p":
        return f"{_word_marker(node)}{inside}\n\n" if inside.strip() else ""
    if tag == "tc":
        return f" {' '.join(inside.split())} |"
    return {"tr": f"|{inside}\n", "tbl": f"{inside}\n"}.get(tag, inside)


def _word_marker(paragraph: ElementTree.Element) -> str:
    """Return what Markdown writes before a heading or an item of a list."""
    marks = {mark.tag.rpartition("}")[2]: mark for mark in paragraph.iterfind("{*}pPr/*")}
    style = next(iter(marks["pStyle"].attrib.values()), "") if "pStyle" in marks else ""
    if heading := re.fullmatch(r"Heading([1-6])", style):
        return "#" * int(heading[1]) + " "
    return "- " if "numPr" in marks or style.startswith("List") else "# " * (style == "Title")
