"""`precis evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from precis.cli.common import (
    ArtifactPath,
    ModelName,
    check_target,
    err,
    loading,
    out,
    warn_of_other_document,
)


def evaluate(
    artifact: ArtifactPath,
    document: Annotated[Path, typer.Option(help="The document that was compiled.")],
    questions: Annotated[
        Path,
        typer.Option(
            help="Questions that it was not trained on: JSONL, a table (CSV, TSV, XLSX), a published set's "
            "JSON, or text with one a line."
        ),
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
    from precis.baselines import names_in
    from precis.cli.display import Bars, show_answers, show_report
    from precis.compiled import load
    from precis.evaluation.evaluate import evaluate as evaluate_artifact
    from precis.storage import write_atomically
    from precis.text.document import read
    from precis.text.questions import read_questions

    baselines = names_in(methods)
    asked = read_questions(questions)
    text = read(document)
    for target in (json_file, html):
        if target is not None:
            check_target(target, artifact, document, questions, other)
    control = None if other is None else Artifact.open(other)
    compiled = loading(lambda: load(artifact, model))
    warn_of_other_document(compiled, text.sha256, document)
    with Bars(err) as bars:
        report = evaluate_artifact(
            compiled.artifact,
            text,
            asked,
            model=compiled.model,
            methods=baselines,
            other=control,
            progress=bars,
        )
    show_report(out, report)
    show_answers(out, report, show)
    if json_file is not None:
        write_atomically(json_file, (json.dumps(report.to_json(), indent=2) + "\n").encode())
    if html is not None:
        from precis.evaluation.report_page import page

        write_atomically(html, page(report, text).encode())
