"""`transformers`: keys and values for a `DynamicCache`, to be answered after by `generate`."""

from __future__ import annotations

import json

from safetensors.torch import save

from precis.artifact import Artifact
from precis.export.target import Target, chat_text
from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix

_USAGE = '''"""Answer a question after the exported soft prompt, with transformers alone."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

here = Path(__file__).parent
about = json.loads((here / "soft_prompt.json").read_text(encoding="utf-8"))
name, question = (sys.argv[1:] + [about["model"]])[0], sys.argv[-1]
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, about["dtype"]))

cache = DynamicCache()
tensors = load_file(here / "soft_prompt.safetensors")
for layer, (keys, values) in enumerate(zip(tensors["keys"], tensors["values"])):
    cache.update(keys.unsqueeze(0), values.unsqueeze(0), layer)

prompt = tokenizer(about["before_question"] + question + about["after_question"], add_special_tokens=False)
# generate leaves out as many tokens as the cache holds: what stands for them here is never read
ids = torch.tensor([[tokenizer.eos_token_id] * about["slots"] + prompt["input_ids"]])
out = model.generate(ids, attention_mask=torch.ones_like(ids), past_key_values=cache, do_sample=False,
                     max_new_tokens=64, pad_token_id=tokenizer.eos_token_id)
print(tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True))
'''


class TransformersCache(Target):
    """A folder with the tensors, what must stand around a question, and a script that answers one."""

    name = "transformers"
    meaning = "a key-value cache for transformers' generate, with a script that uses it"

    def files(self, prefix: Prefix, artifact: Artifact, model: LanguageModel) -> dict[str, bytes]:
        """Give tensors, description, script."""
        before, after = chat_text(model)
        about = {
            "model": artifact.manifest.model.name,
            "document": artifact.manifest.document.name,
            "slots": prefix.slots,
            "dtype": str(model.dtype).removeprefix("torch."),
            "before_question": before,
            "after_question": after,
        }
        tensors = {"keys": prefix.keys, "values": prefix.values}
        return {
            "soft_prompt.safetensors": save({n: t.cpu().contiguous() for n, t in tensors.items()}),
            "soft_prompt.json": json.dumps(about, indent=2, ensure_ascii=False).encode(),
            "answer.py": _USAGE.encode(),
        }
