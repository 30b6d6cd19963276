"""PaLM was never published as code; Cohere's Command was, and differs from it in three things that can be bridged.

Its block is the same one line (x + attention(n) + SwiGLU(n), n = LayerNorm(x) without bias, nothing has biases, the
head is the embedding). It turns neighbouring coordinates where ours turns halves, may have several key-value heads, and
multiplies its scores by a constant that can be chosen.
"""

from __future__ import annotations

import torch
from transformers import CohereConfig, CohereForCausalLM

from yuwen.models import build, parse_config
from yuwen.models.palm import Palm, PalmConfig, weights
from yuwen.models.weights import to_published

SHAPE = {"vocabulary": 61, "context": 64, "layers": 3, "width": 48, "heads": 4, "ffn": 80}


def model() -> Palm:
    config = parse_config("palm", SHAPE)
    assert isinstance(config, PalmConfig)
    return build(config, torch.Generator().manual_seed(0)).eval()  # type: ignore[return-value]


def theirs(ours: Palm) -> CohereForCausalLM:
    config = ours.config
    other = CohereForCausalLM(
        CohereConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=config.ffn,
            logit_scale=config.width**-0.5,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=1,
            max_position_embeddings=config.context,
            layer_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            attention_bias=False,
            use_qk_norm=False,
            tie_word_embeddings=True,
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).eval()
    published = to_published(weights(config), ours.state_dict())
    half = config.head_width // 2
    order = torch.stack((torch.arange(half), torch.arange(half) + half), dim=1).flatten()  # 0, half, 1, half + 1 ...
    for name, weight in published.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            published[name] = weight.unflatten(0, (-1, config.head_width))[:, order].flatten(0, 1)
    result = other.load_state_dict(published, strict=False)
    assert result.unexpected_keys == [] and result.missing_keys == ["lm_head.weight"]
    return other


def test_its_scores_and_gradients_are_those_of_published_code() -> None:
    ours = model()
    other = theirs(ours)
    ids = torch.randint(0, 61, (2, 50), generator=torch.Generator().manual_seed(1))
    mine, expected = ours.output(ours(ids)), other(ids).logits
    torch.testing.assert_close(mine, expected, atol=1e-5, rtol=0)
    weight = mine.new_empty(mine.shape).normal_(generator=torch.Generator().manual_seed(2))
    (mine * weight).sum().backward()
    (expected * weight).sum().backward()
    for name in ("input_layernorm", "mlp.gate_proj", "self_attn.v_proj"):
        theirs_is = other.get_parameter(f"model.layers.1.{name}.weight").grad
        entry = {"input_layernorm": "norm", "mlp.gate_proj": "feedforward.gate", "self_attn.v_proj": "attention.value"}
        assert theirs_is is not None
        torch.testing.assert_close(
            ours.get_parameter(f"blocks.1.{entry[name]}.weight").grad, theirs_is, atol=1e-4, rtol=1e-4
        )


def test_one_key_value_head_and_no_biases() -> None:
    named = dict(model().named_parameters())
    assert not [name for name in named if "bias" in name]
    assert named["blocks.0.attention.key.weight"].shape == (12, 48) == named["blocks.0.attention.value.weight"].shape
    assert named["blocks.0.attention.query.weight"].shape == (48, 48)
