"""How good is it: a model's loss on any text, in nats per token and in bits per byte; its classes, its vectors.

tokens     documents → one token stream, and the bytes each token stands for
windows    the stream → overlapping windows, each token scored once
score      windows → Score: `evaluate` streams, an `Evaluator` keeps the ids and measures many times
pseudo     … of models that read both sides: each token hidden in turn (`pairs`: each span; `in_order`: XLNet's way)
classification, similarity     … of models that tell classes; of models that make vectors
source     DATA, or the last part of it
"""

from __future__ import annotations

from yuwen.evaluation.score import Evaluator, Score, evaluate, teller_of, window_and_stride
from yuwen.evaluation.source import documents_of
from yuwen.evaluation.tokens import Tokens, token_stream
from yuwen.evaluation.windows import Window, windows

__all__ = [
    "Evaluator",
    "Score",
    "Tokens",
    "Window",
    "documents_of",
    "evaluate",
    "teller_of",
    "token_stream",
    "window_and_stride",
    "windows",
]
