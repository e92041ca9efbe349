"""The artifact: one file, `NAME.precis`, that holds σ and says what it is.

It is a safetensors file: tensors, and a manifest as JSON in the header. Reading it runs no code from
it. Loading checks that nothing was altered and that the model is the one it was compiled for.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from precis.calibration import Calibration
from precis.errors import ArtifactError
from precis.manifest import FORMAT, Manifest
from precis.model.prefix import Prefix
from precis.model.soft_prompt import EmbeddingPrompt, KeyValuePrompt
from precis.storage import write_atomically
from precis.text.document import Document, Page

if TYPE_CHECKING:
    from precis.model.language_model import LanguageModel

_HEADER = "precis"
# The tensor that holds the document's text, where it is kept: its bytes in UTF-8.
_TEXT = "text"
# Of what type tensors are; the others are of any floating-point type.
_KINDS = {"counts": torch.int32, "positions": torch.int32, _TEXT: torch.uint8}


@dataclass(frozen=True)
class Artifact:
    """A σ with its manifest.

    Parameters
    ----------
    manifest
        What it is.
    tensors
        As `Prefix.packed` gives them; or `embeddings` `[slot, hidden]`. And `text`, uint8 `[byte]`, where
        the document's text is kept.
    """

    manifest: Manifest
    tensors: dict[str, Tensor]

    def with_text(self, document: Document) -> Artifact:
        """Give the same artifact with the document's text and pages in it."""
        pages = [(page.source, page.number, page.start, page.end) for page in document.pages]
        text = torch.frombuffer(bytearray(document.text.encode()), dtype=torch.uint8)
        manifest = replace(self.manifest, document=replace(self.manifest.document, pages=pages))
        return Artifact(manifest, {**self.tensors, _TEXT: text})

    def without_text(self) -> Artifact:
        """Give the same artifact without the document's text."""
        manifest = replace(self.manifest, document=replace(self.manifest.document, pages=None))
        return Artifact(manifest, {name: t for name, t in self.tensors.items() if name != _TEXT})

    @property
    def keeps_text(self) -> bool:
        """Whether the file keeps the document's text."""
        return _TEXT in self.tensors

    def document(self) -> Document | None:
        """Give the document back, if the file keeps its text.

        Raises
        ------
        ArtifactError
            The text is not the one that the manifest names.
        """
        if not self.keeps_text:
            return None
        about = self.manifest.document
        content = bytes(self.tensors[_TEXT].numpy())
        if hashlib.sha256(content).hexdigest() != about.sha256:
            raise ArtifactError(
                f"The text kept in this artifact is not that of {about.name}, which its manifest names. "
                "Compile the document again."
            )
        pages = tuple(Page(*page) for page in about.pages or ())
        return Document(about.name, content.decode(), pages, about.sha256)

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all.

        Raises
        ------
        StorageError
            It cannot be written.
        """
        header = {**self.manifest.to_json(), "digest": _digest(self.manifest.to_json(), self.tensors)}
        content = save(self.tensors, metadata={_HEADER: json.dumps(header, sort_keys=True)})
        write_atomically(Path(path), content)

    @classmethod
    def open(cls, path: str | Path) -> Artifact:
        """Read a file and check that it is what was written.

        Raises
        ------
        ArtifactError
            There is no such file, or it is no artifact, truncated, altered, or of a newer format.
        """
        path = Path(path)
        tensors, header = _read(path)
        digest = header.pop("digest", None)
        if header.get("format") != FORMAT:
            raise ArtifactError(
                f"{path} has format {header.get('format')}; this version of precis reads format {FORMAT}. "
                "Compile the document again, or use the version that wrote it."
            )
        if digest != _digest(header, tensors):
            raise ArtifactError(f"{path} was altered after it was written. Compile the document again.")
        try:
            artifact = cls(Manifest.from_json(header), tensors)
        except ArtifactError as error:
            raise ArtifactError(f"{path} is damaged. {error} Compile the document again.") from error
        artifact._check_shapes(path)
        artifact._check_values(path)
        return artifact

    def check(self, model: LanguageModel) -> None:
        """Refuse a model that σ was not made for.

        Raises
        ------
        ArtifactError
            The weights, the tokenizer or the shapes differ.
        """
        wanted = self.manifest.model
        if model.digest != wanted.digest:
            raise ArtifactError(
                f"This artifact was compiled for {wanted.name} (weights {wanted.digest[:12]}), but "
                f"the model given is {model.name} (weights {model.digest[:12]}). Use that model, or "
                "compile the document again for this one."
            )
        if model.tokenizer_digest != wanted.tokenizer_digest:
            raise ArtifactError(
                f"This artifact was compiled with another tokenizer or chat template than {model.name} "
                "has now. Use the one it was compiled with, or compile the document again."
            )

    @property
    def calibration(self) -> Calibration | None:
        """What gives an answer from σ its confidence, if the file holds it."""
        return self.manifest.confidence

    def prefix(self, model: LanguageModel) -> Prefix:
        """Give σ as what the model can be conditioned on.

        Raises
        ------
        ArtifactError
            It was compiled for another model.
        """
        self.check(model)
        if self.manifest.form == EmbeddingPrompt.form:
            return model.prefill(self.tensors["embeddings"].to(model.device, model.dtype))
        prefix = Prefix.unpacked(self.tensors, self.manifest.next_position)
        return prefix.to(model.device, model.dtype)

    def _check_shapes(self, path: Path) -> None:
        manifest = self.manifest
        model = manifest.model
        if manifest.form == KeyValuePrompt.form:
            heads = (model.layers, model.kv_heads)
            stored = heads[0] * heads[1] * manifest.slots
            states = (stored, model.head_dim)
            wanted: dict[str, tuple[int, ...]] = {"counts": heads, "keys": states, "values": states}
            wanted["positions"] = (stored,)
            if "bias" in self.tensors:
                wanted["bias"] = (stored,)
        else:
            wanted = {"embeddings": (manifest.slots, model.hidden_size)}
        if _TEXT in self.tensors:
            wanted[_TEXT] = (self.tensors[_TEXT].numel(),)
        found = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        if found != wanted:
            raise ArtifactError(f"{path} holds tensors {found}, but its manifest says {wanted}.")

    def _check_values(self, path: Path) -> None:
        """Refuse what no compile writes, and what would fail or take memory without bound when it is used."""
        for name, tensor in self.tensors.items():
            kind = _KINDS.get(name, torch.float32)
            if kind.is_floating_point != tensor.is_floating_point() or (
                not kind.is_floating_point and tensor.dtype != kind
            ):
                raise ArtifactError(f"{path} is damaged: {name} are of the type {tensor.dtype}, not {kind}.")
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise ArtifactError(f"{path} is damaged: {name} that are no numbers. Compile it again.")
        if "counts" in self.tensors:
            counts = self.tensors["counts"].long()
            most = self.manifest.next_position
            if int(counts.sum()) != len(self.tensors["keys"]) or not int(counts.min()) >= 0:
                raise ArtifactError(
                    f"{path} holds other numbers of slots than it says. Compile the document again."
                )
            if int(counts.max()) > most:
                raise ArtifactError(
                    f"{path} is damaged: a head with {int(counts.max())} slots of {most} positions. "
                    "Compile the document again."
                )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file whole: one that is mapped into memory kills the process when another is copied over it."""
    if not path.is_file():
        raise ArtifactError(f"There is no file {path}. Compile a document into it first.")
    try:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        outer = json.loads(content[8 : 8 + length])
        header = json.loads(outer["__metadata__"][_HEADER])
        tensors = load(content)
        if not isinstance(header, dict):
            raise ValueError("the manifest is no object")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(
            f"{path} is not a whole .precis file: it is truncated, damaged or something else. "
            "Compile the document again."
        ) from error
    return tensors, header


def _digest(manifest: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    sha = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode())
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(tensors[name].contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
