"""What every objective is: a loss of the student's log-probabilities at the tokens that matter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor


class Objective(ABC):
    """What σ is optimised for.

    Attributes
    ----------
    name
        What a user chooses it by.
    weight
        The share of kl in it, as the manifest tells it.

    Parameters
    ----------
    weight
        What the user chose, if anything; an objective that always has the same takes no notice.
    """

    name: ClassVar[str]
    weight: float

    def __init__(self, weight: float | None = None) -> None:
        """Take what the user chose."""
        del weight

    @abstractmethod
    def loss(self, student_gold: Tensor, student_top: Tensor, teacher_top: Tensor) -> Tensor:
        """Give the mean loss a token.

        Parameters
        ----------
        student_gold
            `[answer token]`: the student's log-probabilities of the gold tokens.
        student_top, teacher_top
            `[answer token, k]`: the student's and the teacher's log-probabilities of the teacher's k most
            likely tokens.
        """

    def __call__(
        self, logits: Tensor, gold: Tensor, top_ids: Tensor, top_log_probabilities: Tensor
    ) -> Tensor:
        """Give the loss of a batch from the student's logits `[answer token, vocabulary]`."""
        ids = torch.cat([gold.unsqueeze(1), top_ids], dim=1)
        student: Tensor = _LogProbabilitiesAt.apply(logits, ids)  # type: ignore[no-untyped-call]
        return self.loss(student[:, 0], student[:, 1:], top_log_probabilities)


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
