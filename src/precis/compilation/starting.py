"""The third stage: σ₀, from what the teacher read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from precis.compilation.plan import Plan
from precis.compilation.stages import Stage
from precis.compilation.teacher import Taught, Teacher
from precis.compilation.warm_start import Material, Read, warm_start_named
from precis.compilation.warm_start.scoring import SCORED_EXAMPLES, slot_scores
from precis.model.prefix import Prefix
from precis.model.soft_prompt import EmbeddingPrompt, KeyValuePrompt, SoftPrompt
from precis.storage import key_of


@dataclass(frozen=True)
class Start:
    """σ₀.

    Parameters
    ----------
    soft_prompt
        It.
    reused
        Whether an earlier run had made it, or the scores that it was chosen by.
    """

    soft_prompt: SoftPrompt
    reused: bool


def start(plan: Plan, taught: Taught) -> Start:
    """Make σ₀, or find the one that an earlier run made."""
    embedding = plan.settings.form == EmbeddingPrompt.form
    found = _embedding_start(plan, taught) if embedding else _key_value_start(plan, taught)
    if plan.forgets:
        plan.teacher.forget()
    return found


def _embedding_start(plan: Plan, taught: Taught) -> Start:
    material, reused = _material(plan, taught)
    made = warm_start_named(plan.settings.warm_start).embeddings(material)
    return Start(EmbeddingPrompt(made), reused)


def _key_value_start(plan: Plan, taught: Taught) -> Start:
    settings = plan.settings
    key = key_of(settings.warm_start, settings.bias, plan.slots, settings.seed, _data_key(plan, taught))
    kept = plan.work.read_tensors(f"start-{key}")
    if kept is not None:
        earlier = Prefix.unpacked(*kept).to(plan.model.device, plan.model.dtype)
        return Start(KeyValuePrompt(earlier), reused=True)
    material, reused = _material(plan, taught)
    plan.progress.stage(Stage.FITTING, 1)
    made = warm_start_named(settings.warm_start).key_values(material)
    plan.progress.advance(1)
    packed = {name: tensor.cpu().contiguous() for name, tensor in made.packed().items()}
    plan.work.write_tensors(f"start-{key}", packed, made.next_position)
    return Start(KeyValuePrompt(made), reused)


def _material(plan: Plan, taught: Taught) -> tuple[Material, bool]:
    """Gather what σ₀ is made of; and whether its scores were there already."""
    settings, reads = plan.settings, _reads(plan.teacher, taught)
    scores, reused = _scores(plan, reads, f"scores-{_data_key(plan, taught)}")
    embeddings = _embeddings(plan.teacher, reads) if settings.form == EmbeddingPrompt.form else None
    material = Material(plan.model, reads, scores, plan.slots, settings.seed, settings.bias, embeddings)
    return material, reused


def _scores(plan: Plan, reads: Sequence[Read], name: str) -> tuple[Tensor, bool]:
    """Score the document's slots; they are the same for every number of slots."""
    if not warm_start_named(plan.settings.warm_start).needs_scores:
        return torch.empty(0), False
    kept = plan.work.read_tensors(name)
    if kept is not None:
        return kept[0]["scores"].to(plan.model.device), True
    plan.progress.stage(Stage.SCORING, sum(min(SCORED_EXAMPLES, len(read.examples)) for read in reads))
    scores = slot_scores(plan.model, reads, lambda: plan.is_over(Stage.SCORING), plan.progress.advance)
    plan.work.write_tensors(name, {"scores": scores.cpu().contiguous()})
    return scores, False


def _reads(teacher: Teacher, taught: Taught) -> list[Read]:
    """Gather what the teacher read, with what was asked of each reading."""
    asked = teacher.assign([gold.question for gold in taught.golds])
    reads = []
    for place in range(len(teacher.readings)):
        prefix = teacher.prefix(place)
        examples = [taught.golds[number].example for number in asked.get(place, [])]
        own = _new_in_reading(teacher, place, prefix.slots).to(teacher.model.device)
        reads.append(Read(prefix, own, examples))
    return reads


def _embeddings(teacher: Teacher, reads: Sequence[Read]) -> Tensor:
    """Input embeddings of all that the teacher read, `[token, hidden]`."""
    model = teacher.model
    tokens = [model.chat.document_prompt(reading.text) for reading in teacher.readings]
    return torch.cat([model.embed(part)[read.own] for part, read in zip(tokens, reads, strict=True)])


def _new_in_reading(teacher: Teacher, place: int, tokens: int) -> Tensor:
    """Say which tokens of a reading no other one has: what stands around the document counts once."""
    chat = teacher.model.chat
    first = 0 if place == 0 else len(chat.before)
    last = tokens if place == len(teacher.readings) - 1 else tokens - len(chat.between)
    return torch.arange(first, last)


def _data_key(plan: Plan, taught: Taught) -> str:
    """Name the questions and answers that σ₀ is made by."""
    return key_of([(gold.prompt, gold.tokens) for gold in taught.golds], plan.taught_by)
