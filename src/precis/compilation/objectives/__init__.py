"""The objectives: what σ is optimised for, one file each."""

from __future__ import annotations

from precis.compilation.objectives.kl import KL
from precis.compilation.objectives.mix import Mix
from precis.compilation.objectives.nll import NLL
from precis.compilation.objectives.objective import Objective
from precis.errors import SettingsError

__all__ = ["OBJECTIVES", "Objective", "objective_named"]

OBJECTIVES: dict[str, type[Objective]] = {objective.name: objective for objective in (NLL, KL, Mix)}


def objective_named(name: str, weight: float | None = None) -> Objective:
    """Make an objective; `weight` is that of kl where it can be chosen.

    Raises
    ------
    SettingsError
        There is no objective of that name, or it cannot have that weight.
    """
    if name not in OBJECTIVES:
        raise SettingsError(f"There is no objective '{name}'. Choose one of {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name](weight)
