"""What is checked of a model before it is used: whole files, all weights, a causal language model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from precis.errors import ModelError

_POINTER = b"version https://git-lfs.github.com"
_CHECKED = ("*.json", "*.jinja", "*.safetensors", "*.bin", "*.gguf", "*.model")


def refuse_damaged_files(name: str, source: str | Path) -> None:
    """See that a folder's files, or a GGUF file, are whole; what is on the hub is left to its client.

    Raises
    ------
    ModelError
        A file is only a pointer of Git LFS, or weights are missing or cut off.
    """
    path = Path(source)
    if path.is_file():
        _refuse_pointer(name, path)
        _refuse_other_than_gguf(name, path)
    if not path.is_dir():
        return
    for file in _files(path):
        _refuse_pointer(name, file)
    _refuse_damaged_settings(name, path / "generation_config.json")
    for index in path.glob("*.index.json"):
        _refuse_missing_parts(name, index)
    for file in path.glob("*.safetensors"):
        _refuse_cut_off(name, file)


def refuse_other_kinds(name: str, config: Any) -> None:
    """See that a model is a causal language model, and all its layers attend to keys and values.

    Raises
    ------
    ModelError
        It is not; the message says what it is.
    """
    text = config.get_text_config()
    found = _other_kind(config, text)
    if found:
        raise ModelError(
            f"{name} ({config.model_type}) cannot be given a soft prompt: it is {found}. Choose a causal "
            "language model, which writes a text from left to right."
        )
    kinds = set(getattr(text, "layer_types", None) or ())
    other = sorted(kinds - {"full_attention", "sliding_attention"})
    if other:
        raise ModelError(
            f"{name} ({config.model_type}) cannot be given a soft prompt: it has layers of the kind "
            f"{', '.join(other)}, which do not attend to keys and values of all earlier tokens "
            "(linear attention carries a running state in their place). Choose a model in which all layers "
            "are full or sliding-window attention."
        )


def refuse_missing_weights(name: str, found: dict[str, Any]) -> None:
    """See that all weights were in the files: transformers draws at random what is missing.

    Parameters
    ----------
    found
        What transformers tells of loading (`output_loading_info`).

    Raises
    ------
    ModelError
        A tensor is missing, or has another shape.
    """
    missing = sorted(found.get("missing_keys") or ())
    if missing:
        shown = ", ".join(missing[:3]) + (" and others" if len(missing) > 3 else "")
        raise ModelError(
            f"The weights of {name} are not complete: {len(missing)} of the model's tensors are not in its "
            f"files ({shown}). Get the model again; a model without its last layer (lm_head) cannot write."
        )
    if found.get("mismatched_keys"):
        raise ModelError(
            f"The weights of {name} do not fit its config.json: {len(found['mismatched_keys'])} tensors have "
            "another shape. Get the model again, with the configuration that belongs to it."
        )


def _other_kind(config: Any, text: Any) -> str | None:
    """Say what a model is that is no causal language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    if getattr(config, "is_encoder_decoder", False):
        return "an encoder with a decoder, which reads and writes with different layers"
    # families that exist as encoders and as decoders say here which they are, and GPT-NeoX says no too
    if config.model_type in MASKED and getattr(config, "is_decoder", None) is False:
        return "an encoder, in which every token attends to those after it as well"
    if getattr(text, "use_bidirectional_attention", None) in (True, "all"):
        return "a model in which tokens attend to those after them as well"
    if config.model_type not in CAUSAL and text.model_type not in CAUSAL:
        return "no causal language model that transformers knows"
    named = list(config.architectures or ())
    heads = {head for heads in CAUSAL.values() for head in ([heads] if isinstance(heads, str) else heads)}
    if named and not any(each in heads or each.endswith(("ForCausalLM", "LMHeadModel")) for each in named):
        return f"a {', '.join(named)}, without the layer that writes"
    return None


def _files(folder: Path) -> Iterator[Path]:
    for pattern in _CHECKED:
        yield from sorted(folder.glob(pattern))


def _refuse_pointer(name: str, file: Path) -> None:
    with file.open("rb") as stream:
        beginning = stream.read(len(_POINTER))
    if beginning == _POINTER:
        raise ModelError(
            f"The model {name} is not there as a whole: {file.name} is only a pointer of Git LFS. Run "
            "'git lfs pull' in its folder, or download the model again."
        )


def _refuse_other_than_gguf(name: str, file: Path) -> None:
    with file.open("rb") as stream:
        beginning = stream.read(4)
    if file.suffix == ".gguf" and beginning != b"GGUF":
        raise ModelError(f"The model {name} is no GGUF file: it begins with {beginning!r}. Get it again.")


def _refuse_damaged_settings(name: str, file: Path) -> None:
    """Read it: where it is damaged, transformers goes on without what it says of the end of answers."""
    if not file.is_file():
        return
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError as cause:
        raise ModelError(
            f"The model {name} cannot be loaded: {file.name} is damaged ({cause}). Get it again."
        ) from cause


def _refuse_missing_parts(name: str, index: Path) -> None:
    try:
        parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as cause:
        raise ModelError(f"The model {name} has a damaged {index.name} ({cause}). Get it again.") from cause
    missing = sorted(part for part in parts if not (index.parent / str(part)).is_file())
    if missing:
        raise ModelError(
            f"The weights of {name} are not complete: {missing[0]} is missing ({len(missing)} of "
            f"{len(parts)} files are). Get the model again."
        )


def _refuse_cut_off(name: str, file: Path) -> None:
    """Read the header, which says how long the file must be."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as cause:
        raise ModelError(
            f"The weights of {name} are damaged or cut off: {file.name}, {file.stat().st_size:,} bytes "
            f"({cause}). Get the file again."
        ) from cause
