"""Small models of every family for the folder tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from yuwen.models import Decoder, build, parse_config

V = 360  # the most ids the tests' tokenizer can have

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {}),
    "gpt2-untied": ("gpt2", {"tied": False}),
    "llama": ("llama", {"kv_heads": 2, "tied": False, "attention_bias": True}),
    "llama-tied": ("llama", {"rope_theta": 50_000.0}),
    "llama-3.1": ("llama", {"rope_scaling": {"kind": "llama3", "factor": 8.0, "original_context": 16}}),
    "qwen2": ("qwen2", {"kv_heads": 2}),
    "gemma3": ("gemma3", {"kv_heads": 2, "head_width": 16, "window": 7, "global_every": 2}),
    "qwen3": ("qwen3", {"kv_heads": 1, "head_width": 16}),
    "qwen3-untied": ("qwen3", {"tied": False}),
}


def small_model(case: str, **values: Any) -> Decoder:
    name, shape = CASES[case]
    common = {"vocabulary": V, "context": 64, "layers": 2, "width": 32, "heads": 4}
    generator = torch.Generator().manual_seed(1)
    model = build(parse_config(name, {**common, **shape, **values}), generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def their_model(case: str) -> Any:
    """A model that transformers made up by itself."""
    torch.manual_seed(2)
    config = transformers.AutoConfig.for_model(
        **{**small_model(case).config.published(), "eos_token_id": 0, "bos_token_id": 0}
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def opened_by_transformers(folder: Path, **options: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def logits(model: Decoder, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model.output(model(ids))


def their_logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids).logits


def random_ids(*shape: int) -> Tensor:
    return torch.randint(0, V, shape, generator=torch.Generator().manual_seed(0))
