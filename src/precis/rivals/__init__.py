"""The rivals: other ways to put a document before the model, one file each."""

from __future__ import annotations

from collections.abc import Sequence

from precis.errors import SettingsError
from precis.rivals.attention_matching import AttentionMatching
from precis.rivals.expected_attention import ExpectedAttention
from precis.rivals.first_tokens import FirstTokens
from precis.rivals.keydiff import KeyDiff
from precis.rivals.kvzip import KVzip
from precis.rivals.prompt_tuning import PromptTuning
from precis.rivals.retrieve import Retrieve, RetrieveX4
from precis.rivals.rival import Groups, Prepared, Rival, Task, same_for_all
from precis.rivals.snapkv import SnapKV
from precis.rivals.streaming import Streaming
from precis.rivals.summary import Summary
from precis.rivals.truncate import Truncate

__all__ = ["RIVALS", "Groups", "Prepared", "Rival", "Task", "check_names", "names_in", "same_for_all"]

RIVALS: dict[str, Rival] = {
    rival.name: rival
    for rival in (
        Truncate(),
        Retrieve(),
        RetrieveX4(),
        Streaming(),
        SnapKV(),
        KeyDiff(),
        ExpectedAttention(),
        KVzip(),
        AttentionMatching(),
        Summary(),
        PromptTuning(),
        FirstTokens(),
    )
}


def check_names(names: Sequence[str]) -> None:
    """Refuse names of no rival.

    Raises
    ------
    SettingsError
        There is such a name.
    """
    for name in names:
        if name not in RIVALS:
            raise SettingsError(
                f"There is no method '{name}' to compare with. Choose from {', '.join(RIVALS)}."
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
        return list(RIVALS)
    check_names(names)
    return names
