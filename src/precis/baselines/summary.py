"""The model's own summary, as long as there are slots."""

from __future__ import annotations

from precis.baselines.baseline import Baseline, Task, read_tokens
from precis.errors import ModelError
from precis.model.prefix import Prefix

# English words a token, about.
WORDS_A_TOKEN = 0.75


class Summary(Baseline):
    """Read, in the document's place, a summary that the model wrote of it.

    The oldest way to shorten a prompt, with no paper of its own. The summary is written greedily with the
    whole document in context, and has at most `slots` tokens; the template around it is free of charge, as
    for `truncate`.
    """

    name = "summary"

    def prefix(self, task: Task) -> Prefix:
        """Let the model write the summary, and read it."""
        model = task.model
        words = max(1, round(WORDS_A_TOKEN * task.slots))
        before, rest = model.chat.conversation(
            (),
            f"{task.document.text}\n\nSummarise this text in about {words} words. "
            "Keep its names, numbers and facts.",
        )
        reading = [*before, *rest]
        task.check_room(len(reading) + task.slots)
        given = model.given(model.prefill(reading[:-1]))
        (generation,) = given.generate([reading[-1:]], max_tokens=task.slots)
        tokens = model.chat.encode_plainly(model.chat.decode(generation.tokens))[: task.slots]
        if not tokens:
            raise ModelError(
                f"{model.name} wrote no summary of the document: its answer was empty. Choose another model, "
                "or leave the method out."
            )
        return read_tokens(task, tokens)
