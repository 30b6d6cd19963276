"""Shapes that cannot be, keys that nobody knows, published settings that ask for something else: one line each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import CASES, PUBLISHED, case_config

from yuwen.errors import UserError
from yuwen.models import FAMILIES, build, config_from_published, family, parse_config
from yuwen.models.gemma3 import Gemma3Config

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
    ("qwen2", {"attention_bias": False}, "model.attention_bias=False: input should be True"),
    (
        "llama",
        {"rope_scaling": {"kind": "ntk", "factor": 2}},
        "model.rope_scaling.kind='ntk': input should be 'linear'",
    ),
    ("llama", {"rope_scaling": {"kind": "linear", "fatcor": 2}}, "model.rope_scaling.factor is missing"),
    ("llama", {"rope_scaling": {"kind": "linear", "factor": 2, "lo": 1}}, "unknown key model.rope_scaling.lo"),
    (
        "llama",
        {"rope_scaling": {"kind": "linear", "factor": 2, "beta_fast": 1}},
        "linear scaling does not read beta_fast",
    ),
    ("llama", {"rope_scaling": {"kind": "llama3", "factor": 2}}, "llama3 scaling needs original_context"),
    ("qwen3", {"rope_scaling": 3}, "model.rope_scaling=3: input should be a valid dictionary"),
    ("gemma3", {"window": 0}, "model.window=0: input should be greater than 0"),
    ("gemma3", {"global_every": 0}, "model.global_every=0: input should be greater than 0"),
    (
        "gemma3",
        {"layers": 5, "rope_scaling": {"kind": "linear", "factor": 8}},
        "rope_scaling is of global layers, and none of 5 is one: lower global_every",
    ),
    ("roberta", {"padding": 300}, "padding=300 is no id of a vocabulary of"),
    ("palm", {"kv_heads": 2}, "unknown key model.kv_heads"),
    ("lstm", {}, "unknown key model.heads"),
    ("palm", {"tied": False}, "model.tied=False: input should be True"),
    ("palm", {"width": 20}, "head_width=5 must be even"),
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


def small(name: str) -> dict[str, Any]:
    """The small shape, as far as the family has such a shape."""
    return {key: value for key, value in SMALL.items() if key in family(name).config.model_fields}


NETWORKS = sorted(name for name, family in FAMILIES.items() if not family.config.COUNTS)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(NETWORKS), st.data())
def test_any_values_are_a_model_or_one_line(name: str, data: st.DataObject) -> None:
    keys = st.sampled_from(sorted(family(name).config.model_fields))
    values = data.draw(st.dictionaries(keys, numbers, max_size=4))
    try:
        config = parse_config(name, {**small(name), **values})
    except UserError as error:
        assert "\n" not in str(error)
    else:
        with torch.device("meta"):
            model = build(config.model_copy(update={"layers": min(config.layers, 2)}))
        assert model.embedding.weight.shape == (config.vocabulary, getattr(config, "embedding_width", config.width))


@pytest.mark.parametrize("case", CASES)
def test_published_settings_go_there_and_back(case: str) -> None:
    config = case_config(case)
    assert config_from_published(config.published(), "x") == config
    if case in PUBLISHED:
        theirs = transformers.AutoConfig.for_model(**config.published())
        assert config_from_published(theirs.to_dict(), "x") == config


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
    scaled = parse_config(
        "llama", {**SMALL, "rope_scaling": {"kind": "llama3", "factor": 32, "original_context": 8}, "rope_theta": 5e5}
    )
    old = {"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8}
    assert config_from_published({**scaled.published(), "rope_parameters": None, "rope_scaling": old}, "x") == scaled
    yarn = {**parse_config("qwen2", SMALL).published(), "rope_scaling": {"type": "yarn", "factor": 4.0}}
    assert config_from_published(yarn, "x").rope_scaling.original_context == 16, (
        "its own context, where nothing is said"
    )


def test_gemma_3_as_its_files_are_written() -> None:
    """The settings of the 270M and of the 4B's text model, as google publishes them."""
    small = {
        "_sliding_window_pattern": 6,
        "architectures": ["Gemma3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 640,
        "intermediate_size": 2048,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
        "max_position_embeddings": 32768,
        "model_type": "gemma3_text",
        "num_attention_heads": 4,
        "num_hidden_layers": 18,
        "num_key_value_heads": 1,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "sliding_window": 512,
        "use_bidirectional_attention": False,
        "vocab_size": 262144,
    }
    config = config_from_published(small, "x")
    assert isinstance(config, Gemma3Config) and config.local_layers == [n for n in range(18) if n % 6 != 5]
    assert (config.window, config.rope_theta, config.rope_local_theta, config.tied) == (512, 1e6, 1e4, True)
    large = {
        "architectures": ["Gemma3ForCausalLM"],
        "cache_implementation": "hybrid",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "max_position_embeddings": 131072,
        "model_type": "gemma3_text",
        "num_attention_heads": 8,
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
        "sliding_window_pattern": 6,
        "vocab_size": 262208,
    }
    config = config_from_published(large, "x")
    assert isinstance(config, Gemma3Config) and config.rope_scaling is not None
    assert (config.rope_scaling.kind, config.rope_scaling.factor, config.rope_theta) == ("linear", 8.0, 1e6)
    assert (config.kv_heads, config.head_width, config.query_scalar, config.global_every) == (4, 256, 256, 6)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("llama", {"model_type": "mamba"}, "model_type 'mamba' is not a family known here"),
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
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rotary positions scaled by 'dynamic' are not"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "x: model.rope_scaling.factor is missing"),
        (
            "llama",
            {"rope_scaling": {"type": "yarn", "factor": 0.5}},
            "model.rope_scaling.factor=0.5: input should be gr",
        ),
        ("llama", {"rope_scaling": {"type": "yarn", "factor": 2, "mscale": 1}}, "does not know: mscale"),
        ("qwen3", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "does not know: partial_rotary_factor"),
        (
            "llama",
            {"rope_scaling": {"type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4}},
            "low_freq_factor=4.0 must be below high_freq_factor=4.0",
        ),
        ("llama", {"rope_parameters": "default"}, "rope_parameters='default' is not an object"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window=True is not supported"),
        ("qwen2", {"layer_types": ["sliding_attention"]}, "layer_types=['sliding_attention'] is not supported"),
        ("qwen3", {"layer_types": "full_attention"}, "layer_types=full_attention is not supported"),
        ("gemma3", {"layer_types": ["full_attention", "sliding_attention"]}, "is not supported (only every n-th layer"),
        ("gemma3", {"layer_types": 7}, "layer_types=7 is not supported"),
        ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0 is not supported"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0 is not supported"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True is not supported"),
        ("gemma3", {"hidden_activation": "gelu"}, "hidden_activation='gelu' is not supported"),
        ("gemma3", {"rope_parameters": {"rope_type": "default"}}, "are by kind of layer, not rope_type"),
        (
            "gemma3",
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            "scaled rotary positions in the local layers are not supported",
        ),
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
    published = parse_config(name, small(name)).published()
    more = ["rope_scaling", "rope_parameters", "architectures", "model_type", "layer_types"]
    changes = data.draw(st.dictionaries(st.sampled_from([*published, *more]), anything, max_size=3))
    try:
        config_from_published({**published, **changes}, "x")
    except UserError as error:
        assert "\n" not in str(error)
