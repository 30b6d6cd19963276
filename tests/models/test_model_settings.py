"""Shapes that cannot be, keys that nobody knows, published settings that ask for something else: one line each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import CASES, case_config

from yuwen.errors import UserError
from yuwen.models import FAMILIES, build, config_from_published, family, parse_config

SMALL = {"vocabulary": 50, "context": 16, "layers": 1, "width": 32, "heads": 4}

IMPOSSIBLE: list[tuple[str, dict[str, Any], str]] = [
    ("qwen3", {"width": 50}, "width=50 must be a multiple of heads=4"),
    ("gpt2", {"width": 50}, "width=50 must be a multiple of heads=4"),
    ("llama", {"kv_heads": 3}, "heads=4 must be a multiple of kv_heads=3"),
    ("llama", {"kv_heads": 8}, "heads=4 must be a multiple of kv_heads=8"),
    ("qwen3", {"width": 20}, "head_width=5 must be even"),
    ("qwen3", {"head_width": 7}, "head_width=7 must be even"),
    ("gpt2", {"width": 0}, "model.width=0: input should be greater than 0"),
    ("llama", {"layers": -1}, "model.layers=-1: input should be greater than 0"),
    ("llama", {"heads": 0}, "model.heads=0: input should be greater than 0"),
    ("llama", {"vocabulary": 0}, "model.vocabulary=0: input should be greater than 0"),
    ("llama", {"kv_heads": -2}, "model.kv_heads=-2: input should be greater than or equal to 0"),
    ("qwen3", {"width": 32.0}, "model.width=32.0: input should be a valid integer"),
    ("qwen3", {"width": "32"}, "model.width='32': input should be a valid integer"),
    ("qwen3", {"heads": True}, "model.heads=True: input should be a valid integer"),
    ("qwen3", {"heads": None}, "model.heads=None: input should be a valid integer"),
    ("gpt2", {"dropout": 1.0}, "model.dropout=1.0: input should be less than 1"),
    ("gpt2", {"norm_eps": float("nan")}, "model.norm_eps=nan: input should be"),
    ("llama", {"rope_theta": float("inf")}, "model.rope_theta=inf: input should be a finite number"),
    ("llama", {"width": 10**30}, "input should be less than or equal to 1048576"),
    ("llama", {"ffn": 10**30}, "model.ffn=1000000000000000000000000000000: input should be less than"),
    ("qwen3", {"head_width": 10**30}, "input should be less than or equal to 65536"),
    ("qwen3", {"layer": 3}, "unknown key model.layer: did you mean layers?"),
    ("qwen3", {"kvheads": 2}, "unknown key model.kvheads: did you mean kv_heads?"),
    ("gpt2", {"kv_heads": 2}, "unknown key model.kv_heads"),
    ("gpt3", {}, "unknown model family 'gpt3': did you mean gpt2?"),
]


@pytest.mark.parametrize(("name", "values", "message"), IMPOSSIBLE)
def test_an_impossible_shape_is_one_line(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_config(name, {**SMALL, **values})
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_vocabulary_must_be_given() -> None:
    with pytest.raises(UserError, match="model.vocabulary is missing"):
        parse_config("qwen3", {"width": 32, "heads": 4})


def test_what_is_left_out_is_filled_in() -> None:
    llama = parse_config("llama", SMALL)
    assert (llama.kv_heads, llama.head_width, llama.ffn, llama.tied) == (4, 8, 128, True)  # 8/3 x 32 = 85.3 -> 128
    assert parse_config("gpt2", SMALL).ffn == 128
    assert parse_config("llama", {**SMALL, "width": 384, "heads": 6}).ffn == 1024
    assert llama == parse_config("llama", llama.model_dump())


numbers = st.integers(-2, 70) | st.integers() | st.floats() | st.none() | st.text(max_size=3) | st.booleans()


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(FAMILIES)), st.data())
def test_any_values_are_a_model_or_one_line(name: str, data: st.DataObject) -> None:
    keys = st.sampled_from(sorted(family(name).config.model_fields))
    values = data.draw(st.dictionaries(keys, numbers, max_size=4))
    try:
        config = parse_config(name, {**SMALL, **values})
    except UserError as error:
        assert "\n" not in str(error)
    else:
        with torch.device("meta"):
            model = build(config.model_copy(update={"layers": min(config.layers, 2)}))
        assert model.head.weight.shape == (config.vocabulary, config.width)


@pytest.mark.parametrize("case", CASES)
def test_published_settings_go_there_and_back(case: str) -> None:
    config = case_config(case)
    theirs = transformers.AutoConfig.for_model(**config.published())
    assert config_from_published(theirs.to_dict(), "x") == config
    assert config_from_published(config.published(), "x") == config


def test_old_settings_are_read_as_they_were_meant() -> None:
    """What old config.json files leave out, and how they write the rotary base."""
    llama = parse_config("llama", {**SMALL, "tied": False, "rope_theta": 5e5}).published()
    for key in ("rope_parameters", "num_key_value_heads", "head_dim", "tie_word_embeddings", "attention_bias"):
        del llama[key]
    assert config_from_published({**llama, "rope_scaling": None}, "x").tied is False
    assert config_from_published(llama, "x").rope_theta == 5e5
    gpt2 = {**parse_config("gpt2", SMALL).published(), "n_inner": None, "n_ctx": 16, "task_specific_params": {"a": 1}}
    del gpt2["tie_word_embeddings"]
    assert config_from_published(gpt2, "x") == parse_config("gpt2", SMALL)
    qwen3 = parse_config("qwen3", SMALL).published()
    del qwen3["head_dim"]
    assert config_from_published(qwen3, "x").head_width == 128


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("llama", {"model_type": "bert"}, "model_type 'bert' is not a family known here"),
        ("llama", {"model_type": ["llama"]}, "is not a family known here"),
        (
            "llama",
            {"architectures": ["LlamaForSequenceClassification"]},
            "['LlamaForSequenceClassification'] is not supported",
        ),
        ("llama", {"architectures": 5}, "architectures"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act='gelu' is not supported for llama"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True is not supported"),
        ("qwen3", {"use_sliding_window": True}, "use_sliding_window=True is not supported"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "scaled rotary positions (linear)"),
        ("llama", {"rope_parameters": {"rope_type": "llama3"}}, "scaled rotary positions (llama3)"),
        ("llama", {"rope_parameters": "default"}, "rope_parameters"),
        ("llama", {"mlp_bias": True}, "settings this version does not know: mlp_bias"),
        ("llama", {"quantization_config": {"bits": 4}}, "settings this version does not know: quantization_config"),
        ("llama", {"hidden_size": None}, "no hidden_size: not the complete config.json"),
        ("gpt2", {"vocab_size": None}, "no vocab_size: not the complete config.json"),
        ("llama", {"hidden_size": "32"}, "x: model.width='32': input should be a valid integer"),
        (
            "llama",
            {"num_hidden_layers": 10**9},
            "x: model.layers=1000000000: input should be less than or equal to 1024",
        ),
    ],
)
def test_a_published_model_that_is_not_built_here_is_one_line(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        config_from_published({**parse_config(name, SMALL).published(), **values}, "x")
    assert message in str(error.value) and "\n" not in str(error.value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FAMILIES)), st.data())
def test_any_published_settings_are_a_model_or_one_line(name: str, data: st.DataObject) -> None:
    published = parse_config(name, SMALL).published()
    more = ["rope_scaling", "rope_parameters", "architectures", "model_type", "layer_types"]
    changes = data.draw(st.dictionaries(st.sampled_from([*published, *more]), anything, max_size=3))
    try:
        config_from_published({**published, **changes}, "x")
    except UserError as error:
        assert "\n" not in str(error)
