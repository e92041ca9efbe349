"""HTML: what the page says, without its marks."""

from __future__ import annotations

import re

from precis.text.readers.plain import decode
from precis.text.readers.reader import Reader, UnreadableError

# Browsers take these names for wider encodings, and pages are written for browsers.
_WIDER = {
    **dict.fromkeys(("ascii", "us-ascii", "iso-8859-1", "iso8859-1", "latin1", "l1"), "windows-1252"),
    **dict.fromkeys(("gb2312", "gbk", "gb_2312-80", "x-gbk", "chinese", "csgb2312"), "gb18030"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "ms_kanji", "windows-31j"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ksc5601", "korean"), "cp949"),
    **dict.fromkeys(("big5", "x-x-big5", "big5-hkscs"), "big5hkscs"),
    **dict.fromkeys(("iso-8859-9", "latin5"), "windows-1254"),
    **dict.fromkeys(("iso-8859-11", "tis-620"), "cp874"),
    **dict.fromkeys(("x-cp1251", "cp1251"), "windows-1251"),
}
# What opens and closes in one tag in XML stays open in HTML, and would swallow the rest of the page.
_CLOSED_AT_ONCE = re.compile(
    r"<(script|style|title|textarea|iframe|noscript|template)\b([^<>]*)/>", re.IGNORECASE
)


class Html(Reader):
    """A page as browsers take it: in the encoding that it declares, nested as deep as it likes."""

    name = "HTML"
    suffixes = (".html", ".htm", ".xhtml")

    def pages(self, data: bytes) -> list[str]:
        """Give the whole text as one page."""
        from precis.text.readers.web import page_text  # lazily: text needs none of it

        # Like browsers: what the page declares in its first kilobyte counts.
        declaration = rb"<(?:meta|\?xml)[^>]+(?:charset|encoding)\s*=\s*[\"']?([\w-]+)"
        declared = re.search(declaration, data[:1024], re.IGNORECASE)
        encoding = declared[1].decode("ascii").lower() if declared else None
        text = decode(data, _WIDER.get(encoding, encoding) if encoding else None)
        if text.lstrip().startswith("<?xml"):
            text = _CLOSED_AT_ONCE.sub(r"<\1\2></\1>", text)
        try:
            return [page_text(text)]
        except Exception as cause:  # whatever a parser raises, it is the file that it could not parse
            raise UnreadableError(f"damaged HTML ({cause}); repair it, or save it as text") from cause
