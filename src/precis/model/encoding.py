"""Tokenising the parts of a prompt, each by itself, so that joined they are the whole prompt's tokens.

Two things stand in the way, and are seen to here. Tokenizers of the SentencePiece kind put a blank before
every text, which is a stray token in the middle of a prompt. And a tokenizer takes every added token as such,
wherever it stands: in a user's text it must be text, or a document could end a turn and speak as the user.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# What stands before a part while it is tokenised, so that the blank goes there, not before the part.
_ANCHORS = ("\n", "a", "]")
_BLANKS = frozenset(" \t\n\r\u2581\u0120\u010a")


def well_formed(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON and command lines can carry, and no tokenizer takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Encoding:
    """How one tokenizer turns the parts of a prompt into tokens.

    Parameters
    ----------
    tokenizer
        A Hugging Face tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        control = {index: token for index, token in added.items() if set(token.content) - _BLANKS}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self.control = frozenset(control) - {tokenizer.unk_token_id, _unknown(backend)}
        named = sorted((control[index].content for index in self.control), key=len, reverse=True)
        self._named = re.compile("|".join(map(re.escape, named))) if named else None
        self._prefixes = backend is not None and _puts_a_blank_before(backend)
        # the usual way cannot tell that these are text
        hidden = any(not control[index].special for index in self.control)
        self._bare: Any = _bare(backend) if backend is not None and (self._prefixes or hidden) else None

    def beginning(self, text: str) -> list[int]:
        """Tokenise what a prompt begins with, just as the tokenizer does it."""
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return tokens

    def part(self, text: str) -> list[int]:
        """Tokenise the template's own text after something else: its special tokens are such."""
        if not self._prefixes or not text:
            return self.beginning(text)
        for anchor in _ANCHORS:
            head, whole = self.beginning(anchor), self.beginning(anchor + text)
            if whole[: len(head)] == head:
                return whole[len(head) :]
        return self.beginning(text)

    def plain(self, text: str) -> list[int]:
        """Tokenise a user's text after something else: what looks like a special token is only text."""
        text = well_formed(text)
        tokens = self._whole(text)
        if self.control.isdisjoint(tokens):
            return tokens
        # a vocabulary can hold such a token as a word: it is made of two pieces, then
        pieces = (token for piece in self._broken(text) for token in self._whole(piece))
        return [token for token in pieces if token not in self.control]

    def _whole(self, text: str) -> list[int]:
        tokens: list[int]
        if self._bare is None:
            tokens = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        else:
            tokens = self._bare.encode(text, add_special_tokens=False).ids
        return tokens

    def _broken(self, text: str) -> Iterator[str]:
        """Cut a text within everything in it that is named like a control token."""
        start = 0
        for match in self._named.finditer(text) if self._named is not None else ():
            yield text[start : match.start() + 1]
            start = match.start() + 1
        yield text[start:]


def _unknown(backend: Any) -> int | None:
    """Give the token of unknown characters, which a user's text may well have."""
    name = getattr(backend.model, "unk_token", None) if backend is not None else None
    unknown: int | None = None if name is None else backend.token_to_id(name)
    return unknown


def _puts_a_blank_before(backend: Any) -> bool:
    """Whether a text gets a blank at its beginning that it does not have."""
    text = "a" if backend.normalizer is None else backend.normalizer.normalize_str("a")
    if backend.pre_tokenizer is not None:
        text = "".join(piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text))
    return text[:1] in _BLANKS


def _bare(backend: Any) -> Any:
    """Copy a tokenizer without blanks before texts, and of the added tokens with those of blanks only."""
    from tokenizers import Tokenizer

    settings = json.loads(backend.to_str())
    settings["added_tokens"] = [
        token
        for token in settings["added_tokens"]
        if not token["special"] and not set(token["content"]) - _BLANKS
    ]
    settings["normalizer"] = _without_blank(settings["normalizer"])
    settings["pre_tokenizer"] = _without_blank(settings["pre_tokenizer"])
    settings.update(truncation=None, padding=None, post_processor=None)
    return Tokenizer.from_str(json.dumps(settings))


def _without_blank(step: dict[str, Any] | None) -> dict[str, Any] | None:
    """Take out of a tokenizer's step what puts a blank before texts."""
    if step is None or step["type"] == "Prepend":
        return None
    for inner in ("normalizers", "pretokenizers"):
        if inner in step:
            kept = [_without_blank(each) for each in step[inner]]
            return {**step, inner: [each for each in kept if each is not None]}
    if step["type"] == "Metaspace":
        return {**step, "prepend_scheme": "never"}
    return {**step, "add_prefix_space": False} if "add_prefix_space" in step else step
