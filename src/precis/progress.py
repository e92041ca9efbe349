"""How a compile tells what it is doing. The library is silent by default; the command line draws bars."""

from __future__ import annotations


class Progress:
    """Hears of every stage; does nothing. Subclass it to show something."""

    def stage(self, name: str, total: int) -> None:
        """Start a stage of `total` units of work."""

    def advance(self, units: int) -> None:
        """Report that some units of the current stage are done."""

    def recovery(self, value: float | None) -> None:
        """Report the best held-out recovery so far."""

    def note(self, text: str) -> None:
        """Say something that the user should know, in a sentence."""
