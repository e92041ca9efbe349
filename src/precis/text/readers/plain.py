"""Plain text, Markdown, source code: whatever is text by its bytes."""

from __future__ import annotations

import contextlib
import re

from precis.text.readers.reader import Pages, Reader, UnknownFormatError

# Longest first: the mark of UTF-16 is how the mark of UTF-32 begins.
_BYTE_ORDER_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
# Text by its bytes, yet markup that no reader of the text could follow: PostScript.
_MARKUP_MAGIC = (b"%!PS",)
# Pictures and fonts written into a text; a short one may be an example.
_DATA_ADDRESS = re.compile(r"data:[\w.+/-]*(?:;[\w=.+-]+)*;base64,[A-Za-z0-9+/=_-]{40,}")
# fmt: off
# Files that are certainly no text; of the others it shows when they are read.
_BINARY_SUFFIXES = frozenset({
    ".7z", ".avi", ".bmp", ".bz2", ".class", ".dll", ".dmg", ".doc", ".dylib", ".exe", ".flac", ".gguf",
    ".gif", ".heic", ".ico", ".iso", ".jar", ".jpeg", ".jpg", ".m4a", ".mkv", ".mov", ".mp3", ".mp4",
    ".mpeg", ".msg", ".npy", ".npz", ".o", ".ogg", ".otf", ".parquet", ".pickle", ".pkl", ".png", ".ppt",
    ".precis", ".psd", ".pt", ".pth", ".pyc", ".pyo", ".rar", ".safetensors", ".so", ".sqlite", ".tar",
    ".tgz", ".tif", ".tiff", ".ttf", ".wasm", ".wav", ".webm", ".webp", ".woff", ".woff2", ".xls", ".xz",
    ".zip", ".zst",
})
# fmt: on


class Plain(Reader):
    """UTF-8, or what a byte order mark says. It reads what no other reader does."""

    name = "Markdown or other UTF-8 text"

    def pages(self, data: bytes) -> list[str]:
        """Give the whole text as one page."""
        return self.read(data).texts

    def read(self, data: bytes) -> Pages:
        """Give the whole text as one page, without the pictures that are written into it."""
        text, dropped = _DATA_ADDRESS.subn("", decode(data))
        plural = "s" if dropped > 1 else ""
        return Pages(
            [text], [f"{dropped} picture{plural} or other data within the text left out"] if dropped else []
        )

    @staticmethod
    def can_have(suffix: str) -> bool:
        """Whether a file with such a suffix may be text."""
        return suffix not in _BINARY_SUFFIXES


def decode(data: bytes, declared: str | None = None) -> str:
    """Decode text. Nothing is guessed: a wrong guess would be compiled as if it were the document.

    Raises
    ------
    UnknownFormatError
        It is no text, or in another encoding.
    """
    marked = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    if data.startswith(_MARKUP_MAGIC) or (b"\0" in data and not marked):
        raise UnknownFormatError("not a format that can be read", "convert it first")
    try:
        return data.decode(marked or "utf-8")
    except UnicodeDecodeError as cause:
        with contextlib.suppress(UnicodeDecodeError, LookupError):
            if declared:
                return data.decode(declared)
        raise UnknownFormatError(
            f"neither a known format nor {marked or declared or 'UTF-8'} text (see byte {cause.start})",
            "convert it, text for example with iconv",
        ) from cause
