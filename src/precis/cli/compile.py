"""`precis compile`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from precis.cli.common import ModelName, check_target, err, loading, out, show_what_was_read
from precis.errors import SettingsError
from precis.text.readers import READABLE

if TYPE_CHECKING:
    from precis.artifact import Artifact


def compile_command(
    document: Annotated[Path, typer.Argument(metavar="DOCUMENT", help=f"{READABLE}; or a folder of them.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write; DOCUMENT's name with .precis by default."),
    ] = None,
    model: ModelName = None,
    slots: Annotated[
        int | None, typer.Option(help="Length of the soft prompt. Default: as --ratio says.")
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Document tokens for every slot. Default: 20.", show_default=False)
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            help="What to optimise: nll makes the full-document answers probable, kl matches the whole "
            "next-token distribution, mix is half of each."
        ),
    ] = "mix",
    questions: Annotated[
        Path | None,
        typer.Option(
            help="Questions of your own to teach as well: JSONL, a table (CSV, TSV, XLSX), a published set's "
            "JSON, or text with one a line. Those "
            "with answers are taught with these answers, the others with the model's own."
        ),
    ] = None,
    self_study: Annotated[
        int | None,
        typer.Option(
            help="How many questions the model writes for itself. Default: by the document's length."
        ),
    ] = None,
    form: Annotated[
        str, typer.Option(help="kv: keys and values for every layer; embedding: 30 times smaller, weaker.")
    ] = "kv",
    warm_start: Annotated[
        str,
        typer.Option(help="How the soft prompt is made before any training; an unknown name shows the list."),
    ] = "attention-matching",
    bias: Annotated[
        bool,
        typer.Option(
            " /--no-bias",
            help="Do without slot biases and without heads of different lengths, which some formats cannot "
            "carry.",
        ),
    ] = True,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="The most minutes that compiling may take; 0: no training at all. Default: no limit."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed on the same machine gives the same file.")] = 0,
    profile: Annotated[bool, typer.Option(help="Show where the time went, stage by stage.")] = False,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for unfinished work. Default: a folder in your cache."),
    ] = None,
    keep_text: Annotated[
        bool,
        typer.Option(
            " /--no-text",
            help="Leave the document's text out of the file. Answers recall passages from it, so whoever has "
            "the file can read the document. Without it, answers are from the soft prompt alone, and names "
            "and numbers blur.",
        ),
    ] = True,
) -> None:
    """Compile a document into a soft prompt.

    The model writes questions about every part of the document, answers them with the whole document
    before it, and the soft prompt is trained to give the same answers. Ctrl-C while training seals
    the best soft prompt so far. A compile that was stopped goes on when it is started again.
    """
    if slots is not None and ratio is not None:
        raise SettingsError("Give --slots or --ratio, not both: each decides the soft prompt's length.")
    from precis.cli.display import Bars, describe, show_break_even, show_profile
    from precis.compilation.pipeline import compile as compile_document
    from precis.compilation.progress import Stopwatch
    from precis.compilation.settings import DEFAULT_RATIO, Settings
    from precis.model.loading import load_model
    from precis.text.document import read
    from precis.text.questions import read_questions

    settings = Settings(
        slots=slots,
        ratio=DEFAULT_RATIO if ratio is None else ratio,
        objective=objective,
        form=form,
        warm_start=warm_start,
        bias=bias,
        self_study=self_study,
        minutes=minutes,
        seed=seed,
    )
    settings.check()
    target = output or Path(f"{document.resolve().name.removesuffix(document.suffix)}.precis")
    check_target(target, document, questions)
    text = read(document)
    show_what_was_read(err, text)
    own = read_questions(questions) if questions else []
    loaded = loading(lambda: load_model(model))
    with Bars(err) as bars:
        watch = Stopwatch(bars)
        artifact = compile_document(
            text,
            model=loaded,
            questions=own,
            settings=settings,
            work=work,
            keep_text=keep_text,
            publish=None if target.exists() else _publisher(target, bars.note),
            progress=watch,
        )
    watch.end()
    artifact.save(target)
    describe(out, artifact.manifest, target)
    if bars.paid_off is not None:
        show_break_even(out, bars.paid_off)
    if profile:
        show_profile(out, watch.stages)


def _publisher(target: Path, note: Callable[[str], None]) -> Callable[[Artifact], None]:
    """Write every soft prompt that is better than the one before, so that the file can be used meanwhile."""

    def publish(artifact: Artifact) -> None:
        first = not target.exists()
        artifact.save(target)
        if first:
            note(f"{target} can be asked already, in another terminal; its answers get better meanwhile.")

    return publish
