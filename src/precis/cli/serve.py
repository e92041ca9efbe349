"""`precis serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from precis.cli.common import ModelName
from precis.errors import SettingsError
from precis.model.runtime import GIVING_WAY


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
        from precis.serve.api.access import read_keys
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
