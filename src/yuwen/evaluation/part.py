"""What every way of measuring gives, piece by piece."""

from __future__ import annotations

from typing import NamedTuple

LOGITS = 1 << 24  # numbers that a softmax holds at a time, at most: vocabularies are long


class Part(NamedTuple):
    """Some scored tokens: their summed -log p, how many they are, and the bytes of the original text they stand for."""

    nats: float
    tokens: int
    bytes: int
