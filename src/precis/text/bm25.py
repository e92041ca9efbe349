"""The package bm25s, imported without JAX.

Where JAX is installed, bm25s lets it choose the best scores, and starts it when it is imported. On a machine
with a graphics card, JAX then takes three quarters of the card's memory, which the model needs.
"""

import sys

_jax = sys.modules.get("jax")
sys.modules["jax"] = None  # type: ignore[assignment]  # an import of it fails
try:
    from bm25s import BM25, stopwords
finally:
    del sys.modules["jax"]
    if _jax is not None:
        sys.modules["jax"] = _jax

__all__ = ["BM25", "stopwords"]
