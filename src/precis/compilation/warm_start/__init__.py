"""σ₀: where training starts from, taken from the document's own keys and values; one file a way.

Where σ starts is worth more than how long it is trained. Slots keep their rotation, so the next token still
stands after the whole document.
"""

from __future__ import annotations

from precis.compilation.warm_start.attention import Attention
from precis.compilation.warm_start.attention_matching import AttentionMatching
from precis.compilation.warm_start.even import Even
from precis.compilation.warm_start.first import First
from precis.compilation.warm_start.random import Random
from precis.compilation.warm_start.warm_start import Material, Read, WarmStart
from precis.errors import SettingsError

__all__ = ["WARM_STARTS", "Material", "Read", "WarmStart", "warm_start_named"]

WARM_STARTS: dict[str, WarmStart] = {
    start.name: start for start in (AttentionMatching(), Attention(), Even(), First(), Random())
}


def warm_start_named(name: str) -> WarmStart:
    """Give a warm start.

    Raises
    ------
    SettingsError
        There is none of that name.
    """
    if name not in WARM_STARTS:
        raise SettingsError(f"There is no warm start '{name}'. Choose one of {', '.join(WARM_STARTS)}.")
    return WARM_STARTS[name]
