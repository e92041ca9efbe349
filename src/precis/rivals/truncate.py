"""The beginning of the document, as long as there are slots."""

from __future__ import annotations

from precis.prefix import Prefix
from precis.rivals.rival import Rival, Task, read_tokens


class Truncate(Rival):
    """Keep the first `slots` tokens of the document.

    The tokens of the template around the document are free of charge, which is generous: σ and the
    rivals that evict keys pay for them out of their slots.
    """

    name = "truncate"

    def prefix(self, task: Task) -> Prefix:
        """Read the first tokens of the document."""
        tokens = task.model.chat.encode_plainly(task.document.text)[: task.slots]
        task.check_room(len(task.model.chat.reading("")) + len(tokens))
        return read_tokens(task, tokens)
