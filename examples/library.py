"""Compile a document and ask it, from Python: `python examples/library.py DOCUMENT QUESTION…`."""

import sys
from pathlib import Path

import precis


def main(path: str, *questions: str, settings: precis.Settings | None = None) -> list[str]:
    """Compile a document into a file beside it, unless that is there; answer questions from the file."""
    compiled = Path(path).with_suffix(".precis")
    if not compiled.exists():
        precis.compile(precis.read(path), settings=settings, progress=Narrator()).save(compiled)
    document = precis.load(compiled)
    texts = []
    for question in questions:
        answer = document.ask(question)
        sure = "" if answer.confidence is None else f" (sure to {answer.confidence:.0%})"
        print(f"{question}\n  {answer.text}{sure}")
        for passage in answer.passages:
            print(f"  from: {passage.text}")
        texts.append(answer.text)
    return texts


class Narrator(precis.Progress):
    """Tells what a compile is doing."""

    def stage(self, name: str, total: int | None) -> None:
        """Name the stage that begins."""
        print(f"{name} …", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
