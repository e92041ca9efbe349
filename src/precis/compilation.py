"""Compiling a document into σ, stage by stage: ask, teach, warm start, train, seal."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from precis import questions as asking
from precis.artifact import Artifact, Manifest
from precis.break_even import BreakEven, Pace, measure_pace
from precis.confidence import Calibration, agrees
from precis.document import Document
from precis.errors import QuestionsError, SettingsError
from precis.general import as_gold, other_questions, reading_lessons
from precis.gold import LONGEST_ANSWER, Gold, Taught, Teacher, teach
from precis.language_model import Conditioned, LanguageModel
from precis.model_source import cache_folder, load_model
from precis.objective import Objective, nll
from precis.prefix import Prefix
from precis.progress import Progress
from precis.questions import Question
from precis.questions_file import UserQuestion
from precis.recall import NOTHING, RECALL, features_of, recall
from precis.soft_prompt import SINK, EmbeddingPrompt, KeyValuePrompt, SoftPrompt
from precis.training import Clock, HeldOut, Schedule, Trainer
from precis.warm_start import (
    SCORED_ROWS,
    SCORING_WARM_STARTS,
    WARM_STARTS,
    Read,
    embedding_start,
    key_value_start,
    slot_scores,
)
from precis.work_folder import WorkFolder, key_of

DEFAULT_RATIO = 20.0
DEFAULT_OBJECTIVE = "mix"
# Of the time that --minutes gives, the share that is left for calibrating confidence after training.
CALIBRATING = 0.05
# Of the rest: by when asking, and by when teaching must end.
ASKING_ENDS, TEACHING_ENDS, WARM_START_ENDS = 0.3, 0.5, 0.65
HELD_OUT_SHARE, FEWEST_HELD_OUT, MOST_HELD_OUT = 0.2, 4, 32
# With --minutes, at most so many questions a sentence are written.
MOST_ROUNDS = 120
# How many questions about other texts confidence is calibrated on, beside the held-out ones.
OTHER_QUESTIONS = 24
# How many reading lessons stand beside the document's own, at least; and how many are held out.
FEWEST_READING_LESSONS, HELD_OUT_READING_LESSONS = 128, 16


def with_passages(golds: Sequence[Gold]) -> list[Gold]:
    """Give answers after the passage that is recalled for their question; those for which none is, alone."""
    return [replace(gold, asking=gold.recalling) if gold.recalling else gold for gold in golds]


@dataclass(frozen=True)
class Settings:
    """How to compile. The defaults are what measured best (docs/method.md says on what).

    Parameters
    ----------
    slots
        Length of σ; None: as `ratio` says.
    ratio
        Document tokens for every slot; 20 by default.
    objective, objective_weight
        `nll`, `kl` or `mix`; for `mix`, the weight of kl.
    form
        `kv` or `embedding`.
    warm_start
        `attention-matching`, `attention`, `even`, `first` or `random`.
    bias
        Whether slots carry a bias and heads may hold different numbers of slots; without, σ fits formats
        that know neither, and recovers less.
    self_study
        How many questions the model writes, of which one in fifteen or so is worth teaching; None: by the
        document's length, or as many as there is time for where `minutes` says how much there is.
    pointed
        Whether the teacher, who has the whole document before it, is pointed to the sentence that a question
        was written about. Without, small models answer many questions wrongly (docs/experiments.md).
    minutes
        Most minutes that the whole compile may take; None: as many as the schedule needs. 0: as few as
        it takes without any training, from a few questions on each part of the document.
    seed
        Decides all draws.
    schedule
        See `training.Schedule`.
    """

    slots: int | None = None
    ratio: float = DEFAULT_RATIO
    objective: str = DEFAULT_OBJECTIVE
    objective_weight: float | None = None
    form: str = KeyValuePrompt.form
    warm_start: str = "attention-matching"
    bias: bool = True
    self_study: int | None = None
    pointed: bool = True
    minutes: float | None = None
    seed: int = 0
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def training_free(self) -> bool:
        """Whether σ₀ is all that is wanted."""
        return self.minutes == 0

    def check(self) -> None:
        """Refuse what cannot work, before any time is spent.

        Raises
        ------
        SettingsError
            A value is out of its range.
        """
        Objective.named(self.objective, self.objective_weight)
        if self.slots is not None and self.slots <= SINK:
            raise SettingsError(
                f"σ cannot have {self.slots} slots; give {SINK + 1} or more: the first is kept as it is."
            )
        if not 0 <= self.seed < 2**31:
            raise SettingsError(f"The seed is {self.seed}; it must lie between 0 and {2**31 - 1}.")
        if not self.ratio >= 1:
            raise SettingsError(f"The ratio is {self.ratio}; it must be 1 or more document tokens a slot.")
        if self.form not in (KeyValuePrompt.form, EmbeddingPrompt.form):
            raise SettingsError(f"There is no form '{self.form}'. Choose kv or embedding.")
        if self.warm_start not in WARM_STARTS:
            raise SettingsError(
                f"There is no warm start '{self.warm_start}'. Choose one of {', '.join(WARM_STARTS)}."
            )
        if self.minutes is not None and not self.minutes >= 0:
            raise SettingsError(f"--minutes is {self.minutes}; it must be 0 or more.")
        if self.self_study is not None and self.self_study < 0:
            raise SettingsError(
                f"The number of self-study questions is {self.self_study}; it must be 0 or more."
            )

    def slots_for(self, document_tokens: int) -> int:
        """Give the length of σ for a document.

        Raises
        ------
        SettingsError
            It would be as long as the document, or longer.
        """
        slots = self.slots or max(SINK + 1, round(document_tokens / self.ratio))
        if slots > document_tokens:
            raise SettingsError(
                f"σ of {slots} slots would be longer than the document, which has {document_tokens} "
                "tokens. Give fewer slots or a larger ratio."
            )
        return slots


def compile(
    document: Document,
    *,
    model: LanguageModel | None = None,
    questions: Sequence[str | UserQuestion] = (),
    settings: Settings | None = None,
    work: Path | None = None,
    teacher: Teacher | None = None,
    calibrate: bool = True,
    keep_text: bool = True,
    publish: Callable[[Artifact], None] | None = None,
    progress: Progress | None = None,
) -> Artifact:
    """Compile a document into an artifact that answers in its place.

    Parameters
    ----------
    document
        From `precis.read` or `Document.from_text`.
    model
        From `precis.load_model`; the default model if None.
    questions
        Questions of your own to teach beside those of self-study; those with answers are taught with these.
    settings
        See `Settings`.
    work
        Where unfinished work is kept; a folder in the user's cache if None. The same compile begun
        again goes on from there; one with other slots or another objective reuses questions and gold
        answers.
    teacher
        What answers the questions: the same model and document. None: one that reads as much of the
        document at a time as the model's window allows.
    calibrate
        Whether σ's answers shall come with a confidence, and the compile end by saying when it has paid for
        itself; else the time that it takes to let σ answer the held-out questions is saved.
    keep_text
        Whether the artifact shall hold the document's text, from which passages are recalled when it is
        asked. Whoever has the file can read it. Without, answers are made from σ alone, and names and
        numbers blur.
    publish
        Called with an artifact that can be used already, once σ₀ is made and measured, and again with each
        better σ that training finds; their answers come without confidence. A compile that goes on from an
        earlier run begins with the best σ of that. The result is the same with it as without.
    progress
        Hears of every stage.

    Returns
    -------
    The artifact; write it with `Artifact.save`. Interrupted (Ctrl-C) while training, it holds the
    best σ so far.

    Raises
    ------
    SettingsError, QuestionsError, ModelError, StorageError
        Something cannot work; the message says what.
    """
    settings = settings or Settings()
    settings.check()
    progress = progress or Progress()
    model = model or load_model()
    teacher = teacher or Teacher(model, document, pointed=settings.pointed)
    return _Compilation(teacher, questions, settings, work, progress, keep_text, publish).run(calibrate)


class _Compilation:
    """The state of one call of `compile`: what its stages share."""

    def __init__(
        self,
        teacher: Teacher,
        questions: Sequence[str | UserQuestion],
        settings: Settings,
        work: Path | None,
        progress: Progress,
        keep_text: bool,
        publish: Callable[[Artifact], None] | None,
    ) -> None:
        self.teacher = teacher
        self.document, self.model = document, model = teacher.document, teacher.model
        self.own_questions = [
            Question(each) if isinstance(each, str) else Question(each.text, answers=each.answers)
            for each in questions
        ]
        self.settings = settings
        self.progress = progress
        self.keep_text = keep_text
        self.publish = publish
        minutes = settings.minutes
        self._full_pace: Pace | None = None
        self._start = time.perf_counter()
        self.clock = Clock(None if minutes is None else minutes * 60 * (1 - CALIBRATING))
        self.objective = Objective.named(settings.objective, settings.objective_weight)
        self.slots = settings.slots_for(self.teacher.tokens)
        prompt = [model.chat.before, model.chat.between, model.chat.asking("")]
        identity = key_of(model.digest, model.tokenizer_digest, str(model.dtype), document.sha256, prompt)
        self.work = WorkFolder((work or cache_folder() / "work") / identity)

    def run(self, calibrate: bool) -> Artifact:
        """Go through the stages."""
        if not self.teacher.fits_window:
            self.progress.note(
                f"The document ({self.teacher.tokens:,} tokens) is longer than the model's window "
                f"({self.model.window:,}): the teacher reads {len(self.teacher.readings)} overlapping "
                "parts of it, each with the questions that came from there."
            )
        study, questions = self._ask()
        taught, held_out = self._teach(questions)
        self._full_pace = self._time_full(held_out.golds) if calibrate else None
        taught = self._not_known_already(taught)
        yardstick = self._yardstick(held_out.golds)
        soft_prompt = self._warm_start(taught)
        data = self._data(study, taught, held_out)
        trainer = Trainer(
            self.model,
            soft_prompt,
            self.objective,
            self._lessons(taught.golds),
            yardstick,
            schedule=self.settings.schedule,
            seed=self.settings.seed,
            clock=self.clock,
            work=self.work,
            name=self._training_name(taught.golds, held_out.golds),
            improved=self._publisher(data),
        )
        if trainer.run(self.progress):
            self.progress.note("Interrupted: sealing the best σ so far.")
        calibration = self._calibrate(soft_prompt, held_out.golds) if calibrate else None
        if calibrate and calibration is None:
            self.progress.note(
                "Confidence was not calibrated, for lack of time: answers will come without it, and "
                "'precis ask --fallback' will not work. Compile with more --minutes to have both."
            )
        if calibrate:
            self._break_even(soft_prompt, held_out.golds)
        return self._seal(data, trainer, calibration)

    def _publisher(self, data: dict[str, object]) -> Callable[[Trainer], None] | None:
        """Give what shows σ as it is, if anybody wants to see it."""
        if (publish := self.publish) is None:
            return None
        return lambda trainer: publish(self._seal(data, trainer, None))

    @torch.no_grad()
    def _seal(self, data: dict[str, object], trainer: Trainer, calibration: Calibration | None) -> Artifact:
        """Make an artifact of σ as it is now."""
        soft_prompt = trainer.soft_prompt
        manifest = self._manifest(soft_prompt, data, trainer, calibration)
        artifact = Artifact(manifest, soft_prompt.tensors(self.model.dtype))
        return artifact.with_text(self.document) if self.keep_text else artifact

    def _past(self, share: float) -> bool:
        """Whether a stage's time is over; a training-free σ gets all the others whole."""
        return not self.settings.training_free and self.clock.past(share)

    def _ask(self) -> tuple[asking.Study, list[Question]]:
        """Give all questions, in an order in which every beginning covers the whole document."""
        count = self._questions_to_write()
        self.progress.stage("asking", None if self._asks_by_the_clock() else count)
        study = asking.self_study(
            self.model,
            self.teacher.passages,
            count,
            self.settings.seed,
            self.work,
            out_of_time=lambda: self._past(ASKING_ENDS),
            progress=self.progress.advance,
        )
        questions = asking.without_repeats([*self.own_questions, *study.questions])
        if len(questions) < 2:
            raise QuestionsError(
                f"There are {len(questions)} questions to train on, which is too few: σ needs at least 2, "
                "one to learn from and one to be measured by. Give a file with --questions, or let the "
                "model write some (--self-study)."
            )
        random.Random(self.settings.seed).shuffle(questions)
        return study, questions

    def _asks_by_the_clock(self) -> bool:
        """Whether time decides how many questions are written."""
        settings = self.settings
        return settings.self_study is None and settings.minutes is not None and not settings.training_free

    def _questions_to_write(self) -> int:
        """Choose how many questions the model writes, at most."""
        settings, tokens = self.settings, self.teacher.tokens
        if settings.self_study is not None:
            return settings.self_study
        if settings.training_free:
            return asking.A_ROUND * len(self.teacher.passages.sentences)
        if self._asks_by_the_clock():
            return max(asking.automatic_count(tokens), MOST_ROUNDS * len(self.teacher.passages.sentences))
        return asking.automatic_count(tokens)

    def _teach(self, questions: Sequence[Question]) -> tuple[Taught, Taught]:
        """Answer the questions; give those to train on, and those held out."""
        self.progress.stage("teaching", len(questions))
        taught = teach(
            self.teacher,
            questions,
            self.work,
            accept=asking.Judge(self.teacher.passages).is_confirmed,
            out_of_time=lambda: self._past(TEACHING_ENDS),
            progress=self.progress.advance,
        )
        golds = taught.golds
        if len(golds) < 2:
            raise QuestionsError(
                "The model gave no usable answer to nearly all of the questions, so there is nothing to "
                "learn from. Try a larger model, or questions of your own (--questions)."
            )
        held = min(MOST_HELD_OUT, max(FEWEST_HELD_OUT, round(len(golds) * HELD_OUT_SHARE)), len(golds) // 2)
        return Taught(golds[held:], taught.dropped), Taught(golds[:held], 0)

    @cached_property
    def _nothing(self) -> Conditioned:
        """The model with no document before it."""
        return self.model.given(self.model.prefill(self.model.chat.reading("")))

    def _not_known_already(self, taught: Taught) -> Taught:
        """Leave out self-study questions that the model answers likewise without the document: no lesson."""
        kept = []
        for gold, scores in zip(
            taught.golds, self._nothing.score([gold.row for gold in taught.golds]), strict=True
        ):
            says = scores.argmax(1).tolist()
            if gold.question.place is None or says != gold.tokens:
                kept.append(gold)
        return Taught(kept or taught.golds, taught.dropped + len(taught.golds) - len(kept))

    def _time_full(self, golds: Sequence[Gold]) -> Pace | None:
        """Time answers after the whole document; None where it was not read in this run."""
        read = self.teacher.last_read
        if read is None or self._past(TEACHING_ENDS):
            return None
        return measure_pace(self.model.given(read), [gold.asking for gold in golds])

    @torch.no_grad()
    def _break_even(self, soft_prompt: SoftPrompt, golds: Sequence[Gold]) -> None:
        """Tell when this compile has paid for itself; nothing where its whole time is not known."""
        if self.work.reused or self._full_pace is None or self._past(1 / (1 - CALIBRATING)):
            return
        given = self.model.given(soft_prompt.prefix(self.model))
        pace = measure_pace(given, [gold.asking for gold in golds])
        self.progress.paid(
            BreakEven(
                compile_seconds=time.perf_counter() - self._start,
                reading_seconds=self.teacher.reading_seconds,
                answer_tokens=sum(len(gold.tokens) for gold in golds) / len(golds),
                full=self._full_pace,
                soft_prompt=pace,
            )
        )

    def _yardstick(self, golds: Sequence[Gold]) -> HeldOut:
        """Measure the held-out questions without the document; what the teacher thinks is known already."""
        tokens = sum(len(gold.tokens) for gold in golds)
        total = 0.0
        for gold, scores in zip(golds, self._nothing.score([gold.row for gold in golds]), strict=True):
            gold_ids = torch.tensor(gold.tokens, device=scores.device)
            total += len(gold.tokens) * float(nll(scores, gold_ids))
        full = -sum(float(gold.log_probabilities.sum()) for gold in golds)
        lessons = self._as_asked(golds, self._reading_lessons[:HELD_OUT_READING_LESSONS])
        return HeldOut(golds, lessons, total / tokens, full / tokens)

    def _lessons(self, golds: Sequence[Gold]) -> Sequence[Gold]:
        """Give what σ is taught: the document's own lessons, and some on reading."""
        count = max(len(golds), FEWEST_READING_LESSONS)
        return self._as_asked(golds, self._reading_lessons[HELD_OUT_READING_LESSONS:][:count])

    def _as_asked(self, golds: Sequence[Gold], reading: Sequence[Gold]) -> Sequence[Gold]:
        """Give lessons as σ will be asked for them: alone, and after passages where it will have them.

        Without reading lessons beside them it is not taught alone, too: what it half remembers would get into
        answers whose passage is right. With them it does not (docs/experiments.md).
        """
        if not self.keep_text:
            return golds
        return [*golds, *with_passages(golds), *reading] if reading else with_passages(golds)

    @cached_property
    def _reading_lessons(self) -> list[Gold]:
        """The lessons that are the same for all documents, in an order of the seed's."""
        lessons = [as_gold(self.model, lesson, self.teacher.top_k) for lesson in reading_lessons(self.model)]
        random.Random(self.settings.seed).shuffle(lessons)
        return lessons

    def _warm_start(self, taught: Taught) -> SoftPrompt:
        """Make σ₀ from what the teacher read."""
        settings = self.settings
        if settings.form == EmbeddingPrompt.form:
            reads = self._reads(taught)
            scores = self._slot_scores(reads, f"scores-{self._data_key(taught)}")
            embeddings = self._embeddings(reads)
            start = embedding_start(settings.warm_start, embeddings, scores, self.slots, settings.seed)
            soft_prompt: SoftPrompt = EmbeddingPrompt(start)
        else:
            soft_prompt = KeyValuePrompt(self._key_value_start(taught))
        self.teacher.forget()
        return soft_prompt

    def _key_value_start(self, taught: Taught) -> Prefix:
        """Make σ₀ in key-value form, or find the one that an earlier run made and trained from."""
        settings = self.settings
        data = self._data_key(taught)
        name = f"start-{key_of(settings.warm_start, settings.bias, self.slots, settings.seed, data)}"
        kept = self.work.read_tensors(name)
        if kept is not None:
            start = Prefix.unpacked(*kept)
            return start.to(self.model.device, self.model.dtype)
        reads = self._reads(taught)
        scores = self._slot_scores(reads, f"scores-{data}")
        self.progress.stage("fitting", 1)
        start = key_value_start(
            settings.warm_start,
            self.model,
            reads,
            scores,
            self.slots,
            seed=settings.seed,
            bias=settings.bias,
        )
        self.progress.advance(1)
        packed = {name: tensor.cpu().contiguous() for name, tensor in start.packed().items()}
        self.work.write_tensors(name, packed, start.next_position)
        return start

    def _slot_scores(self, reads: Sequence[Read], name: str) -> Tensor:
        """Score the document's slots; they are the same for every number of slots."""
        if self.settings.warm_start not in SCORING_WARM_STARTS:
            return torch.empty(0)
        kept = self.work.read_tensors(name)
        if kept is not None:
            return kept[0]["scores"].to(self.model.device)
        self.progress.stage("scoring", sum(min(SCORED_ROWS, len(read.rows)) for read in reads))
        scores = slot_scores(self.model, reads, lambda: self._past(WARM_START_ENDS), self.progress.advance)
        self.work.write_tensors(name, {"scores": scores.cpu().contiguous()})
        return scores

    def _reads(self, taught: Taught) -> list[Read]:
        """Gather what the teacher read, with what was asked of each reading."""
        asked = self.teacher.assign([gold.question for gold in taught.golds])
        reads = []
        for place in range(len(self.teacher.readings)):
            prefix = self.teacher.prefix(place)
            rows = [taught.golds[number].row for number in asked.get(place, [])]
            own = self._new_in_reading(place, prefix.slots).to(self.model.device)
            reads.append(Read(prefix, own, rows))
        return reads

    def _embeddings(self, reads: Sequence[Read]) -> Tensor:
        """Input embeddings of all that the teacher read, `[token, hidden]`."""
        tokens = [self.model.chat.reading(reading.text) for reading in self.teacher.readings]
        return torch.cat([self.model.embed(part)[read.own] for part, read in zip(tokens, reads, strict=True)])

    def _new_in_reading(self, place: int, tokens: int) -> Tensor:
        """Say which tokens of a reading no other one has: what stands around the document counts once."""
        chat = self.model.chat
        first = 0 if place == 0 else len(chat.before)
        last = tokens if place == len(self.teacher.readings) - 1 else tokens - len(chat.between)
        return torch.arange(first, last)

    def _calibrate(self, soft_prompt: SoftPrompt, golds: Sequence[Gold]) -> Calibration | None:
        """Let σ answer held-out questions as it will be asked, and some about other texts.

        None where there is no time for it, or the user does not want to wait.
        """
        if self._past(1 / (1 - CALIBRATING)):
            return None
        passages = self.teacher.passages if self.keep_text else None
        texts = [*(gold.question.text for gold in golds), *other_questions(OTHER_QUESTIONS)]
        self.progress.stage("calibrating", len(texts))
        recalled = [NOTHING if passages is None else recall(passages, text) for text in texts]
        chat = self.model.chat
        given = self.model.given(soft_prompt.prefix(self.model))
        prompts = [chat.asking(text, found.text) for text, found in zip(texts, recalled, strict=True)]
        try:
            generations = given.generate(
                prompts, max_tokens=LONGEST_ANSWER, entropies=True, progress=self.progress.advance
            )
        except KeyboardInterrupt:
            return None
        answers = [chat.decode(said.tokens) for said in generations]
        features = [
            features_of(said.log_probabilities, said.entropies, text, answer, found, passages)
            for said, text, answer, found in zip(generations, texts, answers, recalled, strict=True)
        ]
        return Calibration.fit(
            features[: len(golds)],
            [
                agrees(said, chat.decode(gold.tokens), gold.question.text)
                for said, gold in zip(answers, golds, strict=False)
            ],
            unanswerable=features[len(golds) :],
            recall=RECALL if self.keep_text else 0,
        )

    def _training_name(self, golds: Sequence[Gold], held_out: Sequence[Gold]) -> str:
        """Name the file of the training state by everything that the training depends on."""
        data = [[(gold.asking, gold.tokens) for gold in part] for part in (self._lessons(golds), held_out)]
        return f"training-{key_of(str(self.settings), self.slots, data, self._taught_by())}"

    def _data_key(self, taught: Taught) -> str:
        """Name the questions and answers that σ₀ is made by."""
        return key_of([(gold.asking, gold.tokens) for gold in taught.golds], self._taught_by())

    def _taught_by(self) -> list[int | bool | None]:
        """Say how the teacher reads, beside what is the same for all that the work folder holds."""
        return [self.teacher.reading_tokens, self.teacher.top_k, self.teacher.pointed]

    def _data(self, study: asking.Study, taught: Taught, held_out: Taught) -> dict[str, object]:
        golds = taught.golds
        reads = "the whole document"
        if not self.teacher.reads_whole:
            reads = f"{len(self.teacher.readings)} overlapping parts of the document"
        return {
            "questions": len(golds),
            "held_out": len(held_out.golds),
            "own_questions": len(self.own_questions),
            "self_study_questions": len(study.questions),
            "written_questions": study.written,
            "sentences": study.sentences,
            "sentences_covered": study.covered,
            "dropped_questions": study.dropped,
            "dropped_answers": taught.dropped + held_out.dropped,
            "answer_tokens": sum(len(gold.tokens) for gold in golds),
            "longest_answer": LONGEST_ANSWER,
            "top_k": golds[0].top_ids.shape[1],
            "top_k_mass": sum(gold.mass for gold in golds) / len(golds),
            "teacher_reads": reads,
        }

    def _manifest(
        self,
        soft_prompt: SoftPrompt,
        data: dict[str, object],
        trainer: Trainer,
        calibration: Calibration | None,
    ) -> Manifest:
        model, settings, held_out, state = self.model, self.settings, trainer.held_out, trainer.state
        schedule = settings.schedule
        next_position = soft_prompt.prefix(model).next_position
        return Manifest(
            model={
                "name": model.name,
                "type": model.network.config.model_type,
                "digest": model.digest,
                "tokenizer_digest": model.tokenizer_digest,
                "layers": model.layers,
                "kv_heads": model.kv_heads,
                "head_dim": model.head_dim,
                "hidden_size": model.hidden_size,
            },
            document={
                "name": self.document.name,
                "sha256": self.document.sha256,
                "tokens": self.teacher.tokens,
            },
            form=settings.form,
            slots=self.slots,
            ratio=self.teacher.tokens / self.slots,
            next_position=next_position,
            objective=self.objective.name,
            objective_weight=self.objective.weight,
            warm_start=settings.warm_start,
            seed=settings.seed,
            data=data,
            training={
                "epochs": schedule.epochs,
                "fewest_steps": schedule.fewest_steps,
                "rows": schedule.rows,
                "learning_rate": schedule.learning_rate,
                "steps": state.step,
                "best_step": state.best_step,
                "held_out_nll": [[step, round(nll, 6)] for step, nll in state.history],
            },
            fidelity={
                "recovery": held_out.recovery(state.best_nll),
                "nll_none": held_out.nll_none,
                "nll": state.best_nll,
                "nll_full": held_out.nll_full,
            },
            versions={
                "precis": version("precis"),
                "torch": torch.__version__,
                "transformers": version("transformers"),
                "computed_in": str(model.dtype).removeprefix("torch."),
            },
            confidence=None if calibration is None else calibration.to_json(),
        )
