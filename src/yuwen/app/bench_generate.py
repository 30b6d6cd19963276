"""How fast a model reads and writes on this machine."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

import torch

from yuwen.app.loading.load import load
from yuwen.app.machine.resources import peak_memory
from yuwen.errors import UserError
from yuwen.generation import SamplingConfig, generate
from yuwen.models import left_to_right

_REPEATS = 3


def bench_generate(source: str, *, prompt: int, tokens: int, batch: int = 1, dtype: str = "float32") -> dict[str, Any]:
    """Greedy continuations of `batch` prompts of `prompt` random ids, by `tokens` ids each.

    `first_token_seconds` is from the call to the first token, the first time in the process; `load_seconds`, from
    `yuwen.load` on, comes before it. The rates are medians over three further rounds: prompt tokens per second until
    the first token was drawn, and tokens per second from then on (all rows together; null for a single token).
    `peak_memory_bytes` is the process's, imports included (`imports_bytes` of it); `weights_bytes` are the model's.
    UserError for a model that does not continue text, or more tokens than its context.
    """
    if prompt < 1 or tokens < 1 or batch < 1:
        raise UserError("prompt, tokens and batch must be at least 1")
    imports = peak_memory()
    began = time.perf_counter()
    loaded = load(source, dtype)
    seconds = time.perf_counter() - began
    model = left_to_right(loaded.model, "be timed at writing")
    config = model.config
    if prompt + tokens - 1 > config.context:
        raise UserError(f"{prompt} + {tokens} tokens are more than the model's context of {config.context}")
    drawn = random.Random(0)
    ids = [[drawn.randrange(config.vocabulary) for _ in range(prompt)] for _ in range(batch)]
    sampling = SamplingConfig(temperature=0, max_tokens=tokens)
    first = generate(model, ids, sampling, end_ids=[])[0].prefill_seconds
    rounds = [generate(model, ids, sampling, end_ids=[])[0] for _ in range(_REPEATS)]
    prefill = statistics.median(round.prefill_seconds for round in rounds)
    decode = statistics.median(round.decode_seconds for round in rounds)
    return {
        "model": loaded.hash,
        "family": loaded.family,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "prompt": prompt,
        "tokens": tokens,
        "batch": batch,
        "load_seconds": round(seconds, 4),
        "first_token_seconds": round(first, 4),
        "prefill_tokens_per_second": round(batch * prompt / prefill, 2),
        "decode_tokens_per_second": round(batch * (tokens - 1) / decode, 2) if tokens > 1 else None,
        "weights_bytes": sum(weight.nbytes for weight in model.parameters()),
        "imports_bytes": imports,
        "peak_memory_bytes": peak_memory(),
    }
