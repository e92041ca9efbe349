"""What baselines that evict keys share: a score for every key of the document's own cache."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from precis.baselines.baseline import Baseline, Task
from precis.model.prefix import Prefix
from precis.model.selection import best_of_each_head


class Eviction(Baseline):
    """Keep, of the document's own keys and values, the `slots` of every layer and KV head that score best.

    What is scored is all that stands before a question: the document in its template. The keys that stay
    keep their rotation, and the question stands where it would after the whole document.
    """

    @abstractmethod
    def scores(self, task: Task, tokens: list[int]) -> tuple[Prefix, Tensor]:
        """Read the tokens, and score their keys.

        Returns
        -------
        The prefix of the tokens, and `[layer, kv_head, token]`: the larger, the more worth keeping.
        """

    def prefix(self, task: Task) -> Prefix:
        """Keep the best keys, in the document's order."""
        document, scores = self.scores(task, task.whole_reading())
        return best_of_each_head(scores, task.slots).of(document)
