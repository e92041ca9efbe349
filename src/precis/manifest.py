"""What an artifact says of itself: the header of a `.precis` file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from precis.calibration import Calibration

FORMAT = 2

_Record = TypeVar("_Record")


@dataclass(frozen=True)
class ModelRecord:
    """The model that σ was made for, by which it is known again.

    Parameters
    ----------
    name, type
        What the user called it; its architecture, as transformers names it.
    digest, tokenizer_digest
        Fingerprints of its weights, and of its vocabulary and chat template.
    layers, kv_heads, head_dim, hidden_size
        Its shape.
    """

    name: str
    type: str
    digest: str
    tokenizer_digest: str
    layers: int
    kv_heads: int
    head_dim: int
    hidden_size: int


@dataclass(frozen=True)
class DocumentRecord:
    """The document that σ stands for.

    Parameters
    ----------
    name, sha256
        Its name, and the digest of its text.
    tokens
        Its length for this model.
    pages
        Where the text is kept: each [source, number, start, end], as in `document.Page`.
    """

    name: str
    sha256: str
    tokens: int
    pages: list[list[Any]] | None = None


@dataclass(frozen=True)
class DataRecord:
    """What σ was taught.

    Parameters
    ----------
    questions, held_out
        How many it was trained on and measured by.
    own_questions, self_study_questions, written_questions
        How many came from the user; how many of the model's own were good, of how many that it wrote.
    sentences, sentences_covered
        Of the document; and those that a good question asks about.
    dropped_questions, dropped_answers
        How many were no good.
    answer_tokens, longest_answer
        Of all gold answers together, and the bound of each.
    top_k, top_k_mass
        How many of the teacher's likeliest tokens are kept at a position, and their share of the probability.
    teacher_reads
        What the teacher had before it.
    """

    questions: int
    held_out: int
    own_questions: int
    self_study_questions: int
    written_questions: int
    sentences: int
    sentences_covered: int
    dropped_questions: int
    dropped_answers: int
    answer_tokens: int
    longest_answer: int
    top_k: int
    top_k_mass: float
    teacher_reads: str


@dataclass(frozen=True)
class TrainingRecord:
    """How the training went.

    Parameters
    ----------
    epochs, fewest_steps, batch_size, learning_rate
        Its schedule; see `training.Schedule`.
    steps, best_step
        How many steps were taken, and after which of them σ is from.
    held_out_nll
        The curve: [step, negative log-likelihood a token of the held-out answers].
    """

    epochs: int
    fewest_steps: int
    batch_size: int
    learning_rate: float
    steps: int
    best_step: int
    held_out_nll: list[list[float]]


@dataclass(frozen=True)
class FidelityRecord:
    """How near σ comes to the full document on the held-out questions.

    Parameters
    ----------
    recovery
        Of what the document adds to the probability of its own answers, the part kept; None where it adds
        nothing.
    nll_none, nll, nll_full
        Negative log-likelihood a token with no document, σ, the full document.
    """

    recovery: float | None
    nll_none: float
    nll: float
    nll_full: float


@dataclass(frozen=True)
class Manifest:
    """What an artifact is. No times and no paths: the same compile gives the same bytes.

    Parameters
    ----------
    model, document
        What σ was made for, and what of.
    form, slots, ratio, next_position
        σ: `kv` or `embedding`; its slots (a head, on average), and the document's tokens for each of
        them; where the first token after it stands.
    objective, objective_weight, warm_start, seed
        How it was made.
    data, training, fidelity
        What it was taught, how that went, and how good it is; None where the general σ stands in for one
        that is still to be compiled.
    versions
        Of precis, torch and transformers, and the floating-point type computed in.
    confidence
        What gives an answer from σ its confidence; None where there was no time for it.
    """

    model: ModelRecord
    document: DocumentRecord
    form: str
    slots: int
    ratio: float
    next_position: int
    objective: str
    objective_weight: float
    warm_start: str
    seed: int
    data: DataRecord | None = None
    training: TrainingRecord | None = None
    fidelity: FidelityRecord | None = None
    versions: dict[str, str] = field(default_factory=dict)
    confidence: Calibration | None = None
    format: int = FORMAT

    @property
    def recovery(self) -> float | None:
        """That of σ on the held-out questions, if it was measured."""
        return None if self.fidelity is None else self.fidelity.recovery

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        confidence = None if self.confidence is None else self.confidence.to_json()
        return {**asdict(self), "confidence": confidence}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Manifest:
        """Read plain values; what this version does not know is left out."""
        records: dict[str, Any] = {
            "model": _record(ModelRecord, values["model"]),
            "document": _record(DocumentRecord, values["document"]),
            "data": _record(DataRecord, values.get("data")),
            "training": _record(TrainingRecord, values.get("training")),
            "fidelity": _record(FidelityRecord, values.get("fidelity")),
            "confidence": None,
        }
        if (confidence := values.get("confidence")) is not None:
            records["confidence"] = Calibration.from_json(confidence)
        known = {item.name for item in fields(cls)} & values.keys()
        return cls(**{name: values[name] for name in known} | records)


def _record(kind: type[_Record], values: dict[str, Any] | None) -> _Record | None:
    """Read one record; None where it is not there or, in a file of an earlier version, not whole."""
    names = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    if values is None:
        return None
    try:
        return kind(**{name: values[name] for name in names if name in values})
    except TypeError:
        return None
