"""`precis ask`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from precis.cli.common import (
    ArtifactPath,
    ModelName,
    err,
    escaped,
    loading,
    out,
    print_json,
    warn_of_other_document,
)
from precis.errors import SettingsError

if TYPE_CHECKING:
    from precis.answer import Answer
    from precis.compiled import Compiled
    from precis.text.document import Document


def ask(
    artifact: ArtifactPath,
    question: Annotated[str, typer.Argument(help="What to ask.")],
    model: ModelName = None,
    beside: Annotated[
        Path | None, typer.Option(help="The document: shows the answer from its full text, too.")
    ] = None,
    fallback: Annotated[
        Path | None,
        typer.Option(help="The document: it is read again where the soft prompt's answer is in doubt."),
    ] = None,
    agreement: Annotated[
        float,
        typer.Option(help="With --fallback: the share of answers that shall agree with the full document's."),
    ] = 0.9,
    recall: Annotated[
        int | None,
        typer.Option(
            help="How many passages of the document stand beside the soft prompt; 0: none. Default: 1, where "
            "the file keeps the document's text.",
            show_default=False,
        ),
    ] = None,
    refuse_below: Annotated[
        float | None,
        typer.Option(
            help="Say that the document does not say where the confidence is below this, from 0 to 1. "
            "Default: 0, which never does.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Answer a question from a compiled document: from its soft prompt and the passage that bears on it."""
    from precis.compiled import load
    from precis.model.encoding import well_formed

    question = well_formed(question)
    if beside is not None and fallback is not None:
        raise SettingsError("Give --beside or --fallback, not both: --beside reads the document every time.")
    if refuse_below is not None and fallback is not None:
        raise SettingsError(
            "Give --refuse-below or --fallback, not both: an answer in doubt is either refused, or asked of "
            "the document again."
        )
    compiled = loading(lambda: load(artifact, model))
    if not compiled.artifact.keeps_text and not recall:
        err.print(
            "[yellow]Note:[/yellow] this file does not keep the document's text, so the answer is from the "
            "soft prompt alone; names and numbers may blur.",
            soft_wrap=True,
        )
    if fallback is not None:
        _ask_with_fallback(compiled, question, fallback, agreement, as_json, recall)
        return
    full = None if beside is None else _read_again(compiled, beside)

    def from_soft_prompt(on_text: Callable[[str], None]) -> Answer:
        return compiled.ask(question, recall=recall, refuse_below=refuse_below or 0.0, on_text=on_text)

    if as_json:
        values = {"question": question, **from_soft_prompt(_show_nothing).to_json()}
        if full is not None:
            values["full"] = _full_answer(compiled, full, question, _show_nothing).to_json()
        print_json(values)
        return
    if full is None:
        _say(from_soft_prompt)
        return
    out.print(f"[bold]From the soft prompt[/bold] ({compiled.artifact.manifest.slots} slots)")
    _say(from_soft_prompt)
    out.print("\n[bold]From the full document[/bold]")
    _say(lambda on_text: _full_answer(compiled, full, question, on_text))


def _full_answer(
    compiled: Compiled, document: Document, question: str, on_text: Callable[[str], None]
) -> Answer:
    """Answer with the whole document before the question, reading it included in the times."""
    import time

    from precis.answer import answer
    from precis.compilation.teacher import Teacher
    from precis.text.questions import Question

    teacher = Teacher(compiled.model, document)
    place = next(iter(teacher.assign([Question(question)])))
    start = time.perf_counter()
    given = compiled.model.given(teacher.prefix(place))
    reading = time.perf_counter() - start
    said = answer(given, question, on_text=on_text)
    return replace(said, first_token_s=said.first_token_s + reading, seconds=said.seconds + reading)


def _ask_with_fallback(
    compiled: Compiled, question: str, path: Path, agreement: float, as_json: bool, recall: int | None
) -> None:
    """Answer from σ where its confidence reaches the threshold for the target, else from the document.

    σ's answer is not shown as it comes: only when it is whole is it known whether it will do.
    """
    threshold = compiled.fallback_threshold(agreement)
    document = _read_again(compiled, path)
    first = compiled.ask(question, recall=recall)
    if first.confidence is None:
        raise SettingsError(
            f"--fallback goes by the confidence, which is not known for answers with --recall {recall}: this "
            "file's was measured with another number of passages. Leave --recall out."
        )
    confidence = first.confidence
    keep = confidence >= threshold

    def again(on_text: Callable[[str], None]) -> Answer:
        return _full_answer(compiled, document, question, on_text)

    by = "soft prompt" if keep else "full document"
    if as_json:
        said = first if keep else again(_show_nothing)
        values = {"question": question, "answered_by": by, "threshold": threshold, **said.to_json()}
        if not keep:
            values["soft_prompt"] = first.to_json()
        print_json(values)
        return
    err.print(
        f"[dim]Answered by the {by}: confidence {100 * confidence:.0f} %, "
        f"{'not ' if keep else ''}under the threshold of {100 * threshold:.0f} % that an agreement of "
        f"{100 * agreement:.0f} % asks for[/dim]",
        soft_wrap=True,
    )
    if keep:
        sys.stdout.write(first.text + "\n")
        sys.stdout.flush()
        _show_cost(first)
    else:
        _say(again)


def _show_nothing(_: str) -> None:
    """Let an answer come unheard."""


def _say(ask_aloud: Callable[[Callable[[str], None]], Answer]) -> None:
    """Print an answer as it comes, then what it cost."""

    def on_text(piece: str) -> None:
        sys.stdout.write(piece)
        sys.stdout.flush()

    answer = ask_aloud(on_text)
    sys.stdout.write("\n")
    sys.stdout.flush()
    _show_cost(answer)


def _show_cost(answer: Answer) -> None:
    cut = "" if answer.finish_reason == "stop" else "; cut off at the limit"
    sure = "" if answer.confidence is None else f"confidence {100 * answer.confidence:.0f} %; "
    held = "" if answer.withheld is None else f"withheld: {escaped(answer.withheld)} ({sure[:-2]}); "
    err.print(
        f"[dim]{held or sure}{answer.prompt_positions:,} positions before the question, "
        f"{answer.prefix_bytes / 1e6:.1f} MB; first token after {answer.first_token_s:.2f} s, "
        f"{answer.seconds:.1f} s in all{cut}[/dim]",
        soft_wrap=True,
    )
    if answer.passages:
        out.print("\n[bold]Made from[/bold]")
    for passage in answer.passages:
        place = f"{passage.place}, characters {passage.start:,} to {passage.end:,}"
        out.print(f"[dim]{escaped(place)}[/dim]\n{escaped(passage.text)}", soft_wrap=True)


def _read_again(compiled: Compiled, path: Path) -> Document:
    """Read the document that was compiled, and say so where it is another one."""
    from precis.text.document import read

    document = read(path)
    warn_of_other_document(compiled, document.sha256, path)
    return document
