"""PDF: the text of each page in the order in which it is read."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from precis.text.readers.reader import Pages, Reader, UnreadableError

if TYPE_CHECKING:
    from precis.text.readers.page.glyphs import Drawn

# The library keeps state between calls that threads would share.
_ONE_AT_A_TIME = Lock()


class Pdf(Reader):
    """Pages with text in them; a scanned one has none."""

    name = "PDF"
    suffixes = (".pdf",)
    magic = b"%PDF-"

    def pages(self, data: bytes) -> list[str]:
        """Give one text a page; blank pages are empty."""
        return self.read(data).texts

    def read(self, data: bytes) -> Pages:
        """Give one text a page, and what was left out or could not be read."""
        from precis.text.readers.page.assembly import assembled  # lazily: text needs none of it

        with _ONE_AT_A_TIME:
            pages = _drawn(data)
        return assembled(pages)


def _drawn(data: bytes) -> list[Drawn]:
    import pypdfium2 as pdfium

    from precis.text.readers.page.glyphs import drawn

    try:
        file = pdfium.PdfDocument(data)
        try:
            if file.get_formtype():
                file.init_forms()
            return [drawn(page) for page in file]
        finally:
            file.close()
    except Exception as cause:  # whatever a parser raises, it is the file that it could not parse
        if "password" in str(cause).lower():
            raise UnreadableError("a PDF locked with a password; save a copy without it") from cause
        raise UnreadableError("a damaged or cut-off PDF; export or download it again") from cause
