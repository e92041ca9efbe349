"""The beginning of the document, as long as there are slots."""

from __future__ import annotations

from precis.baselines.baseline import Baseline, Task, read_tokens
from precis.model.prefix import Prefix


class Truncate(Baseline):
    """Keep the first `slots` tokens of the document.

    The tokens of the template around the document are free of charge, which is generous: σ and the
    baselines that evict keys pay for them out of their slots.
    """

    name = "truncate"

    def prefix(self, task: Task) -> Prefix:
        """Read the first tokens of the document."""
        tokens = task.model.chat.encode_plainly(task.document.text)[: task.slots]
        task.check_room(len(task.model.chat.document_prompt("")) + len(tokens))
        return read_tokens(task, tokens)
