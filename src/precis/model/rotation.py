"""The rotary embedding of a model, and its inverse: queries as they are before they are rotated."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precis.errors import ModelError
from precis.model.language_model import LanguageModel


class Rotation:
    """Rotates states to positions and back, by the functions of the model's own code.

    Parameters
    ----------
    model
        Whose rotary embedding.

    Raises
    ------
    ModelError
        The model has no rotary embedding of the usual form.
    """

    def __init__(self, model: LanguageModel) -> None:
        network = model.network
        self._embedding: Any = getattr(network.base_model, "rotary_emb", None)
        apply: Any = getattr(sys.modules[type(network).__module__], "apply_rotary_pos_emb", None)
        if self._embedding is None or apply is None:
            raise ModelError(
                f"{model.name} ({network.config.model_type}) has no rotary embedding of the usual form, "
                "which this method needs in order to undo it. Leave the method out for this model."
            )
        self._apply: Callable[..., tuple[Tensor, Tensor]] = apply
        self._device = model.device
        # models whose layers rotate differently name the kind of each layer
        self._kinds: list[str] | None = None
        if "layer_type" in inspect.signature(self._embedding.forward).parameters:
            self._kinds = list(network.config.get_text_config().layer_types)

    def rotate(self, layer: int, states: Tensor, positions: Tensor) -> Tensor:
        """Rotate states `[token, head, head_dim]` to positions `[token]`."""
        return self._turned(states, *self._angles(layer, positions))

    def undo(self, layer: int, states: Tensor, positions: Tensor) -> Tensor:
        """Take the rotation to positions `[token]` from states `[token, head, head_dim]`."""
        cos, sin = self._angles(layer, positions)
        # long-context variants also scale, by cos² + sin²
        scale = cos.square() + sin.square()
        return self._turned(states, cos / scale, -sin / scale)

    def mean_matrix(self, layer: int, positions: Tensor, head_dim: int) -> Tensor:
        """Give the mean of the rotations to some positions, as a matrix `[head_dim, head_dim]`.

        It maps a column of a state before the rotation to the mean of what the rotations make of it.
        """
        cos, sin = self._angles(layer, positions)
        axes = torch.eye(head_dim, dtype=cos.dtype, device=cos.device).unsqueeze(0)
        # rotations are linear in cosine and sine
        return self._turned(axes, cos.mean(0, keepdim=True), sin.mean(0, keepdim=True))[0].T

    def _angles(self, layer: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines `[token, rotated dimension]`, at least float32."""
        kind = () if self._kinds is None else (self._kinds[layer],)
        like = torch.zeros(1, dtype=torch.float64, device=self._device)
        cos, sin = self._embedding(like, positions.unsqueeze(0), *kind)
        return cos[0], sin[0]

    def _turned(self, states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        given = states.transpose(0, 1).unsqueeze(0)
        turned, _ = self._apply(given, given, cos.unsqueeze(0), sin.unsqueeze(0))
        return turned[0].transpose(0, 1)
