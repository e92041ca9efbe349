"""The command line: `precis compile`, `ask`, `evaluate`, `inspect`, `serve`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from precis.errors import PrecisError, SettingsError
from precis.memory import keep_freed_memory
from precis.waiting import GIVING_WAY

if TYPE_CHECKING:
    from precis.answer import Answer
    from precis.artifact import Manifest
    from precis.compiled import Compiled
    from precis.document import Document
    from precis.evaluation import Report

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "Compile a long document, once, into a short soft prompt for a frozen language model; then "
        "answer questions from it and from a passage that it recalls, without reading the document again.\n\n"
        "[bold]Begin with[/bold]\n\n"
        "  precis compile handbook.md -o handbook.precis\n\n"
        '  precis ask handbook.precis "When does the harbour close?"'
    ),
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_INTERRUPTED = 130  # what the CLI library makes of Ctrl-C

ArtifactPath = Annotated[Path, typer.Argument(metavar="FILE.precis", help="A compiled document.")]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="smollm2-135m-instruct (the default), a folder in Hugging Face's format, a .gguf file, or "
        "an id on the Hugging Face hub.",
        show_default=False,
    ),
]


def main() -> None:
    """Run, and let no mistake of the user end in a traceback."""
    keep_freed_memory()
    try:
        with _plain_errors():
            app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            err.print("Stopped. What was finished is kept: the same command goes on from there.")
        raise


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except PrecisError as error:
        err.print(f"[bold red]Error:[/bold red] {_escaped(str(error))}", soft_wrap=True)
        raise SystemExit(2) from None


@app.command("compile")
def compile_command(
    document: Annotated[
        Path, typer.Argument(metavar="DOCUMENT", help="PDF, DOCX, HTML, Markdown, text, or a folder of them.")
    ],
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
            help="Questions of your own to teach as well: JSONL, SQuAD JSON, or text with one a line. Those "
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
        str, typer.Option(help="Where training starts: attention-matching, attention, even, first or random.")
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
    from precis.compilation import DEFAULT_RATIO, Settings
    from precis.compilation import compile as compile_document
    from precis.display import Bars, describe, show_break_even, show_profile
    from precis.document import read
    from precis.model_source import load_model
    from precis.progress import Stopwatch
    from precis.questions_file import read_questions

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
    _check_target(target, document, questions)
    text = read(document)
    for skipped in text.skipped:
        err.print(f"[yellow]Left out:[/yellow] {_escaped(skipped)}", soft_wrap=True)
    own = read_questions(questions) if questions else []
    loaded = _load(lambda: load_model(model))
    with Bars(err) as bars:
        watch = Stopwatch(bars)
        artifact = compile_document(
            text,
            model=loaded,
            questions=own,
            settings=settings,
            work=work,
            keep_text=keep_text,
            progress=watch,
        )
    watch.end()
    artifact.save(target)
    describe(out, artifact.manifest, target)
    if bars.break_even is not None:
        show_break_even(out, bars.break_even)
    if profile:
        show_profile(out, watch.stages)


@app.command()
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

    if beside is not None and fallback is not None:
        raise SettingsError("Give --beside or --fallback, not both: --beside reads the document every time.")
    if refuse_below is not None and fallback is not None:
        raise SettingsError(
            "Give --refuse-below or --fallback, not both: an answer in doubt is either refused, or asked of "
            "the document again."
        )
    compiled: Compiled = _load(lambda: load(artifact, model))
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

    def from_soft_prompt(hear: Callable[[str], None]) -> Answer:
        return compiled.ask(question, recall=recall, refuse_below=refuse_below or 0.0, hear=hear)

    if as_json:
        values = {"question": question, **from_soft_prompt(_hear_nothing).to_json()}
        if full is not None:
            values["full"] = _full_answer(compiled, full, question, _hear_nothing).to_json()
        print(json.dumps(values, ensure_ascii=False))
        return
    if full is None:
        _say(from_soft_prompt)
        return
    out.print(f"[bold]From the soft prompt[/bold] ({compiled.artifact.manifest.slots} slots)")
    _say(from_soft_prompt)
    out.print("\n[bold]From the full document[/bold]")
    _say(lambda hear: _full_answer(compiled, full, question, hear))


@app.command()
def evaluate(
    artifact: ArtifactPath,
    document: Annotated[Path, typer.Option(help="The document that was compiled.")],
    questions: Annotated[
        Path, typer.Option(help="Questions that it was not trained on: JSONL, SQuAD JSON, or text.")
    ],
    model: ModelName = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON, too.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the report as one HTML page with every answer, too.")
    ] = None,
    show: Annotated[int, typer.Option(help="Show this many answers side by side.")] = 0,
    methods: Annotated[
        str,
        typer.Option(
            help="Other methods to compare with at the same size, such as 'truncate,snapkv', or 'all'. An "
            "unknown name shows the list.",
            show_default=False,
        ),
    ] = "",
    other: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.precis",
            help="Another compiled document, for the control: the same passages are recalled after its soft "
            "prompt, which never saw this document.",
        ),
    ] = None,
) -> None:
    """Compare answers from no document, the full document, the soft prompt, and other methods."""
    from precis.artifact import Artifact
    from precis.compiled import load
    from precis.display import Bars, show_answers, show_report
    from precis.document import read
    from precis.evaluation import evaluate as evaluate_artifact
    from precis.questions_file import read_questions
    from precis.rivals import names_in
    from precis.work_folder import write_atomically

    rivals = names_in(methods)
    asked = read_questions(questions)
    text = read(document)
    for target in (json_file, html):
        if target is not None:
            _check_target(target, artifact, document, questions, other)
    control = None if other is None else Artifact.open(other)
    compiled = _load(lambda: load(artifact, model))
    _warn_of_other_document(compiled, text.sha256, document)
    with Bars(err) as bars:
        report: Report = evaluate_artifact(
            compiled.artifact,
            text,
            asked,
            model=compiled.model,
            methods=rivals,
            other=control,
            progress=bars,
        )
    show_report(out, report)
    show_answers(out, report, show)
    if json_file is not None:
        write_atomically(json_file, (json.dumps(report.to_json(), indent=2) + "\n").encode())
    if html is not None:
        from precis.report_page import page

        write_atomically(html, page(report, text).encode())


@app.command()
def inspect(
    artifact: ArtifactPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Show what a compiled document is: its model, document, settings and measured fidelity."""
    from precis.artifact import Artifact

    manifest: Manifest = Artifact.open(artifact).manifest
    if as_json:
        print(json.dumps(manifest.to_json(), indent=2, ensure_ascii=False))
        return
    from precis.display import describe

    describe(out, manifest, artifact)


