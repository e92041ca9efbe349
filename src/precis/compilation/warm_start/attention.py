"""`attention`: the slots that the questions and answers of self-study need most.

As many of them in each layer and KV head as are worth it there.
"""

from __future__ import annotations

from torch import Tensor

from precis.compilation.warm_start.warm_start import Material, WarmStart
from precis.model.prefix import Prefix
from precis.model.selection import Selection, best_of_all, best_of_each_head, never_left_out
from precis.model.soft_prompt import SINK


class Attention(WarmStart):
    """Slots with the highest scores, as they are."""

    name = "attention"
    needs_scores = True

    def key_values(self, material: Material) -> Prefix:
        """Keep the best slots."""
        return self.selected(material).of(material.document)

    @staticmethod
    def selected(material: Material) -> Selection:
        """Choose them: of all heads together, or of each by itself where heads must be alike."""
        if material.bias:
            return best_of_all(material.scores, material.slots, SINK)
        return best_of_each_head(never_left_out(material.scores, slice(SINK)), material.slots)

    def embeddings(self, material: Material) -> Tensor:
        """Keep the tokens with the highest scores over all layers and heads."""
        assert material.embeddings is not None
        scores = material.scores
        overall = (scores / scores.sum(-1, keepdim=True).clamp(min=1e-30)).sum((0, 1), keepdim=True)
        places = best_of_each_head(never_left_out(overall, slice(SINK)), material.slots).indices
        return material.embeddings[places[0, 0]]
