"""What every reader of a document format is: a file's bytes → the text of its pages.

Every reader favours the words over the layout: a character that is lost or wrong is compiled into the soft
prompt without a trace. None of them needs a download.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar


class UnreadableError(Exception):
    """Why a file cannot be read, without its name: the caller knows the path that the user will recognise."""


class UnknownFormatError(UnreadableError):
    """The file is of no format that can be read.

    Parameters
    ----------
    reason, remedy
        What is known of it, and what to do.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True)
class Pages:
    """What a reader found in a file.

    Attributes
    ----------
    texts
        The text of every page; formats without pages have one.
    notices
        What a user must know of how the file was read, each a sentence without the file's name.
    """

    texts: list[str]
    notices: list[str] = field(default_factory=list)


class Reader(ABC):
    """Reads one format.

    Attributes
    ----------
    name
        The format, as messages name it.
    suffixes
        Those of its files, in small letters, with the dot.
    magic
        How its files begin, where that decides whatever the suffix is; empty where it does not.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    magic: ClassVar[bytes] = b""

    @abstractmethod
    def pages(self, data: bytes) -> list[str]:
        """Give the text of every page; formats without pages have one.

        Raises
        ------
        UnreadableError
            The file is damaged, locked, scanned or binary, or in an unknown encoding.
        """

    def read(self, data: bytes) -> Pages:
        """Give the text of every page, and what the user must know of how it was read.

        Raises
        ------
        UnreadableError
            As `pages` says.
        """
        return Pages(self.pages(data))
