"""Windows and rows of made text, a vocabulary with every special token, and a tiny model for each objective."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from yuwen.config import Config
from yuwen.data import Sample
from yuwen.data.buckets import Rows
from yuwen.data.shards import DOCUMENT, SENTENCE, WORD
from yuwen.models import build, parse_config
from yuwen.objectives import SPECIAL_TOKENS, Batch, ObjectiveConfig, Vocabulary, build_objective
from yuwen.tokens import Tokenizer, TokenizerConfig, train

SPECIALS = tuple(dict.fromkeys(text for texts in SPECIAL_TOKENS.values() for text in texts))
LENGTH = 40


class Asked(Config):
    objective: ObjectiveConfig


def settings(name: str, **values: Any) -> Any:
    """The settings of an objective."""
    return Asked.parse("", {"objective": {"name": name, **values}}).objective


@functools.cache
def tokenizer() -> Tokenizer:
    """Forty characters and every special token."""
    return train(
        ["abcdefghijklmnopqrstuvwxyz 语言是思想的衣裳。\n" * 2], TokenizerConfig(kind="char", specials=SPECIALS)
    )


@functools.cache
def vocabulary() -> Vocabulary:
    return Vocabulary.of(tokenizer())


def windows(seed: int, rows: int = 3, length: int = LENGTH, specials: float = 0.08) -> Sample:
    """ids [rows, length + 1]: mostly ordinary tokens; documents closed by the end token, unknown tokens in between."""
    rng, known = np.random.default_rng(seed), vocabulary()
    shape = (rows, length + 1)
    ids = known.ordinary[rng.integers(0, len(known.ordinary), shape)]
    ids[rng.random(shape) < specials / 2] = tokenizer().unknown_id
    ends = rng.random(shape) < specials / 2
    ids[ends] = known.end
    flags = (rng.random(shape) < 0.5) * np.uint8(WORD) | (rng.random(shape) < 0.15) * np.uint8(SENTENCE)
    flags[:, 1:][ends[:, :-1]] = WORD | SENTENCE | DOCUMENT
    return Sample(ids, flags.astype(np.uint8), np.arange(rows))


def row_texts(seed: int, names: tuple[str, ...], rows: int = 4, longest: int = 12) -> Rows:
    """Rows of texts, 1 to `longest` tokens each."""
    rng, known = np.random.default_rng(seed), vocabulary()
    lengths = rng.integers(1, longest + 1, (len(names), rows))
    fields = {
        name: [known.ordinary[rng.integers(0, len(known.ordinary), n)] for n in lengths[place]]
        for place, name in enumerate(names)
    }
    return Rows(fields, None, None, np.arange(rows), length=longest + 4)


def some_windows(least: int = 1) -> st.SearchStrategy[Sample]:
    """Windows of all sizes, from text without special tokens to little else."""
    return st.builds(
        windows,
        st.integers(0, 10_000),
        st.integers(least, 4),
        st.integers(8, 48),
        st.sampled_from([0.0, 0.08, 0.5, 1.0]),
    )


seeds = st.integers(0, 10_000)

SHAPE = {"vocabulary": 192, "context": 64, "layers": 2, "width": 16, "heads": 2}

# Name of the case → objective, its settings, how the model reads, family, its settings, the fields of its rows.
CASES: dict[str, tuple[str, dict[str, Any], str, str, dict[str, Any], tuple[str, ...]]] = {
    "causal": ("causal", {}, "forwards", "llama", {}, ()),
    "prefix": ("prefix", {}, "forwards", "llama", {}, ()),
    "prefix-pairs": ("prefix", {}, "pairs", "t5", {}, ()),
    "masked": ("masked", {}, "both", "roberta", {}, ()),
    "masked-static-words": ("masked", {"static": True, "whole_words": True}, "both", "bert", {}, ()),
    "next_sentence": ("next_sentence", {}, "both", "bert", {}, ()),
    "sentence_order": ("sentence_order", {}, "both", "albert", {"embedding_width": 8}, ()),
    "permuted": ("permuted", {}, "permuted", "xlnet", {}, ()),
    "span": ("span", {}, "pairs", "t5", {}, ()),
    "denoising": ("denoising", {"mask": 0.1, "delete": 0.1, "rotate": True}, "pairs", "bart", {}, ()),
    "seq2seq": ("seq2seq", {}, "pairs", "transformer", {}, ("source", "target")),
    "seq2seq-bos": ("seq2seq", {}, "pairs", "bart", {"bos": 5}, ("source", "target")),
    "seq2seq-smoothed": ("seq2seq", {"label_smoothing": 0.1}, "pairs", "transformer", {}, ("source", "target")),
    "contrastive-pairs": ("contrastive", {}, "both", "bert", {}, ("anchor", "positive", "negative")),
    "contrastive-text": ("contrastive", {}, "both", "bert", {"dropout": 0.1}, ("text",)),
}


def objective(case: str) -> Any:
    name, values, reads, *_ = CASES[case]
    return build_objective(settings(name, **values), tokenizer(), reads)  # type: ignore[arg-type]


def model(case: str, seed: int = 0) -> Any:
    _, _, _, family, shape, _ = CASES[case]
    return build(parse_config(family, {**SHAPE, **shape}), torch.Generator().manual_seed(seed)).eval()


def samples(case: str, seed: int, rows: int = 4) -> Any:
    names = CASES[case][-1]
    return row_texts(seed, names, rows) if names else windows(seed, rows)


def prepared(case: str, seed: int = 0, rows: int = 4) -> Batch:
    return objective(case).prepare(samples(case, seed, rows), np.random.default_rng(seed))
