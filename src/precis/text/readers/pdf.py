"""PDF: the text as it lies on each page."""

from __future__ import annotations

import re

from precis.text.readers.reader import Reader, UnreadableError


class Pdf(Reader):
    """Pages with text in them; a scanned one has none."""

    name = "PDF"
    suffixes = (".pdf",)
    magic = b"%PDF-"

    def pages(self, data: bytes) -> list[str]:
        """Give one text a page; blank pages are empty."""
        from kreuzberg import ExtractionConfig, PageConfig, extract_bytes_sync

        # The pages are the text as it lies there; the joined content repeats what looks like a table.
        config = ExtractionConfig(use_cache=False, pages=PageConfig(extract_pages=True))
        try:
            pages = extract_bytes_sync(data, "application/pdf", config=config).pages or []
        except Exception as cause:  # whatever a parser raises, it is the file that it could not parse
            if "password" in str(cause).lower():
                raise UnreadableError("a PDF locked with a password; save a copy without it") from cause
            raise UnreadableError("a damaged or cut-off PDF; export or download it again") from cause
        texts = [
            _join_hyphens(page["content"]) for page in sorted(pages, key=lambda page: page["page_number"])
        ]
        if not any(text.strip() for text in texts):
            raise UnreadableError("a PDF without text: it seems to be scanned; run OCR first (say, ocrmypdf)")
        return texts


def _join_hyphens(text: str) -> str:
    """Resolve the marks that the PDF engine leaves where a line ended in a hyphen.

    Between small letters typesetters put far more hyphens of their own than authors do.
    """
    text = re.sub(r"(?<=[^\W\d_])[\x02\ufffe](?=[^\W\d_A-Z])", "", text)
    return re.sub(r"[\x02\ufffe]", "-", text)
