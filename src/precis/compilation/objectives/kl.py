"""`kl`: the teacher's whole next-token distribution, its uncertainty and its ranking of the alternatives."""

from __future__ import annotations

import torch
from torch import Tensor

from precis.compilation.objectives.objective import Objective


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
    return of_top(student.gather(1, top_ids), top_log_probabilities)


def of_top(student_top: Tensor, teacher_top: Tensor) -> Tensor:
    """Give the same from the log-probabilities of the k tokens alone."""
    inside = (teacher_top.exp() * (teacher_top - student_top)).sum(1)
    teacher_rest = 1 - teacher_top.exp().sum(1)
    student_rest = 1 - student_top.exp().sum(1)
    tiny = torch.finfo(student_top.dtype).eps
    teacher_rest, student_rest = teacher_rest.clamp(min=tiny), student_rest.clamp(min=tiny)
    return (inside + teacher_rest * (teacher_rest / student_rest).log()).mean()


class KL(Objective):
    """Distillation: the student predicts what the teacher predicts."""

    name = "kl"
    weight = 1.0

    def loss(self, student_gold: Tensor, student_top: Tensor, teacher_top: Tensor) -> Tensor:
        """Give the mean divergence from the teacher."""
        return of_top(student_top, teacher_top)
