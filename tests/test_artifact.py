"""The file: it comes back as it was, and refuses what it was not made for."""

import json
import struct

import pytest
import torch
from safetensors.torch import save

from precis import artifact as artifact_module
from precis.artifact import Artifact
from precis.compilation.sealing import model_record
from precis.errors import ArtifactError
from precis.manifest import FORMAT, DocumentRecord, Manifest
from precis.model.prefix import Prefix
from precis.text.document import Document
from tests.conftest import make_model


def make_artifact(model, slots=4, **changes):
    generator = torch.Generator().manual_seed(0)
    shape = (model.layers, model.kv_heads, slots, model.head_dim)
    manifest = {
        "model": model_record(model),
        "document": DocumentRecord("Hafenbuch ö", "0", 80),
        "form": "kv",
        "slots": slots,
        "ratio": 20.0,
        "next_position": 80,
        "objective": "nll",
        "objective_weight": 0.0,
        "warm_start": "attention",
        "seed": 0,
    }
    # heads of different lengths, as a σ with biases has them
    bias = torch.randn(*shape[:2], 2 * slots, generator=generator)
    bias[0, 0, slots + 1 :] = -torch.inf
    bias[0, 1, slots - 1 :] = -torch.inf
    bias[1:, :, slots:] = -torch.inf
    wide = (*shape[:2], 2 * slots, shape[3])
    keys, values = (torch.randn(wide, generator=generator) for _ in range(2))
    prefix = Prefix(keys, values, torch.arange(2 * slots).expand(*wide[:3]), 80, bias)
    return Artifact(Manifest(**{**manifest, **changes}), prefix.packed())


@pytest.fixture
def saved(tiny_model, tmp_path):
    path = tmp_path / "x.precis"
    artifact = make_artifact(tiny_model)
    artifact.save(path)
    return artifact, path


def test_reloaded_equals_saved(saved, tiny_model):
    artifact, path = saved
    again = Artifact.open(path)
    assert again.manifest == artifact.manifest
    assert all(torch.equal(again.tensors[name], artifact.tensors[name]) for name in artifact.tensors)
    assert again.prefix(tiny_model).next_position == 80
    assert list(path.parent.iterdir()) == [path]


def test_another_model_or_tokenizer_is_refused_in_words(saved, tiny_model):
    _, path = saved
    with pytest.raises(ArtifactError, match=r"compiled for llama .*Use that model, or compile"):
        Artifact.open(path).prefix(make_model("llama", seed=1))
    other = make_model("llama")
    other.tokenizer_digest = "other"
    with pytest.raises(ArtifactError, match="another tokenizer"):
        Artifact.open(path).prefix(other)


def test_every_truncation_is_refused(saved):
    _, path = saved
    content = path.read_bytes()
    for length in (0, 5, 200, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match="truncated, damaged or something else"):
            Artifact.open(path)


def test_an_altered_tensor_or_manifest_is_refused(saved):
    _, path = saved
    content = bytearray(path.read_bytes())
    changed = bytearray(content)
    changed[-3] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ArtifactError, match="altered"):
        Artifact.open(path)
    path.write_bytes(bytes(content).replace(b"nll", b"kll"))
    with pytest.raises(ArtifactError, match="altered"):
        Artifact.open(path)


