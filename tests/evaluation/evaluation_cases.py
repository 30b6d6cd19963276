"""A small random model, documents of every closing, and the measurement written out plainly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from yuwen.models import FAMILIES, Decoder, build, parse_config
from yuwen.text import Document

LINES = ["从前有座山，山里有座庙。", "The quick brown fox jumps over the lazy dog.", "", "  缩进的一行 🙂", "语文"]


def random_model(family: str, vocabulary: int, context: int = 64, **settings: Any) -> Decoder:
    values = {"vocabulary": vocabulary, "context": context, "layers": 2, "width": 32, "heads": 4, **settings}
    fields = FAMILIES[family].config.model_fields
    generator = torch.Generator().manual_seed(0)
    model = build(parse_config(family, {k: v for k, v in values.items() if k in fields}), generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def lines(count: int = 40) -> list[Document]:
    return [Document(LINES[n % len(LINES)] + str(n), "news", n + 1, "line") for n in range(count)]


def plainly(
    model: Decoder, ids: list[int], sizes: list[int], window: int, stride: int
) -> tuple[float, list[int], float | None]:
    """Summed nats, indices of the scored tokens, bits per byte: one window after another, as the definition says."""
    nats, scored = 0.0, []
    reached = 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        with torch.no_grad():
            logits_TV = model.output(model(torch.tensor([ids[begin:end]])))[0].double()
        for at in range(max(begin + 1, reached), end):
            nats -= float(logits_TV[at - 1 - begin].log_softmax(-1)[ids[at]])
            scored.append(at)
        reached = end
        if end == len(ids):
            break
    size = sum(np.array(sizes)[scored]) if scored else 0
    return nats, scored, nats / math.log(2) / size if size else None
