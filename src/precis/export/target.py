"""What every export format is: σ as files that another tool loads."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from precis.artifact import Artifact
from precis.errors import ArtifactError, StorageError
from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix
from precis.model.rotation import Rotation


class Target(ABC):
    """A format.

    Attributes
    ----------
    name
        What a user chooses it by.
    meaning
        Who loads it, in a few words.
    """

    name: ClassVar[str]
    meaning: ClassVar[str]

    @abstractmethod
    def files(self, prefix: Prefix, artifact: Artifact, model: LanguageModel) -> dict[str, bytes]:
        """Give the files of the format, by name.

        Parameters
        ----------
        prefix
            σ, with keys that are rotated so that the next token stands right after the last slot; all heads
            hold the same number of slots, and there is no bias.
        """

    def write(self, artifact: Artifact, model: LanguageModel, folder: Path) -> None:
        """Write a folder, whole or not at all.

        Raises
        ------
        ArtifactError
            σ has what no other tool knows (slot biases), or was compiled for another model.
        StorageError
            The folder is there already, or cannot be written.
        """
        if folder.exists():
            raise StorageError(f"{folder} is there already. Choose another name, or remove it first.")
        files = self.files(_plain(artifact.prefix(model), model), artifact, model)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            making = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                for name, content in files.items():
                    (making / name).write_bytes(content)
                making.chmod(0o755)
                making.rename(folder)
            finally:
                shutil.rmtree(making, ignore_errors=True)
        except OSError as error:
            raise StorageError(f"{folder} cannot be written: {error.strerror}.") from error


def chat_text(model: LanguageModel) -> tuple[str, str]:
    """Give what stands before and after a question in the prompt that follows σ."""
    mark = "QUESTION"
    text = model.tokenizer.decode(model.chat.question_prompt(mark))
    before, _, after = text.partition(mark)
    return before, after


@torch.no_grad()
def _plain(prefix: Prefix, model: LanguageModel) -> Prefix:
    """Give σ as other tools think of a prefix: the slots' places are 0, 1, … and the next token's follows.

    Only distances between positions count, so all keys are turned by the same distance.

    Raises
    ------
    ArtifactError
        It has slot biases or heads of different lengths, or the model's layers see a window alone.
    """
    if prefix.bias is not None:
        raise ArtifactError(
            "This soft prompt has slot biases and heads that hold different numbers of slots, which other "
            "tools do not know. Compile the document again without biases to export it; that costs some "
            "right answers."
        )
    if any(limits.sliding_window is not None for limits in model.limits):
        raise ArtifactError(
            f"{model.name} has sliding-window layers, in which other tools would hide other slots than "
            "precis does. It cannot be exported for this model."
        )
    rotation, shift = Rotation(model), prefix.slots - prefix.next_position
    keys = torch.stack([_shifted(rotation, layer, keys, shift) for layer, keys in enumerate(prefix.keys)])
    places = torch.arange(prefix.slots, device=keys.device).expand(prefix.positions.shape)
    return Prefix(keys, prefix.values, places, prefix.slots)


def _shifted(rotation: Rotation, layer: int, keys: Tensor, shift: int) -> Tensor:
    """Turn keys `[kv_head, slot, head_dim]` by a distance."""
    positions = torch.full((keys.shape[1],), shift, device=keys.device)
    turned = rotation.rotate(layer, keys.transpose(0, 1).double(), positions)
    return turned.transpose(0, 1).to(keys.dtype)
