"""`peft`: an adapter of PEFT's prefix tuning (Li & Liang, 2021, arXiv 2101.00190)."""

from __future__ import annotations

import json

import torch
from safetensors.torch import save
from torch import Tensor

from precis.artifact import Artifact
from precis.errors import ArtifactError
from precis.export.target import Target
from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix


class Peft(Target):
    """A folder that `PeftModel.from_pretrained` loads on top of the frozen model."""

    name = "peft"
    meaning = "an adapter for PEFT's PeftModel.from_pretrained"

    def files(self, prefix: Prefix, artifact: Artifact, model: LanguageModel) -> dict[str, bytes]:
        """Give the adapter's configuration and weights.

        Raises
        ------
        ArtifactError
            The model's heads are not as wide as PEFT takes them to be.
        """
        heads = model.network.config.get_text_config().num_attention_heads
        if model.hidden_size != heads * model.head_dim:
            raise ArtifactError(
                f"PEFT takes the heads of {model.name} to be {model.hidden_size // heads} wide, but they are "
                f"{model.head_dim} wide. Export to transformers instead."
            )
        config = {
            "peft_type": "PREFIX_TUNING",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": artifact.manifest.model.name,
            "inference_mode": True,
            "num_virtual_tokens": prefix.slots,
            "num_layers": model.layers,
            "num_attention_heads": model.kv_heads,
            "token_dim": model.kv_heads * model.head_dim,
            "num_transformer_submodules": 1,
            "encoder_hidden_size": model.hidden_size,
            "prefix_projection": False,
        }
        return {
            "adapter_config.json": json.dumps(config, indent=2).encode(),
            "adapter_model.safetensors": save({"prompt_embeddings": _embeddings(prefix)}),
        }


def _embeddings(prefix: Prefix) -> Tensor:
    """Lay σ out as PEFT's virtual tokens, `[slot, layer · (key, value) · kv_head · head_dim]`."""
    both = torch.stack([prefix.keys, prefix.values], dim=1)  # [layer, 2, kv_head, slot, head_dim]
    return both.permute(3, 0, 1, 2, 4).reshape(prefix.slots, -1).float().cpu().contiguous()