def test_other_files_are_refused(tmp_path, saved):
    path = tmp_path / "text.precis"
    path.write_text("no artifact")
    with pytest.raises(ArtifactError, match=r"not a whole \.precis file"):
        Artifact.open(path)
    with pytest.raises(ArtifactError, match="There is no file"):
        Artifact.open(tmp_path / "missing.precis")
    header = json.dumps({"__metadata__": {"other": "x"}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ArtifactError, match=r"not a whole \.precis file"):
        Artifact.open(path)


def test_a_newer_format_is_refused(tiny_model, tmp_path):
    make_artifact(tiny_model, format=FORMAT + 1).save(tmp_path / "x.precis")
    with pytest.raises(ArtifactError, match=f"format {FORMAT + 1}"):
        Artifact.open(tmp_path / "x.precis")


def test_shapes_that_do_not_fit_the_manifest_are_refused(tiny_model, tmp_path):
    make_artifact(tiny_model, slots=4).save(tmp_path / "x.precis")
    artifact = make_artifact(tiny_model, slots=4)
    artifact.tensors["values"] = artifact.tensors["values"][:-1].contiguous()
    artifact.save(tmp_path / "x.precis")
    with pytest.raises(ArtifactError, match="manifest says"):
        Artifact.open(tmp_path / "x.precis")


def with_text(model, text="The harbour of Ö closes at nine."):
    document = Document.from_text(text, "guide.md")
    about = DocumentRecord(document.name, document.sha256, 80)
    return make_artifact(model, document=about).with_text(document), document


def test_a_kept_text_comes_back_with_its_pages(tiny_model, tmp_path):
    artifact, document = with_text(tiny_model)
    artifact.save(tmp_path / "x.precis")
    again = Artifact.open(tmp_path / "x.precis")
    assert again.document() == document
    assert again.keeps_text
    assert again.document().text == document.text
    plain = make_artifact(tiny_model)
    assert (plain.document(), plain.keeps_text) == (None, False)
    assert torch.equal(again.prefix(tiny_model).keys, plain.prefix(tiny_model).keys)


def test_a_text_of_another_document_is_refused(tiny_model):
    artifact, _ = with_text(tiny_model)
    _, other = with_text(tiny_model, "Another text.")
    mixed = Artifact(
        artifact.manifest, {**artifact.tensors, "text": with_text(tiny_model, other.text)[0].tensors["text"]}
    )
    with pytest.raises(ArtifactError, match=r"not that of guide\.md"):
        mixed.document()


def rewritten(path, manifest=None, tensors=None):
    """Write a file that is whole and not altered, as a stranger could."""
    artifact = Artifact.open(path)
    values = artifact.manifest.to_json()
    values.update(manifest or {})
    held = {**artifact.tensors, **(tensors or {})}
    header = {**values, "digest": artifact_module._digest(values, held)}
    path.write_bytes(save(held, metadata={"precis": json.dumps(header, sort_keys=True)}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"ratio": float("nan")},
        {"next_position": float("inf")},
        {"slots": -1},
        {"slots": "4"},
        {"document": {"sha256": "0", "tokens": 80}},
        {"document": {"name": 5, "sha256": "0", "tokens": 80}},
        {"document": {"name": "\ud800", "sha256": "0", "tokens": 80}},
        {"document": None},
        {"model": []},
        {"seed": {"a": 1}},
        {"confidence": {"features": 3}},
        {"confidence": 7},
    ],
    ids=str,
)
def test_a_manifest_that_cannot_be_right_is_refused_in_words(saved, wrong):
    _, path = saved
    rewritten(path, wrong)
    with pytest.raises(ArtifactError, match=r"is damaged\. The manifest is wrong"):
        Artifact.open(path)


def test_a_header_without_end_is_refused(saved):
    _, path = saved
    content = json.dumps({"__metadata__": {"precis": "[" * 200_000}}).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content)
    with pytest.raises(ArtifactError, match=r"not a whole \.precis file"):
        Artifact.open(path)


def test_tensors_that_no_compile_writes_are_refused(saved):
    artifact, path = saved
    whole = path.read_bytes()
    counts = artifact.tensors["counts"].clone()
    counts[0, 0], counts[0, 1] = -1000, counts[0, 0] + counts[0, 1] + 1000
    long = torch.zeros_like(counts)
    long[0, 0] = artifact.tensors["counts"].sum()
    for name, tensor, told in (
        ("keys", artifact.tensors["keys"] * torch.nan, "no numbers"),
        ("bias", artifact.tensors["bias"] - torch.inf, "no numbers"),
        ("counts", counts, "other numbers of slots"),
        ("counts", artifact.tensors["counts"].float(), "of the type"),
        ("positions", artifact.tensors["positions"].long(), "of the type"),
    ):
        path.write_bytes(whole)
        rewritten(path, tensors={name: tensor})
        with pytest.raises(ArtifactError, match=told):
            Artifact.open(path)
    path.write_bytes(whole)
    rewritten(path, {"next_position": 3}, {"counts": long})
    with pytest.raises(ArtifactError, match="slots of 3 positions"):
        Artifact.open(path)


def test_a_file_that_is_copied_over_stays_as_it_was_read(saved):
    artifact, path = saved
    opened = Artifact.open(path)
    with path.open("r+b") as file:
        file.truncate(10)
    assert all(torch.equal(opened.tensors[name], artifact.tensors[name]) for name in artifact.tensors)
