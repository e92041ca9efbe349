"""What σ is optimised for: pure functions of the student's log-probabilities.

`nll` makes the gold answer as probable as possible, even beyond what the teacher gave it.
`kl` matches the teacher's whole next-token distribution: its uncertainty, and its ranking of the
alternatives. `mix` weighs the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from precis.errors import SettingsError


def nll(student: Tensor, gold: Tensor) -> Tensor:
    """Mean negative log-likelihood of the gold tokens.

    Parameters
    ----------
    student
        Log-probabilities `[answer token, vocabulary]`.
    gold
        `[answer token]`, token ids.
    """
    return -student.gather(1, gold.unsqueeze(1)).mean()


def kl(student: Tensor, top_ids: Tensor, top_log_probabilities: Tensor) -> Tensor:
    """Mean KL(teacher ‖ student), from the teacher's k most likely tokens and one bucket for the rest.

    It never exceeds the KL over the whole vocabulary, and equals it where k is the vocabulary's size.

    Parameters
    ----------
    student
        Log-probabilities `[answer token, vocabulary]`.
    top_ids, top_log_probabilities
        `[answer token, k]`, of the teacher.
    """
    student_top = student.gather(1, top_ids)
    inside = (top_log_probabilities.exp() * (top_log_probabilities - student_top)).sum(1)
    teacher_rest = 1 - top_log_probabilities.exp().sum(1)
    student_rest = 1 - student_top.exp().sum(1)
    tiny = torch.finfo(student.dtype).eps
    teacher_rest, student_rest = teacher_rest.clamp(min=tiny), student_rest.clamp(min=tiny)
    return (inside + teacher_rest * (teacher_rest / student_rest).log()).mean()


@dataclass(frozen=True)
class Objective:
    """`weight` · kl + (1 − `weight`) · nll.

    Parameters
    ----------
    name
        `nll` (weight 0), `kl` (weight 1) or `mix` (weight as given, 0.5 by default).
    """

    name: str
    weight: float

    @classmethod
    def named(cls, name: str, weight: float | None = None) -> Objective:
        """Make one of the three.

        Raises
        ------
        SettingsError
            There is no objective of that name, or the weight is not within 0 and 1.
        """
        fixed = {"nll": 0.0, "kl": 1.0}
        if name in fixed:
            return cls(name, fixed[name])
        if name != "mix":
            raise SettingsError(f"There is no objective '{name}'. Choose nll, kl or mix.")
        weight = 0.5 if weight is None else weight
        if not 0 <= weight <= 1:
            raise SettingsError(f"The weight of kl in mix is {weight}; it must lie between 0 and 1.")
        return cls(name, weight)

    def __call__(
        self, logits: Tensor, gold: Tensor, top_ids: Tensor, top_log_probabilities: Tensor
    ) -> Tensor:
        """Give the loss of a batch from the student's logits `[answer token, vocabulary]`."""
        student = torch.log_softmax(logits, dim=-1)
        loss = logits.new_zeros(())
        if self.weight < 1:
            loss = loss + (1 - self.weight) * nll(student, gold)
        if self.weight > 0:
            loss = loss + self.weight * kl(student, top_ids, top_log_probabilities)
        return loss
