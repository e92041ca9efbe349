"""`mix`: the two others, weighed."""

from __future__ import annotations

from torch import Tensor

from precis.compilation.objectives import kl, nll
from precis.compilation.objectives.objective import Objective
from precis.errors import SettingsError


class Mix(Objective):
    """`weight` · kl + (1 − `weight`) · nll.

    Parameters
    ----------
    weight
        Half by default.

    Raises
    ------
    SettingsError
        The weight is not within 0 and 1.
    """

    name = "mix"

    def __init__(self, weight: float | None = None) -> None:
        weight = 0.5 if weight is None else weight
        if not 0 <= weight <= 1:
            raise SettingsError(f"The weight of kl in mix is {weight}; it must lie between 0 and 1.")
        self.weight = weight

    def loss(self, student_gold: Tensor, student_top: Tensor, teacher_top: Tensor) -> Tensor:
        """Give the weighed sum; what has no weight is not computed."""
        loss = student_gold.new_zeros(())
        if self.weight < 1:
            loss = loss + (1 - self.weight) * nll.of_gold(student_gold)
        if self.weight > 0:
            loss = loss + self.weight * kl.of_top(student_top, teacher_top)
        return loss
