"""Small random models whose scores differ clearly, so that rounding decides nothing."""

from __future__ import annotations

import tokenizers
import torch
from tokenizers import decoders, models, normalizers

from yuwen.models import FAMILIES, Decoder, EncoderDecoder, build, parse_config
from yuwen.tokens import Tokenizer

TEXT = (
    "从前有座山，山里有座庙，庙里有个老和尚在给小和尚讲故事。\n"
    "The quick brown fox jumps over the lazy dog; the dog sleeps on.\n"
    "语文是说话和写字。A language model speaks 🙂 and writes.\n"
) * 20


def random_model(family: str, vocabulary: int, context: int = 64, seed: int = 0) -> Decoder:
    values = {"vocabulary": vocabulary, "context": context, "layers": 2, "width": 32, "heads": 4, "kv_heads": 2}
    values = {key: value for key, value in values.items() if key in FAMILIES[family].config.model_fields}
    if family == "gemma3":
        values |= {"window": 9, "global_every": 2}  # one local layer, which soon forgets, and one global
    generator = torch.Generator().manual_seed(seed)
    model = build(parse_config(family, values), generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def random_pair_model(family: str, vocabulary: int, context: int = 64, seed: int = 0) -> EncoderDecoder:
    """An encoder–decoder whose start, in BART's case, ends texts too, as published; "bart-bos" gives `<s>` besides."""
    bos = {"bos": 6} if family == "bart-bos" else {}
    family = family.removesuffix("-bos")
    values = {"vocabulary": vocabulary, "context": context, "layers": 2, "encoder_layers": 1, "width": 32, "heads": 4}
    if family == "t5":  # with sides of unequal depth their cache is too short for the deeper one
        values |= {"encoder_layers": 2}
    generator = torch.Generator().manual_seed(seed)
    model = build(parse_config(family, {**values, **bos, "start": 3 if family == "bart" else 1}), generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    assert isinstance(model, EncoderDecoder)
    return model


def sentencepiece() -> Tokenizer:
    """As LLaMA 2 and Gemma have them: ▁ for a space, one put in front, and bytes for what has no piece of its own."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *"abcdefghijklmnopqrstuvwxyz", "山", "▁t", "he", "▁the"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he")]
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    joined = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(joined)
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return Tokenizer(backend, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
