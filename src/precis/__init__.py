"""Compile a long document into a short soft prompt for a frozen language model, and ask it.

    import precis

    document = precis.read("handbook.pdf")
    artifact = precis.compile(document)
    artifact.save("handbook.precis")

    handbook = precis.load("handbook.precis")
    print(handbook.ask("When does the harbour close?").text)

Names
-----
read
    A file or folder → `Document`.
compile, Settings, Schedule, Progress
    `Document` → `Artifact`: how, and who is told of it.
load
    A `.precis` file → `Compiled`: the artifact with its model, ready to be asked.
load_model, LanguageModel
    A frozen model by name; `LanguageModel.wrap` takes one that is loaded already.
Prefix
    What the model can be conditioned on: σ, or any document's keys and values.
evaluate
    `Artifact`, `Document`, questions → `Report`.
read_questions, Question
    A questions file → questions for `compile` or `evaluate`.
PrecisError
    Base of all errors raised on purpose.
"""

import lazy_loader

# A name is imported when it is first used: `precis --help` must not wait for PyTorch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
