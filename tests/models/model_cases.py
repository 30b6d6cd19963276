"""The families in all the shapes that the battery runs over, and their counterparts in transformers."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

from yuwen.models import Decoder, build, config_from_published, parse_config
from yuwen.models.config import ModelConfig

V = 83  # a prime: nothing divides it by chance

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {}),
    "gpt2-untied": ("gpt2", {"tied": False, "heads": 3, "ffn": 40, "norm_eps": 1e-3}),
    "llama": ("llama", {}),
    "llama-grouped-untied": ("llama", {"kv_heads": 2, "tied": False, "rope_theta": 500_000.0}),
    "llama-multiquery-biased": ("llama", {"kv_heads": 1, "attention_bias": True, "ffn": 40}),
    "llama-wide-heads": ("llama", {"head_width": 14, "norm_eps": 1e-3}),
    "qwen3": ("qwen3", {}),
    "qwen3-grouped": ("qwen3", {"kv_heads": 2, "head_width": 16, "rope_theta": 1_000_000.0}),
    "qwen3-multiquery-untied": ("qwen3", {"kv_heads": 1, "tied": False, "attention_bias": True, "norm_eps": 1e-5}),
}
ONE_EACH = ["gpt2", "llama-grouped-untied", "qwen3-grouped"]


def case_config(case: str, **values: Any) -> ModelConfig:
    name, shape = CASES[case]
    return parse_config(
        name, {"vocabulary": V, "context": 320, "layers": 2, "width": 48, "heads": 4, **shape, **values}
    )


def case_model(case: str, seed: int = 0, **values: Any) -> Decoder:
    """A model whose every weight, norms and biases too, is far from where training starts."""
    generator = torch.Generator().manual_seed(seed)
    model = build(case_config(case, **values), generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def their_model(config: ModelConfig, seed: int = 0) -> Any:
    """The same architecture in transformers, with random weights of its own."""
    torch.manual_seed(seed)
    theirs = transformers.AutoConfig.for_model(**{**config.published(), "bos_token_id": None, "eos_token_id": None})
    assert config_from_published(theirs.to_dict(), "theirs") == config
    model = transformers.AutoModelForCausalLM.from_config(theirs, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def random_ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, V, shape, generator=torch.Generator().manual_seed(seed))


def logits(model: Decoder, ids: Tensor, *inputs: Any) -> Tensor:
    with torch.no_grad():
        return model.output(model(ids, *inputs))
