"""Jupyter notebooks: what was written, run and printed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from precis.text.readers.plain import decode
from precis.text.readers.reader import Pages, Reader, UnreadableError

# Colours of a terminal.
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Notebook(Reader):
    """Text as it is, code and what it printed between fences; pictures are told of."""

    name = "IPYNB"
    suffixes = (".ipynb",)

    def pages(self, data: bytes) -> list[str]:
        """Give the whole notebook as one page."""
        return self.read(data).texts

    def read(self, data: bytes) -> Pages:
        """Give the whole notebook as one page, and tell of the pictures in it."""
        try:
            notebook = json.loads(decode(data))
            cells = notebook["cells"] if "cells" in notebook else _cells_of_version_3(notebook)
            language = str(notebook.get("metadata", {}).get("kernelspec", {}).get("language", "python"))
            texts = [text for cell in cells for text in _cell(cell, language) if text.strip()]
            pictures = sum(map(_pictures, cells))
        except (ValueError, TypeError, KeyError, AttributeError) as cause:
            raise UnreadableError("a damaged notebook; open it in Jupyter and save it again") from cause
        notices = [f"{pictures} of its outputs are pictures, which are not read"] if pictures else []
        return Pages(["\n\n".join(texts)], notices)


def _cells_of_version_3(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for sheet in notebook["worksheets"] for cell in sheet["cells"]]


def _cell(cell: dict[str, Any], language: str) -> Iterator[str]:
    source = _joined(cell.get("source", cell.get("input", "")))
    if cell["cell_type"] == "heading":
        yield f"{'#' * int(cell.get('level', 1))} {source}"
    elif cell["cell_type"] != "code":
        yield source
    elif source.strip():
        yield _fenced(source, language)
    for output in cell.get("outputs", []):
        if text := _output(output):
            yield text


def _output(output: dict[str, Any]) -> str:
    """Return what an output says; nothing for a picture, whose text is only its name in memory."""
    if output["output_type"] == "stream":
        return _fenced(_joined(output.get("text", "")), "")
    if output["output_type"] in {"error", "pyerr"}:
        return _fenced(f"{output.get('ename', 'Error')}: {output.get('evalue', '')}", "")
    shown = output.get("data", {})
    if _is_picture(output):
        return ""
    if "text/markdown" in shown:
        return _joined(shown["text/markdown"])
    return _fenced(_joined(shown.get("text/plain", output.get("text", ""))), "")


def _is_picture(output: dict[str, Any]) -> bool:
    return any(
        kind.startswith("image/") or kind in {"png", "jpeg", "svg"} for kind in output.get("data", output)
    )


def _pictures(cell: dict[str, Any]) -> int:
    return sum(map(_is_picture, cell.get("outputs", [])))


def _joined(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)


def _fenced(text: str, language: str) -> str:
    text = _ESCAPES.sub("", text).strip("\n")
    fence = "````" if "```" in text else "```"
    return f"{fence}{language}\n{text}\n{fence}" if text.strip() else ""
