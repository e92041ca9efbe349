"""The command line: `precis compile`, `read`, `ask`, `evaluate`, `inspect`, `export`, `serve`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from precis.cli.ask import ask
from precis.cli.common import err, escaped, replace_what_cannot_be_shown
from precis.cli.compile import compile_command
from precis.cli.evaluate import evaluate
from precis.cli.export import export_command
from precis.cli.inspect import inspect
from precis.cli.read import read_command
from precis.cli.serve import serve_command
from precis.errors import PrecisError
from precis.model.runtime import keep_freed_memory

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
app.command("compile")(compile_command)
app.command("read")(read_command)
app.command("ask")(ask)
app.command("evaluate")(evaluate)
app.command("inspect")(inspect)
app.command("export")(export_command)
app.command("serve")(serve_command)

_INTERRUPTED = 130  # what the CLI library makes of Ctrl-C


def main() -> None:
    """Run, and let no mistake of the user end in a traceback."""
    replace_what_cannot_be_shown()
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
        err.print(f"[bold red]Error:[/bold red] {escaped(str(error))}", soft_wrap=True)
        if error.settings:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in error.settings)
            err.print(f"[dim]See {options}.[/dim]", soft_wrap=True)
        raise SystemExit(2) from None
