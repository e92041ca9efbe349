"""The frozen model: load it, let it read (`prefill`), and condition it on a prefix (`given`).

teacher = model.given(model.prefill(tokens))
student = model.given(soft_prompt.prefix())
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from precis.errors import ModelError
from precis.model import decoding
from precis.model.attention import dispatch
from precis.model.attention.layout import Batch, LayerLimits, Observer, ReadStates
from precis.model.chat import Chat
from precis.model.conditioned import Conditioned
from precis.model.decoding import Generation, Request
from precis.model.prefix import Prefix


class LanguageModel:
    """A frozen Hugging Face causal language model.

    Parameters
    ----------
    name
        What the user called it.
    network
        The loaded model, which attends through `attention.dispatch.IMPLEMENTATION`.
    tokenizer
        Its tokenizer.

    Raises
    ------
    ModelError
        The network has layers that a prefix of keys and values cannot condition, or the tokenizer is another
        model's or has a chat template that cannot be used.
    """

    def __init__(self, name: str, network: Any, tokenizer: Any) -> None:
        self.name = name
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        config = network.config.get_text_config()
        self.layers: int = config.num_hidden_layers
        self.hidden_size: int = config.hidden_size
        self.window: int = config.max_position_embeddings
        self.chat = Chat(tokenizer, _stop_tokens(network))
        known, highest = len(network.get_input_embeddings().weight), self.chat.highest_token()
        if highest >= known:
            raise ModelError(
                f"The tokenizer of {name} is another model's: its tokens go up to {highest:,}, and the "
                f"network knows {known:,}. Take both from one model."
            )
        parameter = next(network.parameters())
        self.device: torch.device = parameter.device
        self.dtype: torch.dtype = parameter.dtype
        self.kv_heads, self.head_dim, self.limits = self._measure_heads()
        self.digest = weights_digest(network)
        self.tokenizer_digest = tokenizer_digest(tokenizer)

    @classmethod
    def wrap(cls, network: Any, tokenizer: Any, name: str | None = None) -> LanguageModel:
        """Take a model that was loaded already.

        The network is not copied: it is frozen, put into evaluation mode, and attends through precis from now
        on. Give it back to ordinary use with transformers' own `network.set_attn_implementation`.

        Parameters
        ----------
        network
            A causal language model of transformers, on the device and in the precision to compute in.
        tokenizer
            Its tokenizer.
        name
            What to call it; by default the name that it was loaded by. An artifact that was compiled with it
            finds its model again by that name.

        Raises
        ------
        ModelError
            The network has layers that a prefix of keys and values cannot condition.
        """
        dispatch.register()
        network.set_attn_implementation(dispatch.IMPLEMENTATION)
        return cls(name or network.name_or_path or network.config.model_type, network, tokenizer)

    @property
    def token_bytes(self) -> int:
        """Memory that the keys and values of one token take."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype.itemsize

    def empty_prefix(self) -> Prefix:
        """Give the prefix of no token."""
        return Prefix.empty(self.layers, self.kv_heads, self.head_dim, dtype=self.dtype, device=self.device)

    def prefill(
        self,
        tokens: Sequence[int] | Tensor,
        after: Prefix | None = None,
        *,
        observe: Observer | None = None,
    ) -> Prefix:
        """Read, once: the keys and values of a text, as a prefix.

        Parameters
        ----------
        tokens
            Token ids, or input embeddings `[token, hidden]` (differentiable).
        after
            What stands before the text; the result then includes it.
        observe
            Sees the queries of every layer; see `attention.layout.Observer`.

        Raises
        ------
        ModelError
            The text does not fit the model's window.
        """
        before = self.empty_prefix() if after is None else after
        length = len(tokens)
        if length == 0:
            return before
        end = before.next_position + length
        if end > self.window:
            raise ModelError(
                f"{end} tokens do not fit the window of {self.name}, which is {self.window} tokens."
            )
        column = torch.arange(length, device=self.device)
        reading = ReadStates()
        batch = Batch(torch.zeros_like(column), column, before, 1, length, observe=observe, reading=reading)
        with torch.set_grad_enabled(isinstance(tokens, Tensor) and tokens.requires_grad):
            self.forward(tokens, batch, column[-1:])
        keys = torch.stack([reading.states[layer][0] for layer in range(self.layers)])
        values = torch.stack([reading.states[layer][1] for layer in range(self.layers)])
        positions = batch.positions.expand(self.layers, self.kv_heads, -1)
        new = Prefix(keys, values, positions, end)
        return new if before.slots == 0 else before.followed_by(new)

    def given(self, prefix: Prefix) -> Conditioned:
        """Condition the model: whatever it scores or writes then stands after the prefix."""
        return Conditioned(self, prefix.to(self.device, self.dtype))

    def generate(
        self, requests: Sequence[Request], *, progress: Callable[[int], None] = lambda _: None
    ) -> list[Generation]:
        """Answer many requests together, whatever stands before each.

        Parameters
        ----------
        requests
            The same `Prefix` object before several is held once.
        progress
            Called with the number of requests that were just finished.

        Raises
        ------
        QuestionsError
            A prompt leaves no room for an answer in the model's window.
        """
        return decoding.generate(self, requests, progress=progress)

    def embed(self, tokens: Sequence[int]) -> Tensor:
        """Give the input embeddings `[token, hidden]` of some tokens."""
        ids = torch.tensor(list(tokens), device=self.device)
        table: Tensor = self.network.get_input_embeddings()(ids)
        return table

    def forward(self, tokens: Sequence[int] | Tensor, batch: Batch, wanted: Tensor) -> Tensor:
        """Run the network over packed tokens; logits `[wanted, vocabulary]` in float32."""
        if isinstance(tokens, Tensor) and tokens.is_floating_point():
            given = {"inputs_embeds": tokens.unsqueeze(0)}
        else:
            given = {"input_ids": torch.as_tensor(tokens, device=self.device).unsqueeze(0)}
        out = self.network(
            **given,
            position_ids=batch.positions.unsqueeze(0),
            use_cache=False,
            logits_to_keep=wanted,
            batch=batch,
        )
        logits: Tensor = out.logits[0].float()
        return logits

    def _measure_heads(self) -> tuple[int, int, list[LayerLimits]]:
        """Let the network read one token, and see that every layer attends through our function."""
        column = torch.zeros(1, dtype=torch.int64, device=self.device)
        nothing = Prefix.empty(0, 0, 0, dtype=self.dtype, device=self.device)
        reading = ReadStates()
        batch = Batch(column, column, nothing, count=1, width=1, reading=reading)
        with torch.no_grad():
            self.forward([0], batch, column)
        missing = sorted(set(range(self.layers)) - set(reading.states))
        if missing:
            raise ModelError(
                f"{self.name} ({self.network.config.model_type}) cannot be given a soft prompt: "
                f"{len(missing)} of its {self.layers} layers do not attend to keys and values "
                "through transformers' attention interface. Choose a model in which all layers do."
            )
        shapes = {(key.shape[0], key.shape[2]) for key, value in reading.states.values()}
        shapes |= {(value.shape[0], value.shape[2]) for key, value in reading.states.values()}
        if len(shapes) > 1:
            raise ModelError(
                f"{self.name} ({self.network.config.model_type}) cannot be given a soft prompt: "
                f"its layers differ in the shape of keys and values ({sorted(shapes)})."
            )
        return *shapes.pop(), [reading.limits[layer] for layer in range(self.layers)]


def _stop_tokens(network: Any) -> list[int]:
    """End-of-answer tokens of the model's generation settings."""
    stops = getattr(network.generation_config, "eos_token_id", None)
    if stops is None:
        return []
    return [stops] if isinstance(stops, int) else list(stops)


def weights_digest(network: Any) -> str:
    """Fingerprint the weights: names, shapes and evenly spaced values of every tensor.

    The values are taken in bfloat16, so that the same weights loaded in another precision have the
    same fingerprint. Sampling keeps start-up short; any fine-tuning moves some of the values.
    """
    sha = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        sha.update(f"{name} {tuple(tensor.shape)}".encode())
        flat = tensor.reshape(-1)
        sample = flat[:: max(1, flat.numel() // 1024)].to("cpu", torch.bfloat16)
        sha.update(sample.view(torch.int16).numpy().tobytes())
    return sha.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """Fingerprint what text becomes: the vocabulary and the chat template."""
    sha = hashlib.sha256()
    for token, index in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        sha.update(f"{index} {token}\n".encode(errors="surrogatepass"))
    sha.update(str(tokenizer.chat_template).encode())
    return sha.hexdigest()
