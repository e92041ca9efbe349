"""Models that are broken, or are no causal language models: one sentence says what is wrong."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from precis.errors import ModelError
from precis.model.checks import refuse_other_kinds
from precis.model.loading import load_model
from tests.conftest import SMALL, make_network, make_tokenizer

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 5000\n"
TURNS = "{% for message in messages %}<turn>{{ message['content'] }}<end>{% endfor %}"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PRECIS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """A tiny model as it is saved, to be broken."""
    tokenizer = make_tokenizer(TURNS)
    make_network("llama", len(tokenizer), tie_word_embeddings=False).float().save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def refusal(folder) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(str(folder))
    return str(caught.value)


def test_whole_it_loads(folder):
    model = load_model(str(folder))
    assert model.tokenizer.convert_tokens_to_ids("<end>") in model.chat.stop_tokens


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs(folder, name):
    (folder / name).write_bytes(POINTER)
    assert f"{name} is only a pointer of Git LFS" in refusal(folder)


def test_a_gguf_file_that_is_none(tmp_path):
    file = tmp_path / "m.gguf"
    file.write_bytes(POINTER)
    assert "pointer of Git LFS" in refusal(file)
    file.write_bytes(b"<html>")
    assert "no GGUF file" in refusal(file)
    file.write_bytes(b"GGUF" + bytes(30))
    assert "cannot be loaded" in refusal(file)


@pytest.mark.parametrize("length", [0, 5, 100, -1000])
def test_weights_that_are_cut_off(folder, length):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:length])
    assert "damaged or cut off: model.safetensors" in refusal(folder)


@pytest.mark.parametrize("length", [0, 1000])
def test_weights_in_torchs_format_that_are_cut_off(folder, length):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    weights = folder / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:length])
    assert "cannot be loaded" in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_settings_that_are_cut_off(folder, name):
    (folder / name).write_text((folder / name).read_text()[:-20])
    assert "cannot be loaded" in refusal(folder)


@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_a_tensor_that_is_missing(folder, name):
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert name in refusal(folder)


def test_a_part_of_the_weights_that_is_missing(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    assert "model-00002-of-00002.safetensors is missing (1 of 2 files are)" in refusal(folder)
    (folder / "model.safetensors.index.json").write_text("[]")
    assert "damaged model.safetensors.index.json" in refusal(folder)


def test_weights_of_another_shape(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 128}))
    assert "m " in refusal(folder)


def test_weights_that_are_tied_are_not_missing(tmp_path):
    tokenizer = make_tokenizer()
    make_network("llama", len(tokenizer), tie_word_embeddings=True).float().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert load_model(str(tmp_path)).prefill([5]).slots == 1


def test_a_tokenizer_of_another_model(folder):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"word{number}" for number in range(9)])
    tokenizer.chat_template = TURNS.replace("<turn>", "word8")
    tokenizer.save_pretrained(folder)
    assert "tokenizer" in refusal(folder)


def test_without_a_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "m " in refusal(folder)


def build(make, kind, folder, **changes):
    config = AutoConfig.for_model(kind, vocab_size=400, **changes)
    make.from_config(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)


def test_an_encoder_is_refused(tmp_path):
    small = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    for kind in ("bert", "roberta"):
        build(AutoModelForMaskedLM, kind, tmp_path / kind, **small)
        assert "an encoder, in which every token attends to those after it" in refusal(tmp_path / kind)
    tokens = dict.fromkeys([f"{name}_token_id" for name in ("pad", "bos", "eos", "cls", "sep")], 0)
    build(AutoModelForMaskedLM, "modernbert", tmp_path / "modern", **small, **tokens)
    assert "no causal language model" in refusal(tmp_path / "modern")


@pytest.mark.parametrize(
    "kind", ["gpt_neox", "gpt2", "opt", "llama", "qwen3", "gemma3_text", "phi3", "mistral"]
)
def test_causal_families_are_none_of_these(kind):
    refuse_other_kinds("m", AutoConfig.for_model(kind))


def test_an_encoder_with_a_decoder_is_refused(tmp_path):
    small = {"d_model": 48, "d_ff": 64, "d_kv": 12, "num_layers": 2, "num_heads": 4}
    build(AutoModelForSeq2SeqLM, "t5", tmp_path / "t5", **small)
    assert "an encoder with a decoder" in refusal(tmp_path / "t5")
    small = {"d_model": 48, "encoder_layers": 2, "decoder_layers": 2, "decoder_attention_heads": 4}
    build(AutoModelForSeq2SeqLM, "bart", tmp_path / "bart", **small, encoder_attention_heads=4)
    assert "an encoder with a decoder" in refusal(tmp_path / "bart")


def test_a_model_without_the_layer_that_writes_is_refused(tmp_path):
    build(AutoModel, "llama", tmp_path, **{**SMALL, "tie_word_embeddings": True})
    assert "LlamaModel, without the layer that writes" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for message in messages %}", "it fails (TemplateSyntaxError"),
        ("{{ raise_exception('Only for tools') }}", "it fails (TemplateError: Only for tools)"),
        ("{{ messages[0].content.nothing.more }}", "it fails (UndefinedError"),
        ("{{ 1 / 0 }}", "it fails (ZeroDivisionError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "it fails (SecurityError"),
        ("{% for n in range(1000000000) %}x{% endfor %}", "it fails (OverflowError"),
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "it fails (RecursionError"),
        ("Hello", "it leaves out what is said"),
        ("{{ messages[0].role }}", "it leaves out what is said"),
        ("{{ messages[0].content[:14] }}", "it leaves out what is said"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "repeats 2 times"),
        ("{{ messages[-1].content }}", "it leaves out what is said"),
        ("{{ messages[0].content | upper }}", "it leaves out what is said"),
    ],
)
def test_a_chat_template_that_cannot_be_used(folder, template, said):
    (folder / "chat_template.jinja").write_text(template)
    message = refusal(folder)
    assert "The model's chat template cannot be used" in message
    assert said in message
    assert len(message) < 700
