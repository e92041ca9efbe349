"""How a compile tells what it is doing. The library is silent by default; the command line draws bars."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from precis.compilation.break_even import BreakEven


class Progress:
    """Hears of every stage; does nothing. Subclass it to show something."""

    def stage(self, name: str, total: int | None) -> None:
        """Start a stage of `total` units of work; None where the time decides how many."""

    def advance(self, units: int) -> None:
        """Report that some units of the current stage are done."""

    def recovery(self, value: float | None) -> None:
        """Report the best held-out recovery so far."""

    def note(self, text: str) -> None:
        """Say something that the user should know, in a sentence."""

    def break_even(self, found: BreakEven) -> None:
        """Report after how many questions the compile has paid for itself."""


@dataclass
class StageTime:
    """What one stage took: its name, seconds, and units of work done."""

    name: str
    seconds: float = 0.0
    units: int = 0


class Stopwatch(Progress):
    """Notes what each stage takes, and passes everything on.

    Parameters
    ----------
    listener
        Who else hears of it.
    """

    def __init__(self, listener: Progress | None = None) -> None:
        self.listener = listener or Progress()
        self._stages: dict[str, StageTime] = {}
        self._now: StageTime | None = None
        self._since = 0.0

    @property
    def stages(self) -> list[StageTime]:
        """All stages so far, in the order in which they first began."""
        return list(self._stages.values())

    def stage(self, name: str, total: int | None) -> None:
        """End the stage before, and start this one; one that comes back is counted on."""
        self.end()
        self._now = self._stages.setdefault(name, StageTime(name))
        self._since = time.perf_counter()
        self.listener.stage(name, total)

    def advance(self, units: int) -> None:
        """Count units of the current stage."""
        if self._now is not None:
            self._now.units += units
        self.listener.advance(units)

    def end(self) -> None:
        """End the last stage."""
        if self._now is not None:
            self._now.seconds += time.perf_counter() - self._since
        self._now = None

    def recovery(self, value: float | None) -> None:
        """Pass it on."""
        self.listener.recovery(value)

    def note(self, text: str) -> None:
        """Pass it on."""
        self.listener.note(text)

    def break_even(self, found: BreakEven) -> None:
        """Pass it on."""
        self.listener.break_even(found)
