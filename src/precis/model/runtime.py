"""What the process is told before PyTorch is loaded: how threads wait, and what becomes of freed memory."""

from __future__ import annotations

import ctypes

# Threads that spin for long while they wait take the cores from whatever else wants them: on two, a pass is
# then ten times slower beside another program, against a fifth at most where all is quiet. Threads that do
# not spin at all take twice as long there. OpenMP reads this when PyTorch is loaded, not later.
GIVING_WAY = {"GOMP_SPINCOUNT": "1000"}


def keep_freed_memory() -> None:
    """Let the C library reuse large blocks in place of handing them back to the system.

    Every pass asks for the same large blocks again; fetching them anew, page by page, takes a fifth of
    a training step. Without glibc nothing changes.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 256 * 2**20)
