"""From tokens to text that can be sent: whole characters, and never a part of a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from precis.serve.engine.engine import Chosen

_HALF = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Placed:
    """A token, and the character of the text that it begins at."""

    chosen: Chosen
    start: int


class TextStream:
    """The text of one answer as it comes.

    What was given out stays as it is. So a character is held back until all of its tokens are there, a
    blank until something follows it, and what may be the beginning of a stop string until it is known
    to be something else. All that was given out, together, is the answer.

    Parameters
    ----------
    tokenizer
        Used by nothing else at the same time.
    stops
        Strings that end the answer, and are not sent.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._tokens: list[int] = []
        self._window, self._read = 0, 0
        self._placed: list[Placed] = []
        self._text = ""
        self._sent = 0
        self._sent_tokens = 0
        self.ended = False
        self.stopped = False

    @property
    def text(self) -> str:
        """All of the text so far, given out or not."""
        return self._text

    def add(self, chosen: Chosen) -> bool:
        """Take in a token; whether a stop string has ended the answer."""
        if self.ended:
            return True
        self._placed.append(Placed(chosen, len(self._text)))
        if not chosen.ends:
            self._tokens.append(chosen.token)
            self._append(self._new_characters())
        return self.ended

    def finish(self) -> None:
        """Let go of what was held back, where no stop string has ended the answer."""
        if not self.ended:
            before = self._decode(self._tokens[self._window : self._read])
            self._append(self._decode(self._tokens[self._window :])[len(before) :])
        if not self.ended:
            self._text = self._text.rstrip()
            self.ended = True

    def take(self) -> tuple[str, list[Placed]]:
        """Give what can be given out, and was not yet."""
        safe = len(self._text) if self.ended else self._safe()
        piece, self._sent = self._text[self._sent : safe], max(self._sent, safe)
        first = self._sent_tokens
        while self._sent_tokens < len(self._placed) and self._placed[self._sent_tokens].start < self._sent:
            self._sent_tokens += 1
        return piece, self._placed[first : self._sent_tokens]

    def _new_characters(self) -> str:
        """Decode the newest tokens after those before them, as some tokenizers need."""
        before = self._decode(self._tokens[self._window : self._read])
        now = self._decode(self._tokens[self._window :])
        if len(now) <= len(before) or now.endswith(_HALF):
            return ""
        self._window, self._read = self._read, len(self._tokens)
        return now[len(before) :]

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    def _append(self, new: str) -> None:
        """Add to the text, without blanks at its beginning, and look for stop strings."""
        searched = len(self._text)
        self._text = self._text + new if self._text else new.lstrip()
        if not new:
            return
        found = [
            place
            for stop in self._stops
            if (place := self._text.find(stop, max(0, searched - len(stop) + 1))) >= 0
        ]
        if found:
            self._text = self._text[: min(found)].rstrip()
            self.ended = self.stopped = True

    def _safe(self) -> int:
        """How many characters are sure to stay."""
        held = max((_overlap(self._text, stop) for stop in self._stops), default=0)
        return len(self._text[: len(self._text) - held].rstrip())


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text may begin a stop string."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


def token_bytes(tokenizer: Any, token: int) -> list[int]:
    """Give the bytes of a token, which may be a part of a character."""
    text: str = tokenizer.decode([token])
    if _HALF not in text:
        return list(text.encode())
    piece: str = tokenizer.convert_ids_to_tokens(token)
    if piece.startswith("<0x") and piece.endswith(">"):
        return [int(piece[3:-1], 16)]
    if all(character in _BYTE_OF for character in piece):
        return [_BYTE_OF[character] for character in piece]
    return list(text.encode())


def _byte_alphabet() -> dict[str, int]:
    """Which byte a character of a byte-level vocabulary stands for (as in GPT-2's)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


_BYTE_OF = _byte_alphabet()
