"""Small random models whose scores differ clearly, so that rounding decides nothing."""

from __future__ import annotations

import torch

from yuwen.models import Decoder, build, parse_config

TEXT = (
    "从前有座山，山里有座庙，庙里有个老和尚在给小和尚讲故事。\n"
    "The quick brown fox jumps over the lazy dog; the dog sleeps on.\n"
    "语文是说话和写字。A language model speaks 🙂 and writes.\n"
) * 20


def random_model(family: str, vocabulary: int, context: int = 64, seed: int = 0) -> Decoder:
    values = {"vocabulary": vocabulary, "context": context, "layers": 2, "width": 32, "heads": 4}
    if family != "gpt2":
        values |= {"kv_heads": 2}
    generator = torch.Generator().manual_seed(seed)
    model = build(parse_config(family, values), generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model
