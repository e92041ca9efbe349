"""Training σ: only σ moves, the model stays as it is.

The loop keeps the σ that did best on held-out questions, not the last one. Its whole state is saved
now and then, so that a killed run goes on and ends with the same σ as one that was never killed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from precis.compilation.objectives import Objective
from precis.compilation.objectives.nll import nll
from precis.compilation.progress import Progress
from precis.compilation.stages import Stage
from precis.compilation.teacher import Gold
from precis.errors import ModelError
from precis.measures import recovery
from precis.model.language_model import LanguageModel
from precis.model.soft_prompt import SoftPrompt
from precis.storage import WorkFolder

SECONDS_BETWEEN_CHECKPOINTS = 20.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast σ learns.

    Parameters
    ----------
    epochs
        Passes over the questions; 0: no training.
    fewest_steps
        Steps that are taken all the same where there are few questions.
    batch_size
        Questions a step.
    learning_rate
        Adam's, at its peak; reached after `warm_up` of the steps, then a cosine down to a twentieth.
    clip
        Largest norm of the gradient.
    patience
        Evaluations without a better held-out loss after which training ends.
    """

    epochs: int = 1
    fewest_steps: int = 48
    batch_size: int = 8
    learning_rate: float = 3e-3
    warm_up: float = 0.05
    clip: float = 1.0
    patience: int = 6

    def factor(self, done: float) -> float:
        """Share of the peak learning rate when a share `done` of the training is behind."""
        if done < self.warm_up:
            return max(done, 1e-3) / self.warm_up
        rest = (done - self.warm_up) / (1 - self.warm_up)
        return 0.05 + 0.95 * (1 + math.cos(math.pi * min(1.0, rest))) / 2


