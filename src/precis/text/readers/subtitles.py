"""Subtitles (SRT, WebVTT): what is said, without time codes."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from precis.text.readers.plain import decode
from precis.text.readers.reader import Reader

_TIME = re.compile(r"\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{3}\s*-->\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{3}")
_NOT_SAID = re.compile(r"(?:WEBVTT|NOTE|STYLE|REGION)\b")
_VOICE = re.compile(r"<v(?:\.[^ >]*)?\s+([^>]+)>")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^}]*\}")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*$")


class Subtitles(Reader):
    """One line a sentence or a speaker; lines that are shown again while the next rolls in stand once."""

    name = "SRT or VTT"
    suffixes = (".srt", ".vtt")

    def pages(self, data: bytes) -> list[str]:
        """Give the whole text as one page."""
        return ["\n".join(_sentences(_lines(decode(data))))]


def _lines(text: str) -> Iterator[str]:
    """Give the lines that are said; a line is what follows a time code up to an empty line."""
    last = ""
    for block in re.split(r"\n[ \t]*\n", re.sub(r"\r\n?", "\n", text.lstrip("\ufeff"))):
        lines = block.strip("\n").split("\n")
        start = next((place for place, line in enumerate(lines) if _TIME.match(line)), None)
        if start is None and (_NOT_SAID.match(lines[0]) or not block.strip()):
            continue
        for line in lines if start is None else lines[start + 1 :]:
            said = html.unescape(_TAG.sub("", _VOICE.sub(r"\1: ", line))).strip()
            if said and said != last:
                yield said
            last = said or last


def _sentences(lines: Iterator[str]) -> Iterator[str]:
    """Join lines up to the end of a sentence; a new speaker begins a new line."""
    sentence = ""
    for line in lines:
        if sentence and (line.startswith(("-", "–", "♪")) or re.match(r"[^\W\d_][\w .]{0,30}: ", line)):
            yield sentence
            sentence = ""
        sentence = f"{sentence} {line}" if sentence else line
        if _SENTENCE_END.search(line):
            yield sentence
            sentence = ""
    if sentence:
        yield sentence
