"""HTML: what the page says, without its marks."""

from __future__ import annotations

import re

from precis.text.readers.plain import decode
from precis.text.readers.reader import Reader, UnreadableError

# The text within these is kept, the marks are not: addresses, image data and front matter are not prose.
_UNWRAPPED = ["head", "title", "meta", "a", "img", "svg"]


class Html(Reader):
    """A page as browsers take it: in the encoding that it declares."""

    name = "HTML"
    suffixes = (".html", ".htm", ".xhtml")

    def pages(self, data: bytes) -> list[str]:
        """Give the whole text as one page."""
        from kreuzberg import ExtractionConfig, extract_bytes_sync  # lazily: it costs a tenth of a second

        # Like browsers: what the page declares in its first kilobyte counts, and Latin-1 means Windows-1252.
        declaration = rb"<(?:meta|\?xml)[^>]+(?:charset|encoding)\s*=\s*[\"']?([\w-]+)"
        declared = re.search(declaration, data[:1024], re.IGNORECASE)
        encoding = declared[1].decode("ascii").lower() if declared else None
        text = decode(data, "windows-1252" if encoding == "iso-8859-1" else encoding)
        # Plain output loses the text of `div` and `dl`, Markdown output keeps it; a cache would be a folder.
        config = ExtractionConfig(
            use_cache=False, output_format="markdown", html_options={"strip_tags": _UNWRAPPED}
        )
        try:
            return [str(extract_bytes_sync(text.encode(), "text/html", config=config).content)]
        except Exception as cause:  # whatever a parser raises, it is the file that it could not parse
            raise UnreadableError(f"damaged HTML ({cause}); repair it, or save it as text") from cause
