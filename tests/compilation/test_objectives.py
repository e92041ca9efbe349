"""The objectives: where they are zero, what moves them, and what bounds them."""

import pytest
import torch

from precis.compilation.objectives import objective_named
from precis.compilation.objectives.kl import kl
from precis.compilation.objectives.nll import nll
from precis.errors import SettingsError

VOCABULARY = 50


def distributions(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(3 * torch.randn(7, VOCABULARY, generator=generator), -1)


def top(log_probabilities, k):
    found = log_probabilities.topk(k, dim=-1)
    return found.indices, found.values


def test_nll_is_the_mean_negative_log_probability_of_the_gold_tokens():
    student = distributions(0)
    gold = torch.arange(7)
    assert float(nll(student, gold)) == pytest.approx(-sum(float(student[n, n]) for n in range(7)) / 7)


@pytest.mark.parametrize("k", [1, 5, VOCABULARY])
def test_kl_of_a_distribution_to_itself_is_zero(k):
    teacher = distributions(1)
    assert float(kl(teacher, *top(teacher, k))) == pytest.approx(0, abs=1e-5)


def test_kl_over_the_whole_vocabulary_is_exact_and_fewer_tokens_bound_it_from_below():
    teacher, student = distributions(1), distributions(2)
    exact = float((teacher.exp() * (teacher - student)).sum(1).mean())
    bounds = [float(kl(student, *top(teacher, k))) for k in (1, 4, 16, VOCABULARY)]
    assert bounds[-1] == pytest.approx(exact, rel=1e-4)
    assert bounds == sorted(bounds)
    assert bounds[0] > 0


def test_kl_is_least_where_the_student_is_the_teacher_but_nll_wants_all_mass_on_the_gold():
    teacher = distributions(3)
    gold = teacher.argmax(1)
    logits = teacher.clone().requires_grad_()
    objective_named("kl")(logits, gold, *top(teacher, VOCABULARY)).backward()
    assert float(logits.grad.abs().max()) < 1e-6
    logits.grad = None
    objective_named("nll")(logits, gold, *top(teacher, VOCABULARY)).backward()
    assert bool((logits.grad.gather(1, gold.unsqueeze(1)) < 0).all())


def test_mix_weighs_the_two():
    teacher, student = distributions(1), distributions(2)
    gold = teacher.argmax(1)
    parts = [float(objective_named(name)(student, gold, *top(teacher, 8))) for name in ("nll", "kl")]
    mixed = float(objective_named("mix", 0.25)(student, gold, *top(teacher, 8)))
    assert mixed == pytest.approx(0.75 * parts[0] + 0.25 * parts[1], rel=1e-5)


@pytest.mark.parametrize(("name", "weight"), [("mse", None), ("mix", 1.5), ("mix", -0.1)])
def test_what_is_no_objective_is_refused(name, weight):
    with pytest.raises(SettingsError):
        objective_named(name, weight)
