"""What σ is optimised for: pure functions of the student's log-probabilities.

`nll` makes the gold answer as probable as possible, even beyond what the teacher gave it.
`kl` matches the teacher's whole next-token distribution: its uncertainty, and its ranking of the
alternatives. `mix` weighs the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    return _nll(student.gather(1, gold.unsqueeze(1)))


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
    return _kl(student.gather(1, top_ids), top_log_probabilities)


def _nll(student_gold: Tensor) -> Tensor:
    return -student_gold.mean()


def _kl(student_top: Tensor, top_log_probabilities: Tensor) -> Tensor:
    inside = (top_log_probabilities.exp() * (top_log_probabilities - student_top)).sum(1)
    teacher_rest = 1 - top_log_probabilities.exp().sum(1)
    student_rest = 1 - student_top.exp().sum(1)
    tiny = torch.finfo(student_top.dtype).eps
    teacher_rest, student_rest = teacher_rest.clamp(min=tiny), student_rest.clamp(min=tiny)
    return (inside + teacher_rest * (teacher_rest / student_rest).log()).mean()


class _LogProbabilitiesAt(torch.autograd.Function):
    """Log-probabilities of a few tokens of every row, with their gradient in one pass over the vocabulary."""

    @staticmethod
    def forward(context: Any, logits: Tensor, ids: Tensor) -> Tensor:
        """Give `[row, k]` for logits `[row, vocabulary]` and token ids `[row, k]`."""
        norm = logits.logsumexp(-1, keepdim=True)
        context.save_for_backward(logits, ids, norm)
        return logits.gather(1, ids) - norm

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Follow the chain rule back."""
        logits, ids, norm = context.saved_tensors
        (gradient,) = gradients
        by_logit = (logits - norm).exp_().mul_(-gradient.sum(-1, keepdim=True))
        return by_logit.scatter_add_(1, ids, gradient), None


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
        ids = torch.cat([gold.unsqueeze(1), top_ids], dim=1)
        student: Tensor = _LogProbabilitiesAt.apply(logits, ids)  # type: ignore[no-untyped-call]
        loss = logits.new_zeros(())
        if self.weight < 1:
            loss = loss + (1 - self.weight) * _nll(student[:, 0])
        if self.weight > 0:
            loss = loss + self.weight * _kl(student[:, 1:], top_log_probabilities)
        return loss
