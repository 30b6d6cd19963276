"""Small models of every family that GGUF holds, and files made by hand, byte by byte."""

from __future__ import annotations

import struct
from typing import Any

import torch

from yuwen.models import Decoder, build, parse_config

V = 384  # a multiple of 32 and of more than the tests' tokenizer can have

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {}),
    "gpt2-untied": ("gpt2", {"tied": False}),
    "llama": ("llama", {"kv_heads": 2, "tied": False}),
    "llama-tied-biases": ("llama", {"rope_theta": 50_000.0, "attention_bias": True}),
    "llama-stretched": (
        "llama",
        {"rope_scaling": {"kind": "llama3", "factor": 8.0, "original_context": 8192}, "rope_theta": 500_000.0},
    ),
    "llama-linear": ("llama", {"rope_scaling": {"kind": "linear", "factor": 2.0}}),
    "qwen2": ("qwen2", {"kv_heads": 2}),
    "qwen3": ("qwen3", {"kv_heads": 1, "head_width": 32}),
    "qwen3-untied": ("qwen3", {"tied": False}),
    "gemma3": ("gemma3", {"kv_heads": 2, "head_width": 32, "layers": 7, "window": 8}),
}


def small_model(case: str, **values: Any) -> Decoder:
    """A model whose weights are drawn anew; norms and biases too, so that nothing is the same by chance."""
    name, shape = CASES[case]
    common = {"vocabulary": V, "context": 64, "layers": 2, "width": 64, "heads": 4, "ffn": 96}
    generator = torch.Generator().manual_seed(1)
    model = build(parse_config(name, {**common, **shape, **values}), generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    assert isinstance(model, Decoder)
    return model


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def setting(name: str | bytes, kind: int, raw: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + raw


def tensor(name: str | bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def file(
    settings: list[bytes],
    tensors: list[bytes],
    data: bytes = b"",
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A file with these parts; `counts` (tensors, settings) may lie."""
    said = counts or (len(tensors), len(settings))
    head = b"GGUF" + struct.pack("<IQQ", version, *said) + b"".join(settings) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + data