class Clock:
    """Time spent on a compile, and how much there is.

    Parameters
    ----------
    limit
        Seconds; None for no limit.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self._start = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._start

    def add(self, seconds: float) -> None:
        """Count what an earlier run of the same compile took."""
        self._start -= seconds

    def past(self, share: float) -> bool:
        """Whether that share of the time is gone."""
        return self.limit is not None and self.spent >= share * self.limit

    def share_since(self, start: float) -> float:
        """Share that is gone of the time there was after `start` seconds; 0 without a limit."""
        if self.limit is None:
            return 0.0
        return 1.0 if self.limit <= start else min(1.0, (self.spent - start) / (self.limit - start))


@dataclass
class HeldOut:
    """The yardstick: questions that σ is not trained on, and what is known of them.

    Parameters
    ----------
    golds, lessons
        Their gold answers after the question alone, by which recovery is told; and as σ is taught them, by
        which the best σ is chosen.
    nll_none, nll_full
        Of the answers to the questions alone, a token: without the document, and under the teacher.
    """

    golds: Sequence[Gold]
    lessons: Sequence[Gold]
    nll_none: float
    nll_full: float

    def recovery(self, nll: float) -> float | None:
        """Place an NLL between no document (0) and the whole one (1); None where those are equal."""
        return recovery(self.nll_none, nll, self.nll_full)


@dataclass
class State:
    """Everything the loop changes."""

    step: int = 0
    spent: float = 0.0
    waited: int = 0
    best_loss: float = math.inf
    best_nll: float = math.inf
    best_step: int = 0
    history: list[tuple[int, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


class Trainer:
    """One training of one σ.

    Parameters
    ----------
    model, soft_prompt, objective
        Who learns what.
    golds, held_out
        What σ is trained on, and measured by.
    schedule, seed
        How. The seed orders the questions.
    clock
        When its time is gone, training ends; the learning rate comes down in time.
    work, name
        Where the state is kept, and under which name.
    on_better
        Called whenever `soft_prompt` is the best σ so far: after the first evaluation, or at once where an
        earlier run left one, and after each evaluation that finds a better one.
    """

    def __init__(
        self,
        model: LanguageModel,
        soft_prompt: SoftPrompt,
        objective: Objective,
        golds: Sequence[Gold],
        held_out: HeldOut,
        *,
        schedule: Schedule,
        seed: int,
        clock: Clock,
        work: WorkFolder,
        name: str,
        on_better: Callable[[Trainer], None] | None = None,
    ) -> None:
        self.model = model
        self.soft_prompt = soft_prompt
        self.objective = objective
        self.golds = golds
        self.held_out = held_out
        self.schedule = schedule
        self.seed = seed
        self.clock = clock
        self.work = work
        self.name = name
        self.on_better = on_better
        self.parameters = soft_prompt.parameters()
        self.optimiser = torch.optim.Adam(self.parameters.values(), lr=schedule.learning_rate)
        self.state = State()
        self.resumed = False
        self.steps_per_epoch = math.ceil(len(golds) / schedule.batch_size)
        wanted = self.steps_per_epoch * schedule.epochs
        self.steps = max(wanted, schedule.fewest_steps) if schedule.epochs else 0
        self._saved = time.monotonic()
        self._began = clock.spent

    def run(self, progress: Progress) -> bool:
        """Train to the end, and leave the best σ in `soft_prompt`; True if the user broke it off."""
        interrupted = False
        self.resumed = self._resume()
        progress.stage(Stage.TRAINING, self.steps)
        progress.advance(self.state.step)
        if not self.state.history:
            self._evaluate(progress)
            self.save()
        elif self.on_better is not None:
            self._show_best(progress)
        try:
            finished = self._finished()
            while not finished:
                self._step()
                progress.advance(1)
                finished = self._finished()
                if finished or self.state.step % max(1, self.steps_per_epoch // 2) == 0:
                    self._evaluate(progress)
                self._save_now_and_then()
        except KeyboardInterrupt:
            interrupted = True
        self._set_parameters(self.state.best)
        return interrupted

    def _done(self) -> float:
        """Share of the training that is behind, by steps or by time, whichever is further."""
        steps = self.state.step / self.steps if self.steps else 1.0
        return max(steps, self.clock.share_since(self._began))

    def _finished(self) -> bool:
        return self._done() >= 1 or self.state.waited >= self.schedule.patience

    def _step(self) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.learning_rate * self.schedule.factor(self._done())
        self.learn(self._batch())
        self.state.step += 1

    def learn(self, golds: Sequence[Gold]) -> None:
        """Take one step on some questions."""
        loss = self._loss(golds)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.schedule.clip)
        self.optimiser.step()

    def _batch(self) -> list[Gold]:
        epoch, place = divmod(self.state.step, self.steps_per_epoch)
        draw = torch.Generator().manual_seed(self.seed * 1009 + epoch)
        order = torch.randperm(len(self.golds), generator=draw).tolist()
        return [
            self.golds[n]
            for n in order[place * self.schedule.batch_size : (place + 1) * self.schedule.batch_size]
        ]

    def _loss(self, golds: Sequence[Gold]) -> Tensor:
        student = self.model.given(self.soft_prompt.prefix(self.model))
        logits = student.answer_logits([gold.example for gold in golds])
        return self.objective(logits, *targets(golds, logits.device))

    def _evaluate(self, progress: Progress) -> None:
        """Measure held-out loss; keep σ if it is the best so far.

        Raises
        ------
        ModelError
            σ₀ gives no number.
        """
        loss, gold_nll = self._measure(self.held_out.golds)
        if self.held_out.lessons is not self.held_out.golds:
            loss, _ = self._measure(self.held_out.lessons)
        self.state.history.append((self.state.step, gold_nll))
        self.state.waited += 1
        if loss < self.state.best_loss:
            best = {name: tensor.detach().clone() for name, tensor in self.parameters.items()}
            self.state.best, self.state.best_step = best, self.state.step
            self.state.best_loss, self.state.best_nll, self.state.waited = loss, gold_nll, 0
        if not self.state.best:
            raise ModelError(
                f"The loss of {self.model.name} is {loss}, which is no number to learn from. The model's "
                "weights may be damaged, or its arithmetic overflows: try another model."
            )
        progress.recovery(self.held_out.recovery(self.state.best_nll))
        if self.on_better is not None and self.state.waited == 0:
            # a run that goes on after a kill must not start from less than was shown
            self.save()
            self.on_better(self)

    @torch.no_grad()
    def _measure(self, golds: Sequence[Gold]) -> tuple[float, float]:
        """Give the objective, and the NLL, a token of some answers."""
        student = self.model.given(self.soft_prompt.prefix(self.model))
        tokens = sum(len(gold.tokens) for gold in golds)
        loss = gold_nll = 0.0
        for gold, log_probabilities in zip(
            golds, student.score([gold.example for gold in golds]), strict=True
        ):
            gold_ids, top_ids, top = targets([gold], log_probabilities.device)
            share = len(gold.tokens) / tokens
            # log-softmax of log-probabilities is themselves
            loss += share * float(self.objective(log_probabilities, gold_ids, top_ids, top))
            gold_nll += share * float(nll(log_probabilities, gold_ids))
        return loss, gold_nll

    def _show_best(self, progress: Progress) -> None:
        """Show the best σ that an earlier run found; then go on from where it was."""
        assert self.on_better is not None
        now = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self._set_parameters(self.state.best)
        progress.recovery(self.held_out.recovery(self.state.best_nll))
        self.on_better(self)
        self._set_parameters(now)

    def _set_parameters(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[name])

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved >= SECONDS_BETWEEN_CHECKPOINTS:
            self.save()

    def save(self) -> None:
        """Write the whole state, in one file."""
        self._saved = time.monotonic()
        state = self.state
        tensors = {f"now.{name}": tensor.detach() for name, tensor in self.parameters.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
        for name, parameter in self.parameters.items():
            for moment, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"{moment}.{name}"] = value
        note = {
            "step": state.step,
            "spent": self.clock.spent - self._began,
            "waited": state.waited,
            "best_loss": state.best_loss,
            "best_nll": state.best_nll,
            "best_step": state.best_step,
            "history": state.history,
        }
        self.work.write_tensors(self.name, {k: v.cpu().contiguous() for k, v in tensors.items()}, note)

    def _resume(self) -> bool:
        """Go on from where an earlier run left off; False if there was none."""
        kept = self.work.read_tensors(self.name)
        if kept is None:
            return False
        tensors, note = kept
        moments = ("exp_avg", "exp_avg_sq", "step")
        self._set_parameters({name: tensors[f"now.{name}"] for name in self.parameters})
        for name, parameter in self.parameters.items():
            if f"step.{name}" in tensors:
                self.optimiser.state[parameter] = {
                    moment: tensors[f"{moment}.{name}"].to("cpu" if moment == "step" else parameter.device)
                    for moment in moments
                }
        best = {name: tensors[f"best.{name}"].to(p.device) for name, p in self.parameters.items()}
        note["history"] = [(int(step), float(nll)) for step, nll in note["history"]]
        self.state = State(best=best, **note)
        self.clock.add(self.state.spent)
        return True


def targets(golds: Sequence[Gold], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Gold ids `[answer token]`, and the teacher's top ids and log-probabilities `[answer token, k]`."""
    return (
        torch.tensor([token for gold in golds for token in gold.tokens], device=device),
        torch.cat([gold.top_ids for gold in golds]).to(device),
        torch.cat([gold.top_log_probabilities for gold in golds]).to(device),
    )
