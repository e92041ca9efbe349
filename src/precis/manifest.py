"""What an artifact says of itself: the header of a `.precis` file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt
from pydantic import ConfigDict, TypeAdapter, ValidationError

from precis.calibration import Calibration
from precis.errors import ArtifactError

FORMAT = 2

Count = Annotated[int, Ge(0)]
# Of a page: its source, number, and the places in the text where it starts and ends.
PageRecord = tuple[str, int, Count, Count]
Positive = Annotated[int, Gt(0)]
_Class = TypeVar("_Class")


def _checked(record: type[_Class]) -> type[_Class]:
    """Let a record be read from a file of a stranger's: nothing is converted, and numbers are finite."""
    record.__pydantic_config__ = ConfigDict(strict=True, allow_inf_nan=False)  # type: ignore[attr-defined]
    return record


@_checked
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
    layers: Positive
    kv_heads: Positive
    head_dim: Positive
    hidden_size: Positive


@_checked
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
    tokens: Count
    pages: list[PageRecord] | None = None


@_checked
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

    questions: Count
    held_out: Count
    own_questions: Count
    self_study_questions: Count
    written_questions: Count
    sentences: Count
    sentences_covered: Count
    dropped_questions: Count
    dropped_answers: Count
    answer_tokens: Count
    longest_answer: Count
    top_k: Count
    top_k_mass: float
    teacher_reads: str


@_checked
@dataclass(frozen=True)
class TrainingRecord:
    """How the training went.

    Parameters
    ----------
    epochs, fewest_steps, batch_size, learning_rate
        Its schedule; see `training.Schedule`. Files of earlier versions do not tell the batch size.
    steps, best_step
        How many steps were taken, and after which of them σ is from.
    held_out_nll
        The curve: (step, negative log-likelihood a token of the held-out answers).
    """

    epochs: Count
    fewest_steps: Count
    learning_rate: float
    steps: Count
    best_step: Count
    held_out_nll: list[tuple[Count, float]]
    batch_size: Count = 0


@_checked
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


@_checked
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
    slots: Positive
    ratio: float
    next_position: Count
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
        """Read plain values; what this version does not know is left out.

        Raises
        ------
        ArtifactError
            Something is missing, of the wrong kind, or out of its range.
        """
        confidence = values.get("confidence")
        # files of earlier versions have records without content where nothing is known
        empty = [name for name, telling in _TELLING.items() if telling not in (values.get(name) or {})]
        plain = {**values, **dict.fromkeys(empty), "confidence": None}
        try:
            manifest: Manifest = _reader().validate_json(json.dumps(plain))
            return replace(manifest, confidence=_calibration(confidence))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ArtifactError(f"The manifest is wrong at {place}: {first['msg'].lower()}.") from error


# A field that every record with content has.
_TELLING = {"data": "questions", "training": "steps", "fidelity": "nll"}


def _calibration(values: Any) -> Calibration | None:
    try:
        return None if values is None else Calibration.from_json(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"The manifest is wrong at confidence: {error!r}.") from error


@cache
def _reader() -> TypeAdapter[Any]:
    return TypeAdapter(Manifest)
