"""σ, the soft prompt: the only thing that is trained.

Two forms, each yielding a `Prefix`: keys and values for every layer and head (the default: more room
a slot, nothing to recompute when answering), or input embeddings, which the model reads as if they
were tokens. The first slot is the attention sink; it is kept as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix

SINK = 1


class SoftPrompt(ABC):
    """A trainable σ."""

    form: ClassVar[str]

    @property
    @abstractmethod
    def slots(self) -> int:
        """Number of slots, the sink included."""

    @abstractmethod
    def parameters(self) -> dict[str, nn.Parameter]:
        """Name what is trained, in float32."""

    @abstractmethod
    def prefix(self, model: LanguageModel) -> Prefix:
        """Give the prefix in the model's precision; differentiable in the parameters."""

    @abstractmethod
    def tensors(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Give what an artifact stores."""


class KeyValuePrompt(SoftPrompt):
    """σ as keys and values `[layer, kv_head, slot, head_dim]`, with an optional bias a slot.

    Parameters
    ----------
    start
        The warm start σ₀; its slot 0 is the sink. Slots that a bias of −inf hides stay hidden: no gradient
        reaches them.
    """

    form = "kv"

    def __init__(self, start: Prefix) -> None:
        self._start = start.to(start.keys.device, torch.float32)
        self.keys = nn.Parameter(self._start.keys[:, :, SINK:].clone())
        self.values = nn.Parameter(self._start.values[:, :, SINK:].clone())
        self.bias: nn.Parameter | None = None
        if self._start.bias is not None:
            self.bias = nn.Parameter(self._start.bias[:, :, SINK:].clone())

    @property
    def slots(self) -> int:
        """Number of slots, the sink included."""
        return self._start.slots

    def parameters(self) -> dict[str, nn.Parameter]:
        """Name what is trained: keys, values and, where σ₀ has it, the bias."""
        named = {"keys": self.keys, "values": self.values}
        return named if self.bias is None else {**named, "bias": self.bias}

    def prefix(self, model: LanguageModel) -> Prefix:
        """Put the frozen sink before the trained slots."""
        return self._joined().to(model.device, model.dtype)

    def tensors(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Give what an artifact stores; see `Prefix.packed`."""
        packed = self._joined().packed()
        packed = {
            name: tensor.to(dtype) if name in ("keys", "values") else tensor
            for name, tensor in packed.items()
        }
        return {name: tensor.detach().cpu().contiguous() for name, tensor in packed.items()}

    @property
    def next_position(self) -> int:
        """Where the first token after σ stands."""
        return self._start.next_position

    def _joined(self) -> Prefix:
        start = self._start
        bias = None
        if start.bias is not None and self.bias is not None:
            bias = torch.cat([start.bias[:, :, :SINK], self.bias], dim=2)
        return replace(
            start,
            keys=torch.cat([start.keys[:, :, :SINK], self.keys], dim=2),
            values=torch.cat([start.values[:, :, :SINK], self.values], dim=2),
            bias=bias,
        )


class EmbeddingPrompt(SoftPrompt):
    """σ as input embeddings `[slot, hidden]`: 1/30 of the size, read anew by every layer.

    Parameters
    ----------
    start
        `[slot, hidden]`: the warm start σ₀; its slot 0 is the sink.
    """

    form = "embedding"

    def __init__(self, start: Tensor) -> None:
        self._sink = start[:SINK].detach().float()
        self.embeddings = nn.Parameter(start[SINK:].detach().float().clone())

    @property
    def slots(self) -> int:
        """Number of slots, the sink included."""
        return SINK + self.embeddings.shape[0]

    def parameters(self) -> dict[str, nn.Parameter]:
        """Name what is trained."""
        return {"embeddings": self.embeddings}

    def prefix(self, model: LanguageModel) -> Prefix:
        """Let the model read the embeddings."""
        return model.prefill(self._joined().to(model.device, model.dtype))

    def tensors(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Give the embeddings."""
        return {"embeddings": self._joined().detach().to("cpu", dtype).contiguous()}

    def _joined(self) -> Tensor:
        return torch.cat([self._sink, self.embeddings])
