"""`precis inspect`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from precis.cli.common import ArtifactPath, out


def inspect(
    artifact: ArtifactPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Show what a compiled document is: its model, document, settings and measured fidelity."""
    from precis.artifact import Artifact

    manifest = Artifact.open(artifact).manifest
    if as_json:
        print(json.dumps(manifest.to_json(), indent=2, ensure_ascii=False))
        return
    from precis.cli.display import describe

    describe(out, manifest, artifact)
