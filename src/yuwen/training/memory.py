"""What a training step needs of memory, told before the start, and kept from being handed back at every step."""

from __future__ import annotations

import ctypes
import math
import sys
from typing import Any

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2  # glibc's mallopt(3)


def keep_freed_memory() -> None:
    """Lets the allocator keep what a step frees for the next step.

    glibc maps large blocks anew each time and the kernel then clears every page: a quarter of an eager step's time.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent from other C libraries
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, 1 << 30) or mallopt(_MMAP_THRESHOLD, 32 << 20)  # the most before glibc 2.35
            mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
            mallopt(_TOP_PAD, 1 << 26)


def weights_bytes(parameters: int, element: int, optimizer: str) -> int:
    """Masters and gradients in fp32, the optimiser's memory, and the working copy with its gradients."""
    remembered = {"sgd": 4, "muon": 4, "adamw": 8}[optimizer]
    copy = 2 * element if element != 4 else 0
    return parameters * (4 + 4 + remembered + copy)


def activations_bytes(config: Any, tokens: int, length: int, element: int) -> int:
    """What the backward pass needs of `tokens` positions in windows of `length`, roughly (within a factor of 1.5).

    What the family keeps of each position, and the logits of one chunk of positions, twice in fp32 and twice as stored.
    """
    logits = min(tokens, 1024) * config.vocabulary * (8 + 2 * element)
    return tokens * config.kept(length) * element + logits


def fitting_tokens(config: Any, share: int, length: int, element: int, free: int, readings: int = 1) -> int:
    """The largest micro-batch, in tokens, that divides `share` into whole windows and whose activations, where each is
    read `readings` times, fit into `free` bytes; 0 if none does."""
    for tokens in smaller_micro_batches(share, length):
        if activations_bytes(config, readings * tokens, length, element) <= free:
            return tokens
    return 0


def smaller_micro_batches(share: int, length: int) -> list[int]:
    """Sizes in tokens, falling, of the micro-batches that `share` tokens can be cut into, in whole windows."""
    windows = share // length
    few = [parts for parts in range(1, math.isqrt(windows) + 1) if windows % parts == 0]
    return [share // parts for parts in sorted({*few, *(windows // parts for parts in few)})]
