"""Exported soft prompts answer in the other tool as they do here."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import DynamicCache

from precis.artifact import Artifact
from precis.compilation.sealing import model_record
from precis.errors import ArtifactError, SettingsError, StorageError
from precis.export import TARGETS, target_named
from precis.manifest import DocumentRecord, Manifest
from precis.model.prefix import Prefix
from precis.model.soft_prompt import KeyValuePrompt
from tests.conftest import make_model
from tests.test_artifact import make_artifact

DOCUMENT = list(range(20, 60))
QUESTION = [70, 71, 72, 73]
TOKENS = 8


def artifact_of(model, prefix):
    manifest = Manifest(
        model=model_record(model),
        document=DocumentRecord("d.md", "0", len(DOCUMENT)),
        form="kv",
        slots=prefix.slots,
        ratio=len(DOCUMENT) / prefix.slots,
        next_position=prefix.next_position,
        objective="nll",
        objective_weight=0.0,
        warm_start="even",
        seed=0,
    )
    return Artifact(manifest, KeyValuePrompt(prefix).tensors(model.dtype))


@pytest.fixture(scope="module")
def model():
    # heads as wide as PEFT takes them to be; float32, as what an artifact holds is rounded to it
    made = make_model("llama", head_dim=12, hidden_size=48)
    return type(made).wrap(made.network.float(), made.tokenizer, "llama")


@pytest.fixture(scope="module")
def soft_prompt(model):
    """Some slots of a document, after which the next token stands at the end of all of it."""
    document = model.prefill(DOCUMENT)
    places = torch.tensor([0, 3, 9, 17, 22, 30, 31, 39])
    return document.select(places.expand(model.layers, model.kv_heads, -1))


@pytest.fixture(scope="module")
def expected(model, soft_prompt):
    (said,) = model.given(soft_prompt).generate([QUESTION], max_tokens=TOKENS)
    return said.tokens


def plain_network(model):
    network = copy.deepcopy(model.network)
    network.set_attn_implementation("eager")
    return network


def test_transformers_says_the_same_after_the_exported_cache(model, soft_prompt, expected, tmp_path):
    target_named("transformers").write(artifact_of(model, soft_prompt), model, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "soft_prompt.safetensors")
    about = json.loads((tmp_path / "out" / "soft_prompt.json").read_text())
    assert about["slots"] == soft_prompt.slots
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(zip(tensors["keys"], tensors["values"], strict=True)):
        cache.update(keys.unsqueeze(0), values.unsqueeze(0), layer)
    ids = torch.tensor([[0] * about["slots"] + QUESTION])
    out = plain_network(model).generate(
        ids,
        attention_mask=torch.ones_like(ids),
        past_key_values=cache,
        max_new_tokens=TOKENS,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=sorted(model.chat.stop_tokens),
    )
    assert out[0, ids.shape[1] :].tolist() == expected


def test_peft_says_the_same_after_the_exported_adapter(model, soft_prompt, expected, tmp_path):
    peft = pytest.importorskip("peft")
    target_named("peft").write(artifact_of(model, soft_prompt), model, tmp_path / "out")
    adapted = peft.PeftModel.from_pretrained(plain_network(model), tmp_path / "out")
    tokens, said = list(QUESTION), []
    for _ in range(TOKENS):
        with torch.no_grad():
            logits = adapted(torch.tensor([tokens]), attention_mask=torch.ones(1, len(tokens))).logits
        said.append(int(logits[0, -1].argmax()))
        tokens.append(said[-1])
        if said[-1] in model.chat.stop_tokens:
            break
    assert said == expected


@pytest.mark.parametrize("name", TARGETS)
def test_a_soft_prompt_that_others_cannot_carry_is_refused(name, model, tmp_path):
    with pytest.raises(ArtifactError, match="without biases"):
        target_named(name).write(make_artifact(model), model, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_model_with_sliding_windows_is_refused(tmp_path):
    sliding = make_model("mistral")
    prefix = sliding.prefill(DOCUMENT)
    with pytest.raises(ArtifactError, match="sliding-window"):
        target_named("transformers").write(artifact_of(sliding, prefix), sliding, tmp_path / "out")


def test_what_stands_in_the_place_is_left_alone(model, soft_prompt, tmp_path):
    with pytest.raises(StorageError, match="there already"):
        target_named("transformers").write(artifact_of(model, soft_prompt), model, tmp_path)


def test_what_is_no_format_is_refused():
    with pytest.raises(SettingsError, match="transformers, peft"):
        target_named("onnx")


def test_a_prefix_goes_to_a_transformers_cache_and_comes_back(model):
    document = model.prefill(DOCUMENT)
    again = Prefix.from_cache(document.to_cache())
    assert torch.equal(again.keys, document.keys)
    assert torch.equal(again.values, document.values)
    assert again.next_position == document.next_position
    ids = torch.tensor([DOCUMENT])
    cache = DynamicCache()
    with torch.no_grad():
        plain_network(model)(ids, past_key_values=cache)
    (one,) = model.given(Prefix.from_cache(cache)).generate([QUESTION], max_tokens=TOKENS)
    (other,) = model.given(document).generate([QUESTION], max_tokens=TOKENS)
    assert one.tokens == other.tokens


def test_a_prefix_with_biases_goes_to_no_cache(model, soft_prompt):
    biased = Prefix(
        soft_prompt.keys,
        soft_prompt.values,
        soft_prompt.positions,
        soft_prompt.next_position,
        torch.zeros(soft_prompt.positions.shape),
    )
    with pytest.raises(ArtifactError, match="biases"):
        biased.to_cache()
