"""The families in all the shapes that the battery runs over, and their counterparts in transformers."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

from yuwen.models import Decoder, build, config_from_published, family, parse_config
from yuwen.models.config import ModelConfig

V = 83  # a prime: nothing divides it by chance

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {}),
    "gpt2-untied": ("gpt2", {"tied": False, "heads": 3, "ffn": 40, "norm_eps": 1e-3}),
    "llama": ("llama", {}),
    "llama-grouped-untied": ("llama", {"kv_heads": 2, "tied": False, "rope_theta": 500_000.0}),
    "llama-multiquery-biased": ("llama", {"kv_heads": 1, "attention_bias": True, "ffn": 40}),
    "llama-wide-heads": ("llama", {"head_width": 14, "norm_eps": 1e-3}),
    "llama-squeezed": ("llama", {"rope_scaling": {"kind": "linear", "factor": 4.0}}),
    "llama-3.1": ("llama", {"rope_scaling": {"kind": "llama3", "factor": 8.0, "original_context": 40}}),
    "qwen2": ("qwen2", {}),
    "qwen2-grouped-untied": ("qwen2", {"kv_heads": 2, "tied": False, "rope_theta": 1_000_000.0, "norm_eps": 1e-5}),
    "qwen2-multiquery": ("qwen2", {"kv_heads": 1, "ffn": 40, "head_width": 16}),
    "qwen3": ("qwen3", {}),
    "qwen3-grouped": ("qwen3", {"kv_heads": 2, "head_width": 16, "rope_theta": 1_000_000.0}),
    "qwen3-multiquery-untied": ("qwen3", {"kv_heads": 1, "tied": False, "attention_bias": True, "norm_eps": 1e-5}),
    "qwen3-yarn": ("qwen3", {"rope_scaling": {"kind": "yarn", "factor": 4.0, "original_context": 64}}),
    "gemma3": ("gemma3", {"window": 9, "global_every": 2}),
    "gemma3-grouped": ("gemma3", {"layers": 3, "kv_heads": 2, "head_width": 16, "window": 64, "global_every": 3}),
    "gemma3-squeezed-untied": (
        "gemma3",
        {"kv_heads": 1, "tied": False, "attention_bias": True, "window": 5, "global_every": 2, "query_scalar": 20}
        | {"rope_scaling": {"kind": "linear", "factor": 8.0}, "norm_eps": 1e-3, "ffn": 40},
    ),
    "gemma3-all-global": ("gemma3", {"global_every": 1, "window": 3}),
    "palm": ("palm", {}),
    "palm-wide-heads": ("palm", {"head_width": 14, "ffn": 40, "rope_theta": 500_000.0, "norm_eps": 1e-3}),
    "transformer-decoder": ("transformer", {"encoder_layers": 0}),
    "transformer-decoder-pre-untied": ("transformer", {"encoder_layers": 0, "norm": "pre", "tied": False, "heads": 3}),
    "transformer-decoder-additive": ("transformer", {"encoder_layers": 0, "score": "additive"}),
    "rnn": ("rnn", {}),
    "rnn-deep-untied": ("rnn", {"layers": 3, "hidden": 60, "tied": False}),
    "lstm": ("lstm", {}),
    "lstm-wide": ("lstm", {"hidden": 60}),
    "lstm-single-untied": ("lstm", {"layers": 1, "tied": False}),
}
ONE_EACH = [
    *("gpt2", "llama-grouped-untied", "qwen2-grouped-untied", "qwen3-grouped", "gemma3", "palm"),
    *("transformer-decoder", "rnn", "lstm-wide"),
]
OWN = {"palm", "rnn", "lstm", "transformer"}  # with no class in transformers (the Transformer has two for its pairs)
PUBLISHED = [case for case, (name, _) in CASES.items() if name not in OWN]
STEPS = {"rnn": (70, 2e-2), "lstm": (250, 2e-2)}  # steps and rate by which a batch is known by heart; else 70, 5e-3
FADES = {"rnn": 4, "lstm": 4}  # positions at which a change is heard for certain, where a state forgets it by and by
SURE = {"palm": 1.5}  # nats that fresh weights lose to knowing nothing, if more than 0.1: scores with unit variance


def case_config(case: str, **values: Any) -> ModelConfig:
    name, shape = CASES[case]
    common = {"vocabulary": V, "context": 320, "layers": 2, "width": 48, "heads": 4}
    fields = family(name).config.model_fields
    return parse_config(name, {**{k: v for k, v in common.items() if k in fields}, **shape, **values})


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
    theirs = transformers.AutoConfig.for_model(
        **{**config.published(), "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    )
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
