"""`precis export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from precis.cli.common import ArtifactPath, ModelName, escaped, loading, out


def export_command(
    artifact: ArtifactPath,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder to make.")],
    to: Annotated[
        str,
        typer.Option(
            help="transformers: a key-value cache for generate, with a script that uses it; peft: an adapter "
            "for PeftModel.from_pretrained."
        ),
    ] = "transformers",
    model: ModelName = None,
) -> None:
    """Write a soft prompt in another tool's format.

    Only one that was compiled with --no-bias can be exported: other tools know no slot biases.
    """
    from precis.compiled import load
    from precis.export import target_named

    target = target_named(to)
    compiled = loading(lambda: load(artifact, model=model))
    target.write(compiled.artifact, compiled.model, folder)
    out.print(f"{escaped(str(folder))}: {target.meaning}", soft_wrap=True)
