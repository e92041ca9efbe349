"""Packed weights change the time that a product takes, and nothing else."""

import pytest
import torch
from torch import nn

from precis.model.attention.layout import Batch
from precis.model.conditioned import Example
from precis.model.loading import load_model
from precis.model.packed_linear import PackedLinear, SiblingLinear, Siblings, available, pack_linear_layers
from precis.model.prefix import Prefix
from tests.conftest import ARCHITECTURES, RECALL_MODEL, make_network

pytestmark = pytest.mark.skipif(not available(), reason="this build of PyTorch has no oneDNN")

TOLERANCES = {
    dtype: {"rtol": tolerance, "atol": tolerance}
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2))
    if available(dtype)
}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 24), (3, 24), (2, 130, 24), (0, 24)])
def test_outputs_and_gradients_are_those_of_the_plain_layer(dtype, bias, shape):
    torch.manual_seed(0)
    plain = nn.Linear(24, 7, bias=bias).to(dtype).requires_grad_(False)
    layer = PackedLinear(plain)
    states = torch.randn(shape, dtype=dtype, requires_grad=True)
    outputs = [module(states) for module in (plain, layer)]
    gradients = [torch.autograd.grad((out.float() ** 2).sum(), states)[0] for out in outputs]
    torch.testing.assert_close(*outputs, **TOLERANCES[dtype])
    torch.testing.assert_close(*gradients, **TOLERANCES[dtype])
    with torch.no_grad():
        assert torch.equal(layer(states), outputs[1])


def siblings_of(plain):
    together = Siblings(plain)
    return together, [SiblingLinear(together, number) for number in range(len(plain))]


@pytest.mark.parametrize("bias", [False, True])
def test_siblings_give_the_outputs_and_gradients_of_plain_layers(bias):
    torch.manual_seed(0)
    plain = [nn.Linear(24, width, bias=bias).requires_grad_(False) for width in (7, 3, 12)]
    _, layers = siblings_of(plain)
    for one, other in zip(plain, layers, strict=True):
        assert torch.equal(one.weight, other.weight)
        assert other.bias is None if one.bias is None else torch.equal(one.bias, other.bias)
    states = torch.randn(5, 24, requires_grad=True)
    results = []
    for modules in (plain, layers):
        outputs = [module(states) for module in modules]
        loss = sum((out**2).sum() for out in outputs)
        results.append([*outputs, *torch.autograd.grad(loss, states)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_siblings_are_computed_once_for_the_same_states_and_never_for_others(monkeypatch):
    plain = [nn.Linear(8, 4, bias=False) for _ in range(2)]
    together, (first, second) = siblings_of(plain)
    calls = []
    whole = together.whole
    monkeypatch.setattr(together, "whole", lambda states: calls.append(0) or whole(states))
    one, other = torch.randn(3, 8), torch.randn(3, 8)
    with torch.no_grad():
        outputs = [first(one), second(one), second(other), first(one), first(one)]
        expected = [plain[0](one), plain[1](one), plain[1](other), plain[0](one), plain[0](one)]
    assert len(calls) == 4  # the first two together, then each by itself
    for found, right in zip(outputs, expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_packed_network_says_the_same_and_keeps_its_weights(model_type):
    plain, network = (make_network(model_type, 50).float().requires_grad_(False) for _ in range(2))
    network.load_state_dict(plain.state_dict())
    pack_linear_layers(network)
    assert not any(type(module) is nn.Linear for module in network.modules())
    after = network.state_dict()
    assert after.keys() == plain.state_dict().keys()
    for name, weight in plain.state_dict().items():
        assert torch.equal(after[name], weight)
    column = torch.arange(5)
    nothing = Prefix.empty(0, 0, 0, dtype=torch.float32, device=torch.device("cpu"))
    logits = [
        each(
            input_ids=torch.tensor([[5, 6, 7, 8, 9]]),
            position_ids=column[None],
            use_cache=False,
            batch=Batch(torch.zeros_like(column), column, nothing, count=1, width=5),
        ).logits
        for each in (plain, network)
    ]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)


def test_a_loaded_model_is_packed_and_gradients_reach_a_prefix():
    model = load_model(str(RECALL_MODEL))
    assert any(isinstance(module, PackedLinear) for module in model.network.modules())
    prefix = model.prefill([5, 6, 7])
    prefix.keys.requires_grad_()
    model.given(prefix).answer_logits([Example([8, 9], [10, 11])]).sum().backward()
    assert prefix.keys.grad is not None
    assert prefix.keys.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_lone_row_is_multiplied_as_it_is_beside_another(dtype):
    torch.manual_seed(0)
    layer = PackedLinear(nn.Linear(1536, 576, dtype=dtype).requires_grad_(False))
    states = torch.randn(8, 1536, dtype=dtype)
    with torch.no_grad():
        for place in range(0, 8, 2):
            pair = layer(states[place : place + 2])
            for row in range(2):
                assert torch.equal(layer(states[place + row].view(1, 1, -1))[0, 0], pair[row])
                assert torch.equal(layer(states[place + row]), pair[row])
