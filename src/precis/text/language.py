"""What depends on a text's language: where its sentences end, and which of its words are the same.

The language is recognised, never asked for. Where it is not one of those that are known, words are taken as
they stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property

import Stemmer
from kreuzberg import ExtractionConfig, LanguageDetectionConfig, extract_bytes_sync
from sentencex import segment

from precis.text.bm25 import stopwords

# What is recognised (ISO 639-3), as sentencex (ISO 639-1) and Snowball's stemmers name it.
_KNOWN = {
    "ara": ("ar", "arabic"),
    "cat": ("ca", "catalan"),
    "dan": ("da", "danish"),
    "deu": ("de", "german"),
    "ell": ("el", "greek"),
    "eng": ("en", "english"),
    "est": ("et", "estonian"),
    "fin": ("fi", "finnish"),
    "fra": ("fr", "french"),
    "hin": ("hi", "hindi"),
    "hun": ("hu", "hungarian"),
    "hye": ("hy", "armenian"),
    "ind": ("id", "indonesian"),
    "ita": ("it", "italian"),
    "jpn": ("ja", ""),
    "lit": ("lt", "lithuanian"),
    "nep": ("ne", "nepali"),
    "nld": ("nl", "dutch"),
    "nob": ("no", "norwegian"),
    "por": ("pt", "portuguese"),
    "ron": ("ro", "romanian"),
    "rus": ("ru", "russian"),
    "spa": ("es", "spanish"),
    "srp": ("sr", "serbian"),
    "swe": ("sv", "swedish"),
    "tam": ("ta", "tamil"),
    "tur": ("tr", "turkish"),
    "yid": ("yi", "yiddish"),
}
_UNKNOWN = ("en", "")
# Enough to recognise a language by, from the beginning of a text.
_SAMPLE = 20_000
# Scripts that write words without blanks between them: Thai, Lao, Burmese, Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_RUN = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}])\w)+")
# A line of so many characters may have been broken for want of room.
_WRAPPED_FROM = 40
_LINE_STOP = re.compile(r"[.!?:;。！？：；]['\"”’)\]]*\s*$")
_ITEM = re.compile(r"\s*(?:[-*+•·–|#>]|\(?\w{1,3}[.)]\s)")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")


class Language:
    """A language, as far as reading needs it.

    Parameters
    ----------
    code
        ISO 639-3, such as `eng`; anything unknown stands for a language of which nothing is known.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        self._sentences, stemmer = _KNOWN.get(code, _UNKNOWN)
        self._name = stemmer
        self._stem: Callable[[list[str]], list[str]] = (
            Stemmer.Stemmer(stemmer).stemWords if stemmer else lambda words: words
        )

    @classmethod
    def of(cls, text: str) -> Language:
        """Recognise the language that most of a text is in."""
        config = ExtractionConfig(language_detection=LanguageDetectionConfig(enabled=True))
        found = extract_bytes_sync(text[:_SAMPLE].encode(), "text/plain", config=config).detected_languages
        return cls(found[0] if found else "")

    def words(self, text: str) -> list[str]:
        """Give the words of a text by their stems, in lower case.

        Scripts without blanks between words give pairs of characters.
        No word is left out as too common: the commonest weigh little by themselves, and in a question as
        short as "Who was it?" they are all there is.
        """
        found: list[str] = []
        for run in _RUN.findall(text.lower()):
            if len(run) > 1 and _IS_UNSPACED.match(run):
                found += [run[place : place + 2] for place in range(len(run) - 1)]
            else:
                found.append(run)
        return self._stem(found)

    @cached_property
    def common(self) -> frozenset[str]:
        """Words that say nothing by themselves ("the", "who"), as `words` gives them; none where unknown."""
        name = "EN_PLUS" if self._name == "english" else self._name.upper()
        known: tuple[str, ...] = getattr(stopwords, f"STOPWORDS_{name}", ())
        return frozenset(word for text in known for word in self.words(text))

    def sentences(self, text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Give where the sentences of a paragraph lie, blanks around them left out."""
        for first, last in _blocks(text, start, end):
            place = first
            for sentence in segment(self._sentences, text[first:last].replace("\n", " ")):
                if words := sentence.strip():
                    begin = place + sentence.index(words[0])
                    yield begin, begin + len(words)
                place += len(sentence)


def _blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a paragraph at the line breaks that mean something: around list items, table rows, short lines.

    A long line that ends like no sentence was only wrapped, as all lines of a PDF are.
    """
    first = start
    for line_end in re.finditer(r"\n", text[start:end]):
        place = start + line_end.start()
        line = text[max(first, text.rfind("\n", start, place) + 1) : place]
        wrapped = len(line) >= _WRAPPED_FROM and not _LINE_STOP.search(line) and "|" not in line
        if not wrapped or _ITEM.match(text, place + 1):
            if place > first:
                yield first, place
            first = place + 1
    if end > first:
        yield first, end
