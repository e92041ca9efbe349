"""Writing down what a σ is: its manifest."""

from __future__ import annotations

from importlib.metadata import version

import torch

from precis.artifact import Artifact
from precis.calibration import Calibration
from precis.compilation.asking import Asked
from precis.compilation.lessons import Lessons
from precis.compilation.plan import Plan
from precis.compilation.teacher import LONGEST_ANSWER
from precis.compilation.training import Trainer
from precis.manifest import (
    DataRecord,
    DocumentRecord,
    FidelityRecord,
    Manifest,
    ModelRecord,
    TrainingRecord,
)
from precis.model.language_model import LanguageModel


@torch.no_grad()
def seal(plan: Plan, data: DataRecord, trainer: Trainer, calibration: Calibration | None) -> Artifact:
    """Make an artifact of σ as it is now."""
    model, settings, soft_prompt = plan.model, plan.settings, trainer.soft_prompt
    document = plan.teacher.document
    manifest = Manifest(
        model=model_record(model),
        document=DocumentRecord(document.name, document.sha256, plan.teacher.tokens),
        form=settings.form,
        slots=plan.slots,
        ratio=plan.teacher.tokens / plan.slots,
        next_position=soft_prompt.prefix(model).next_position,
        objective=trainer.objective.name,
        objective_weight=trainer.objective.weight,
        warm_start=settings.warm_start,
        seed=settings.seed,
        data=data,
        training=_training_record(trainer),
        fidelity=_fidelity_record(trainer),
        versions={
            "precis": version("precis"),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "computed_in": str(model.dtype).removeprefix("torch."),
        },
        confidence=calibration,
    )
    artifact = Artifact(manifest, soft_prompt.tensors(model.dtype))
    return artifact.with_text(document) if plan.keep_text else artifact


def model_record(model: LanguageModel) -> ModelRecord:
    """Say which model it is."""
    return ModelRecord(
        name=model.name,
        type=model.network.config.model_type,
        digest=model.digest,
        tokenizer_digest=model.tokenizer_digest,
        layers=model.layers,
        kv_heads=model.kv_heads,
        head_dim=model.head_dim,
        hidden_size=model.hidden_size,
    )


def data_record(plan: Plan, asked: Asked, lessons: Lessons) -> DataRecord:
    """Say what σ is taught."""
    teacher, study, golds = plan.teacher, asked.study, lessons.taught.golds
    reads = "the whole document"
    if not teacher.reads_whole:
        reads = f"{len(teacher.readings)} overlapping parts of the document"
    return DataRecord(
        questions=len(golds),
        held_out=len(lessons.held_out.golds),
        own_questions=len(plan.questions),
        self_study_questions=len(study.questions),
        written_questions=study.written,
        sentences=study.sentences,
        sentences_covered=study.covered,
        dropped_questions=study.dropped,
        dropped_answers=lessons.taught.dropped,
        answer_tokens=sum(len(gold.tokens) for gold in golds),
        longest_answer=LONGEST_ANSWER,
        top_k=golds[0].top_ids.shape[1],
        top_k_mass=sum(gold.mass for gold in golds) / len(golds),
        teacher_reads=reads,
    )


def _training_record(trainer: Trainer) -> TrainingRecord:
    schedule, state = trainer.schedule, trainer.state
    return TrainingRecord(
        epochs=schedule.epochs,
        fewest_steps=schedule.fewest_steps,
        batch_size=schedule.batch_size,
        learning_rate=schedule.learning_rate,
        steps=state.step,
        best_step=state.best_step,
        held_out_nll=[(step, round(nll, 6)) for step, nll in state.history],
    )


def _fidelity_record(trainer: Trainer) -> FidelityRecord:
    held_out, best = trainer.held_out, trainer.state.best_nll
    return FidelityRecord(
        recovery=held_out.recovery(best), nll_none=held_out.nll_none, nll=best, nll_full=held_out.nll_full
    )
