"""The `--dtype` option, the same on every verb that loads a model."""

from __future__ import annotations

from enum import Enum


class Dtype(str, Enum):
    """Number types that models are loaded in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
