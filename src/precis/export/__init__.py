"""σ in other tools' formats, one file a format."""

from __future__ import annotations

from precis.errors import SettingsError
from precis.export.peft import Peft
from precis.export.target import Target
from precis.export.transformers_cache import TransformersCache

__all__ = ["TARGETS", "Target", "target_named"]

TARGETS: dict[str, Target] = {target.name: target for target in (TransformersCache(), Peft())}


def target_named(name: str) -> Target:
    """Give a format.

    Raises
    ------
    SettingsError
        There is none of that name.
    """
    if name not in TARGETS:
        raise SettingsError(f"There is no format '{name}' to export to. Choose one of {', '.join(TARGETS)}.")
    return TARGETS[name]