@app.command("serve")
def serve_command(
    library: Annotated[
        Path, typer.Argument(metavar="LIBRARY", help="The folder of .precis files; what is in it is served.")
    ],
    host: Annotated[
        str, typer.Option(help="Where to listen. Beyond this machine only with --api-key-file.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option(help="A file of API keys, one a line; requests must then carry one.")
    ] = None,
    model: ModelName = None,
) -> None:
    """Serve compiled documents through the API that OpenAI's clients speak.

    Each .precis file is a model by its name. Files may be added, replaced and removed at any time. Ctrl-C
    finishes the answers that are under way, and stops.
    """
    # a compile may run beside the answers
    for name, value in GIVING_WAY.items():
        os.environ.setdefault(name, value)
    try:
        from precis.serve.access import read_keys
        from precis.serve.app import ServerSettings
        from precis.serve.server import serve
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"Serving needs packages that are not installed ({error.name}). Install them with "
            "pip install 'precis[serve]'."
        ) from error

    keys = read_keys(api_key_file) if api_key_file else frozenset()
    settings = ServerSettings(library, host, port, keys, model)
    serve(settings, lambda line: print(line, flush=True))


def _load(load: Callable[[], Any]) -> Any:
    with err.status("Loading the model (the default one takes half a minute the first time)"):
        return load()


def _full_answer(
    compiled: Compiled, document: Document, question: str, hear: Callable[[str], None]
) -> Answer:
    """Answer with the whole document before the question, reading it included in the times."""
    import time

    from precis.answer import answer
    from precis.gold import Teacher
    from precis.questions import Question

    teacher = Teacher(compiled.model, document)
    place = next(iter(teacher.assign([Question(question)])))
    start = time.perf_counter()
    given = compiled.model.given(teacher.prefix(place))
    reading = time.perf_counter() - start
    said = answer(given, question, hear=hear)
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

    def again(hear: Callable[[str], None]) -> Answer:
        return _full_answer(compiled, document, question, hear)

    by = "soft prompt" if keep else "full document"
    if as_json:
        said = first if keep else again(_hear_nothing)
        values = {"question": question, "answered_by": by, "threshold": threshold, **said.to_json()}
        if not keep:
            values["soft_prompt"] = first.to_json()
        print(json.dumps(values, ensure_ascii=False))
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


def _hear_nothing(_: str) -> None:
    """Let an answer come unheard."""


def _say(ask_aloud: Callable[[Callable[[str], None]], Answer]) -> None:
    """Print an answer as it comes, then what it cost."""

    def hear(piece: str) -> None:
        sys.stdout.write(piece)
        sys.stdout.flush()

    answer = ask_aloud(hear)
    sys.stdout.write("\n")
    sys.stdout.flush()
    _show_cost(answer)


def _show_cost(answer: Answer) -> None:
    cut = "" if answer.finish_reason == "stop" else "; cut off at the limit"
    sure = "" if answer.confidence is None else f"confidence {100 * answer.confidence:.0f} %; "
    held = "" if answer.withheld is None else f"withheld: {_escaped(answer.withheld)} ({sure[:-2]}); "
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
        out.print(f"[dim]{_escaped(place)}[/dim]\n{_escaped(passage.text)}", soft_wrap=True)


def _read_again(compiled: Compiled, path: Path) -> Document:
    """Read the document that was compiled, and say so where it is another one."""
    from precis.document import read

    document = read(path)
    _warn_of_other_document(compiled, document.sha256, path)
    return document


def _warn_of_other_document(compiled: Compiled, sha256: str, path: Path) -> None:
    if sha256 != compiled.artifact.manifest.document["sha256"]:
        err.print(
            f"[yellow]Note:[/yellow] the text of {_escaped(str(path))} is not the one that was compiled "
            f"({_escaped(compiled.artifact.manifest.document['name'])}); answers can differ for that reason.",
            soft_wrap=True,
        )


def _check_target(path: Path, *inputs: Path | None) -> None:
    """Refuse a place that cannot be written to, or that holds an input, before any work is done."""
    if any(given is not None and given.resolve() == path.resolve() for given in inputs):
        raise SettingsError(f"{path} would be overwritten, but it is read here; write to another file.")
    if path.is_dir():
        raise SettingsError(f"{path} is a folder; give the name of a file to write.")
    if not path.absolute().parent.is_dir():
        raise SettingsError(f"There is no folder {path.absolute().parent} to write {path.name} to.")


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
