"""What tests share: a tokenizer and tiny models of every architecture, made offline."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from precis.model.language_model import LanguageModel

RECALL_MODEL = Path(__file__).parent / "recall_model"
# What tests of numbers run on: the processor, and the graphics card where there is one.
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


# What starts servers and processes, or trains: `make check` leaves it to `make test`.
SLOW = (
    "serve",
    "cli",
    "compilation/test_general.py",
    "compilation/test_pipeline.py",
    "evaluation/test_evaluation.py",
    "test_baselines.py",
    "test_benchmarks.py",
    "test_calibration.py",
    "test_end_to_end.py",
    "test_examples.py",
)


def pytest_collection_modifyitems(items):
    """Mark the slow tests."""
    for item in items:
        place = item.path.relative_to(Path(__file__).parent)
        if any(place.is_relative_to(each) for each in SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="session")
def same_arithmetic():
    """Let models compute in float32, whatever this machine computes fastest: tests compare numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("precis.model.loading.arithmetic", lambda device: torch.float32)
        yield


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """So small models gain nothing from threads, which slow them down where other work runs."""
    torch.set_num_threads(1)


@pytest.fixture
def all_threads():
    """What a large model needs."""
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(1)


SMALL = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 1,
}

# The architectures that are proven, small; sliding windows shorter than the texts of the tests.
ARCHITECTURES = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 9},
    "gemma3_text": {
        "sliding_window": 9,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "query_pre_attn_scalar": 12,
    },
    # not on the list of the proven, but the only one with soft-capped attention scores
    "gemma2": {
        "sliding_window": 9,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "query_pre_attn_scalar": 12,
        "attn_logit_softcapping": 5.0,
    },
    "phi3": {"sliding_window": 9, "original_max_position_embeddings": 256},
}


def make_tokenizer(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """Train a byte-level tokenizer of 400 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<turn>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(["the harbour closes at nine, and the lamp is red " * 20], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = chat_template
    return fast


def make_network(model_type: str, vocabulary: int, seed: int = 0, **changes):
    """Build a tiny network from an architecture's own configuration, with random weights."""
    torch.manual_seed(seed)
    settings = {**SMALL, **ARCHITECTURES[model_type], **changes, "vocab_size": vocabulary}
    config = AutoConfig.for_model(model_type, **settings)
    network = AutoModelForCausalLM.from_config(config)
    # larger weights than a fresh network's, so that attention is sharp and errors show
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return network.to(torch.float64)


def make_model(model_type: str = "llama", seed: int = 0, *, device: str = "cpu", **changes) -> LanguageModel:
    """A tiny random model in double precision."""
    tokenizer = make_tokenizer()
    network = make_network(model_type, len(tokenizer), seed, **changes)
    return LanguageModel.wrap(network.to(device), tokenizer, model_type)


@pytest.fixture(scope="session", params=DEVICES)
def device(request) -> str:
    """Every device that there is, in turn."""
    return request.param


@pytest.fixture(scope="session", params=ARCHITECTURES)
def any_model(request, device) -> LanguageModel:
    """Every proven architecture in turn."""
    return make_model(request.param, device=device)


@pytest.fixture(scope="session")
def tiny_model(device) -> LanguageModel:
    """One tiny random model."""
    return make_model("llama", device=device)
