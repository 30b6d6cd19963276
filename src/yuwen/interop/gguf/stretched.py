"""LLaMA 3.1's stretched rotary positions: a formula in config.json, its results in a GGUF file.

`rope_freqs.weight` holds, for each pair of a head, what its frequency is divided by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from yuwen.errors import UserError
from yuwen.interop.gguf.dequantise import read_tensor
from yuwen.interop.gguf.header import GGUFFile
from yuwen.nn import Llama3Scaling

FACTORS = "rope_freqs.weight"
_LOW, _HIGH, _FIRST_CONTEXT = 1.0, 4.0, 8192  # of every published LLaMA 3


def factors(width: int, theta: float, scaling: Mapping[str, Any]) -> Tensor:
    """[width / 2] in fp32, of a published `llama3` formula for heads of that width."""
    formula = Llama3Scaling(
        scaling["factor"],
        scaling["original_max_position_embeddings"],
        scaling.get("low_freq_factor", _LOW),
        scaling.get("high_freq_factor", _HIGH),
    )
    frequencies = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    return frequencies / formula(frequencies, theta)


def formula(file: GGUFFile, width: int, theta: float, first_context: int | None) -> dict[str, Any] | None:
    """The published formula behind a file's factors; None where they change nothing.

    UserError for factors of another making.
    """
    held = read_tensor(file.bytes, file.tensors[FACTORS], torch.float32).flatten()
    if torch.equal(held, torch.ones_like(held)):
        return None
    found = {
        "rope_type": "llama3",
        "factor": float(held.max()),
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
        "original_max_position_embeddings": first_context or _FIRST_CONTEXT,
    }
    if (
        2 * len(held) != width
        or not held.max() > 1
        or not torch.allclose(held, factors(width, theta, found), rtol=1e-3)
    ):
        raise UserError(f"{file.path}: {FACTORS} stretches rotary positions in a way that is not known here")
    return found
