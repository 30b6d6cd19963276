"""The families by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from yuwen.config import nearest
from yuwen.errors import UserError
from yuwen.models import (
    albert,
    bart,
    bert,
    distilbert,
    gemma3,
    gpt2,
    llama,
    lstm,
    ngram,
    palm,
    qwen2,
    qwen3,
    rnn,
    roberta,
    t5,
    transformer,
    xlnet,
)
from yuwen.models.config import ModelConfig
from yuwen.models.encoder import Encoder
from yuwen.models.encoder_decoder import EncoderDecoder
from yuwen.models.left_to_right import LeftToRight
from yuwen.models.weights import Entry

Model = LeftToRight | Encoder | EncoderDecoder


@dataclass(frozen=True)
class Family:
    """What the rest of yuwen needs of a family: its settings, how it is built, its published weight names."""

    name: str
    config: type[ModelConfig]
    build: Callable[..., Model]
    weights: Callable[..., Sequence[Entry]]

    @property
    def encoder(self) -> bool:
        """Whether its models read text from both sides, and so cannot continue it."""
        return self.config.READS in ("both", "permuted")


FAMILIES: dict[str, Family] = {
    name: Family(name, config, module.build, module.weights)
    for name, config, module in (
        ("gpt2", gpt2.GPT2Config, gpt2),
        ("llama", llama.LlamaConfig, llama),
        ("qwen2", qwen2.Qwen2Config, qwen2),
        ("qwen3", qwen3.Qwen3Config, qwen3),
        ("gemma3", gemma3.Gemma3Config, gemma3),
        ("ngram", ngram.NGramConfig, ngram),
        ("lstm", lstm.LstmConfig, lstm),
        ("rnn", rnn.RnnConfig, rnn),
        ("palm", palm.PalmConfig, palm),
        ("bert", bert.BertConfig, bert),
        ("roberta", roberta.RobertaConfig, roberta),
        ("distilbert", distilbert.DistilBertConfig, distilbert),
        ("transformer", transformer.TransformerConfig, transformer),
        ("t5", t5.T5Config, t5),
        ("bart", bart.BartConfig, bart),
        ("albert", albert.AlbertConfig, albert),
        ("xlnet", xlnet.XLNetConfig, xlnet),
    )
}


def family(name: str) -> Family:
    """The family of that name, or of that published model_type. UserError names the nearest known one."""
    for known in FAMILIES.values():
        if name == known.name or name in known.config.model_types():
            return known
    raise UserError(f"unknown model family {name!r}: {nearest(name, list(FAMILIES))}")


def parse_config(name: str, values: Mapping[str, Any]) -> ModelConfig:
    """Settings of a family from plain values, as a recipe's `model` section gives them."""
    return family(name).config.parse("model", values)


def config_from_published(
    values: Mapping[str, Any], where: str, generation: Callable[[], Mapping[str, Any]] = dict
) -> ModelConfig:
    """Settings from a published `config.json`; its `architectures` and `model_type` choose the family. `generation`
    reads what `generation_config.json` says beside it, for families that have a setting there: it holds before any
    other."""
    for known in FAMILIES.values():
        if values.get("model_type") in known.config.model_types():
            readable = known.config.architectures()
            architectures = values.get("architectures") or list(readable)
            if not isinstance(architectures, list) or not any(name in readable for name in architectures):
                raise UserError(
                    f"{where}: architectures={architectures!r} is not supported (only {', '.join(readable)})"
                )
            said = generation() if known.config.MOVED else {}
            moved = {key: said[key] for key in known.config.MOVED if key in said}
            return known.config.from_published({**values, **moved}, where)
    known_types = ", ".join(sorted(name for known in FAMILIES.values() for name in known.config.model_types()))
    raise UserError(f"{where}: model_type {values.get('model_type')!r} is not a family known here ({known_types})")


def build(config: ModelConfig, generator: torch.Generator | None = None) -> Model:
    """A model of the settings' family with fresh weights, drawn from `generator`."""
    return family(config.MODEL_TYPE).build(config, generator)


def left_to_right(model: Model, purpose: str) -> LeftToRight:
    """The model, if it can `purpose` ("continue text"), which takes one that reads from left to right.

    UserError for any other.
    """
    if isinstance(model, LeftToRight):
        return model
    known = ", ".join(name for name, family in FAMILIES.items() if family.config.READS == "forwards")
    how = "writes one text for another" if isinstance(model, EncoderDecoder) else "reads from both sides"
    raise UserError(f"a {model.config.MODEL_TYPE} {how} and cannot {purpose}: give one of {known}")
