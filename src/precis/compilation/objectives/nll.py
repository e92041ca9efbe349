"""`nll`: the gold answer as probable as possible, even beyond what the teacher gave it."""

from __future__ import annotations

from torch import Tensor

from precis.compilation.objectives.objective import Objective


def nll(student: Tensor, gold: Tensor) -> Tensor:
    """Mean negative log-likelihood of the gold tokens.

    Parameters
    ----------
    student
        Log-probabilities `[answer token, vocabulary]`.
    gold
        `[answer token]`, token ids.
    """
    return of_gold(student.gather(1, gold.unsqueeze(1)))


def of_gold(student_gold: Tensor) -> Tensor:
    """Give the same from the log-probabilities of the gold tokens alone."""
    return -student_gold.mean()


class NLL(Objective):
    """Maximum likelihood of the gold answers."""

    name = "nll"
    weight = 0.0

    def loss(self, student_gold: Tensor, student_top: Tensor, teacher_top: Tensor) -> Tensor:
        """Give the mean negative log-likelihood of the gold tokens."""
        return of_gold(student_gold)
