"""What the commands share: the consoles, common arguments, checks."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

from precis.errors import SettingsError

if TYPE_CHECKING:
    from precis.compiled import Compiled
    from precis.text.document import Document

_Loaded = TypeVar("_Loaded")


def replace_what_cannot_be_shown() -> None:
    """Let a terminal show a question mark for a character that it does not have, in place of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


# Where the streams are taken into use: every command imports this, and nothing else does.
replace_what_cannot_be_shown()
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


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


def loading(load: Callable[[], _Loaded]) -> _Loaded:
    """Load a model, and say that it takes a while."""
    with err.status("Loading the model (the default one takes half a minute the first time)"):
        return load()


def warn_of_other_document(compiled: Compiled, sha256: str, path: Path) -> None:
    """Say so where the text is not the one that was compiled."""
    if sha256 != compiled.artifact.manifest.document.sha256:
        err.print(
            f"[yellow]Note:[/yellow] the text of {escaped(str(path))} is not the one that was compiled "
            f"({escaped(compiled.artifact.manifest.document.name)}); answers can differ for that reason.",
            soft_wrap=True,
        )


def show_what_was_read(console: Console, document: Document) -> None:
    """Say what of a document was left out, and what else the user must know of how it was read."""
    for skipped in document.skipped:
        console.print(f"[yellow]Left out:[/yellow] {escaped(skipped)}", soft_wrap=True)
    for notice in document.notices:
        console.print(f"[yellow]Note:[/yellow] {escaped(notice)}", soft_wrap=True)


def check_target(path: Path, *inputs: Path | None) -> None:
    """Refuse a place that cannot be written to, or that holds an input, before any work is done."""
    if any(given is not None and given.resolve() == path.resolve() for given in inputs):
        raise SettingsError(f"{path} would be overwritten, but it is read here; write to another file.")
    if path.is_dir():
        raise SettingsError(f"{path} is a folder; give the name of a file to write.")
    if not path.absolute().parent.is_dir():
        raise SettingsError(f"There is no folder {path.absolute().parent} to write {path.name} to.")


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object; characters that the terminal does not have are escaped, and none is lost."""
    text = json.dumps(values, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(values)
    print(text)


def escaped(text: str) -> str:
    """Let no part of a text be taken for markup."""
    from rich.markup import escape

    return escape(text)
