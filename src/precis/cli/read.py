"""`precis read`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from precis.cli.common import err, show_what_was_read
from precis.text.readers import READABLE

if TYPE_CHECKING:
    from precis.text.document import Document


def read_command(
    document: Annotated[Path, typer.Argument(metavar="DOCUMENT", help=f"{READABLE}; or a folder of them.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the text, its pages and the notices as JSON.")
    ] = False,
) -> None:
    """Print a document as the model will read it, to look at before it is compiled.

    A line before each page names it where there are several. What was left out, and what else is worth
    knowing of how the document was read, goes to the standard error.
    """
    from precis.text.document import read

    text = read(document)
    if as_json:
        print(json.dumps(_as_json(text), indent=2, ensure_ascii=False))
        return
    print("\n\n".join(_pages(text)))
    show_what_was_read(err, text)


def _pages(document: Document) -> Iterator[str]:
    """Give the text page by page, each under its name where there are several."""
    for page in document.pages:
        text = document.text[page.start : page.end]
        several = len(document.pages) > 1
        yield f"--- {_name(document, page.source, page.number)} ---\n\n{text}" if several else text


def _name(document: Document, source: str, number: int) -> str:
    """Name a page by its file and number, without the number in a file that has no pages."""
    has_pages = number > 1 or any(page.source == source and page.number > 1 for page in document.pages)
    return f"{source}, page {number}" if has_pages else source


def _as_json(document: Document) -> dict[str, object]:
    """Return what `--json` prints; offsets are in characters of the text."""
    return {
        "name": document.name,
        "sha256": document.sha256,
        "characters": len(document.text),
        "pages": [
            {"source": page.source, "number": page.number, "start": page.start, "end": page.end}
            for page in document.pages
        ],
        "notices": [*document.skipped, *document.notices],
        "text": document.text,
    }
