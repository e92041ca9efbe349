"""RTF, token by token: the converters at hand lose what is raised (10⁻⁶ becomes 10-6) and the footnotes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from precis.text.readers import markdown
from precis.text.readers.reader import Pages, Reader, UnreadableError
from precis.text.readers.word.pieces import Piece, line

RTF_MAGIC = b"{\\rtf"
_TOKEN = re.compile(
    rb"\\'([0-9a-fA-F]{2})|\\([a-zA-Z]+)(-?\d+)? ?|\\(.)|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.DOTALL
)
# fmt: off
_CHARACTERS = {
    "tab": "\t", "line": "\n", "emdash": "—", "endash": "–", "lquote": "‘", "rquote": "’",
    "ldblquote": "“", "rdblquote": "”", "bullet": "•", "emspace": " ", "enspace": " ", "qmspace": " ",
}
_SIGNS = {"~": "\u00a0", "_": "-", "{": "{", "}": "}", "\\": "\\"}
# Groups that hold no text of the document; a group that begins with \* is one where it is not known.
_NO_TEXT = frozenset({
    "fonttbl", "colortbl", "stylesheet", "info", "pict", "object", "fldinst", "themedata", "datastore",
    "listtable", "listoverridetable", "rsidtbl", "generator", "filetbl", "revtbl", "nonshppict", "bkmkstart",
    "bkmkend", "template", "xmlnstbl", "latentstyles", "colorschememapping", "pntext", "ftnsep", "ftnsepc",
    "aftnsep", "aftnsepc", "sp", "annotation", "atnid", "atnauthor", "atndate",
})
_MARGINS = frozenset({
    "header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf",
})
_CODE_PAGES = {
    0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 134: "gbk", 136: "big5", 161: "cp1253",
    162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874",
    238: "cp1250",
}
# fmt: on


class Rtf(Reader):
    """Rows of tables come out as `| a | b |`, headings with an outline level as Markdown."""

    name = "RTF"
    suffixes = (".rtf",)
    magic = RTF_MAGIC

    def pages(self, data: bytes) -> list[str]:
        """Give the whole text as one page."""
        return self.read(data).texts

    def read(self, data: bytes) -> Pages:
        """Give the whole text as one page, and tell of pictures and of headers."""
        if not data.startswith(RTF_MAGIC) or data.count(b"}") == 0:
            raise UnreadableError("a damaged RTF; open it in a word processor and save it again")
        writer = _Writer()
        for token in _TOKEN.finditer(data):
            writer.take(token)
        if writer.outer:
            raise UnreadableError("a cut-off RTF; open it in a word processor and save it again")
        return writer.pages()


@dataclass(frozen=True)
class _State:
    """What holds within a group, until it ends."""

    silent: bool = False
    kind: str = ""
    page: str = ""
    skip: int = 1
    place: str = "body"


@dataclass
class _Writer:
    """Takes the tokens of a file, and writes its text."""

    state: _State = field(default_factory=_State)
    outer: list[_State] = field(default_factory=list)
    pieces: dict[str, list[Piece]] = field(default_factory=lambda: {"body": []})
    blocks: list[str] = field(default_factory=list)
    margins: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    row: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    fonts: dict[int, str] = field(default_factory=dict)
    code_page: str = "cp1252"
    font: int | None = None
    raw: bytearray = field(default_factory=bytearray)
    to_skip: int = 0
    level: int = 0
    note_count: int = 0
    pictures: int = 0
    in_table: bool = False
    starred: bool = False

    def take(self, token: re.Match[bytes]) -> None:
        code, word, argument, sign, brace, text = token.groups()
        if code is not None:
            skipped = min(self.to_skip, 1)  # what old readers show in place of a Unicode character
            self.to_skip -= skipped
            self._bytes(bytes([int(code, 16)])[skipped:])
            return
        if text is not None:
            skipped = min(self.to_skip, len(text))
            self.to_skip -= skipped
            self._bytes(text[skipped:])
            return
        self._decode()
        if brace == b"{":
            self.outer.append(self.state)
        elif brace == b"}":
            self._close()
        elif word is not None:
            self._word(word.decode("ascii"), None if argument is None else int(argument))
        elif sign is not None:
            self._sign(sign.decode("latin-1"))
        if brace is None or brace == b"}":
            self.starred = sign == b"*"

    def _bytes(self, text: bytes) -> None:
        if not self.state.silent:
            self.raw += text

    def _decode(self) -> None:
        if self.raw:
            self._write(self.raw.decode(self.state.page or self.code_page, "replace"))
            self.raw.clear()

    def _write(self, text: str) -> None:
        if not self.state.silent:
            self.pieces.setdefault(self.state.place, []).append(Piece(text, self.state.kind))

    def _sign(self, sign: str) -> None:
        if sign in _SIGNS:
            self._write(_SIGNS[sign])
        elif sign in "\r\n":
            self._end_paragraph()

    def _close(self) -> None:
        place = self.state.place
        inside, self.state = self.state, self.outer.pop() if self.outer else _State()
        self.to_skip = 0
        if place == self.state.place or inside.silent:
            return
        text = line(self.pieces.pop(place, [])).strip()
        if place.startswith("note") and text:
            self.notes.append(f"[{place.removeprefix('note')}] {text}\n\n")
        elif text:
            self.margins.append(f"{'Header' if place.startswith('header') else 'Footer'}: {text}\n\n")

    def _word(self, word: str, argument: int | None) -> None:
        on = argument != 0
        if word in _NO_TEXT or (self.starred and word not in {"shppict", "footnote"}):
            self._silence(word)
        elif word == "u" and argument is not None:
            self._unicode(argument)
        elif word in _CHARACTERS:
            self._write(_CHARACTERS[word])
        elif word in {"super", "sub", "strike", "nosupersub", "plain", "v"}:
            self._format(word, on)
        elif word in {"footnote", *_MARGINS}:
            self._enter(word)
        elif word in {"par", "sect", "page", "cell", "nestcell", "row", "nestrow", "pard", "intbl"}:
            self._layout(word)
        elif argument is not None:
            self._setting(word, argument)

    def _silence(self, word: str) -> None:
        self.pictures += word == "pict" and not self.state.silent
        if word != "fonttbl":
            self.state = replace(self.state, silent=True)
            return
        self.state = replace(self.state, silent=True, place="fonts")

    def _unicode(self, value: int) -> None:
        self._write(chr(value % 0x10000))
        self.to_skip = self.state.skip

    def _format(self, word: str, on: bool) -> None:
        if word == "v":  # hidden text
            self.state = replace(self.state, silent=on)
            return
        kinds = {"super": "^", "sub": "_", "strike": "~"}
        self.state = replace(self.state, kind=kinds.get(word, "") if on else "")

    def _enter(self, word: str) -> None:
        if word == "footnote":
            self.note_count += 1
            # Where the text has a mark of its own (\chftn), it is no character of the text.
            self.pieces.setdefault(self.outer[-1].place if self.outer else "body", []).append(
                Piece(f"[{self.note_count}]")
            )
            word = f"note{self.note_count}"
        self.state = replace(self.state, place=word, kind="")

    def _layout(self, word: str) -> None:
        if self.state.silent:
            return
        if word == "intbl":
            self.in_table = True
        elif word == "pard":
            self.in_table, self.level = False, 0
        elif word in {"cell", "nestcell"}:
            self.row.append(line(self.pieces.pop(self.state.place, [])))
        elif word in {"row", "nestrow"}:
            self.rows.append(self.row)
            self.row = []
        else:
            self._end_paragraph()

    def _end_paragraph(self) -> None:
        if self.state.place != "body" or self.row or self.in_table:
            self._write(" ")
            return
        self._end_table()
        text = line(self.pieces.pop("body", [])).strip(" ")
        if text.strip():
            self.blocks.append(f"{'#' * self.level}{' ' * bool(self.level)}{text}\n\n")
        self.blocks += self.notes
        self.notes = []

    def _end_table(self) -> None:
        if self.rows:
            self.blocks.append(f"{markdown.table(self.rows, header=True)}\n")
            self.rows = []

    def _setting(self, word: str, argument: int) -> None:
        if word == "ansicpg":
            self.code_page = _known(f"cp{argument}")
        elif word == "uc":
            self.state = replace(self.state, skip=argument)
        elif word == "f":
            self.font = argument
            self.state = replace(self.state, page=self.fonts.get(argument, ""))
        elif word == "fcharset" and self.font is not None and self.state.place == "fonts":
            self.fonts[self.font] = _CODE_PAGES.get(argument, "") if argument > 1 else ""
        elif word == "outlinelevel" and not self.state.silent:
            self.level = min(argument + 1, 6) if argument < 9 else 0

    def pages(self) -> Pages:
        self._decode()
        self.in_table = False
        self.state = _State()
        self._end_paragraph()
        self._end_table()
        text = "".join([*dict.fromkeys(self.margins), *self.blocks])
        # Characters beyond the first plane come as two halves.
        return Pages(
            [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")], list(self._notices())
        )

    def _notices(self) -> Iterator[str]:
        if self.pictures:
            plural = "s" * (self.pictures > 1)
            yield f"not read: {self.pictures} picture{plural}; what stands in them is not in the text"
        if self.margins:
            yield "its headers and footers stand once, at the beginning of the text"


def _known(code_page: str) -> str:
    try:
        "".encode(code_page)
    except LookupError:
        return "cp1252"
    return code_page
