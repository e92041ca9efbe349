"""The baselines: other ways to put a document before the model, one file each."""

from __future__ import annotations

from collections.abc import Sequence

from precis.baselines.attention_matching import MatchedAttention
from precis.baselines.baseline import Baseline, Groups, Prepared, Task, same_for_all
from precis.baselines.expected_attention import ExpectedAttention
from precis.baselines.first_tokens import FirstTokens
from precis.baselines.keydiff import KeyDiff
from precis.baselines.kvzip import KVzip
from precis.baselines.prompt_tuning import PromptTuning
from precis.baselines.retrieve import Retrieve, RetrieveX4
from precis.baselines.snapkv import SnapKV
from precis.baselines.streaming import Streaming
from precis.baselines.summary import Summary
from precis.baselines.truncate import Truncate
from precis.errors import SettingsError

__all__ = ["BASELINES", "Baseline", "Groups", "Prepared", "Task", "check_names", "names_in", "same_for_all"]

BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        Truncate(),
        Retrieve(),
        RetrieveX4(),
        Streaming(),
        SnapKV(),
        KeyDiff(),
        ExpectedAttention(),
        KVzip(),
        MatchedAttention(),
        Summary(),
        PromptTuning(),
        FirstTokens(),
    )
}


def check_names(names: Sequence[str]) -> None:
    """Refuse names of no baseline.

    Raises
    ------
    SettingsError
        There is such a name.
    """
    for name in names:
        if name not in BASELINES:
            raise SettingsError(
                f"There is no method '{name}' to compare with. Choose from {', '.join(BASELINES)}."
            )


def names_in(text: str) -> list[str]:
    """Read names that are separated by commas; `all` stands for all of them.

    Raises
    ------
    SettingsError
        There is no such method.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return list(BASELINES)
    check_names(names)
    return names
