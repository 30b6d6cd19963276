"""Rotary positions against transformers' and against what they are for: scores that depend on distance only."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from yuwen.nn import LearnedPositions, LinearScaling, Llama3Scaling, Rotary, YarnScaling, rotate
from yuwen.nn.position import Scaling


@pytest.mark.parametrize("head_width", [2, 8, 64])
@pytest.mark.parametrize("theta", [10_000.0, 1_000_000.0])
def test_equal_to_transformers(head_width: int, theta: float) -> None:
    torch.manual_seed(0)
    q, k, positions = torch.randn(2, 4, 33, head_width), torch.randn(2, 1, 33, head_width), torch.arange(33)[None]
    frequencies = 1.0 / theta ** (torch.arange(0, head_width, 2).float() / head_width)
    angles = positions[..., None].float() * frequencies
    doubled = torch.cat((angles, angles), -1)
    their_q, their_k = apply_rotary_pos_emb(q, k, doubled.cos(), doubled.sin())
    rotation = Rotary(head_width, theta)(positions, torch.float32)
    torch.testing.assert_close(rotate(q, rotation), their_q, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rotate(k, rotation), their_k, atol=1e-5, rtol=1e-5)


def test_scores_depend_on_distance_alone() -> None:
    torch.manual_seed(0)
    q, k, rotary = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16), Rotary(16)

    def score(at: int, looked_at: int) -> float:
        turned = [rotate(x, rotary(torch.tensor([[p]]), torch.float32)) for x, p in ((q, at), (k, looked_at))]
        return float((turned[0] * turned[1]).sum())

    assert score(7, 3) == pytest.approx(score(107, 103), abs=1e-4)
    assert abs(score(7, 3) - score(7, 0)) > 0.1


def test_a_rotation_keeps_lengths() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 50, 8)
    turned = rotate(x, Rotary(8)(torch.arange(50)[None], torch.float32))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])  # position 0 turns nothing


def test_each_row_of_a_batch_has_its_own_positions() -> None:
    x, rotary = torch.ones(2, 1, 3, 4), Rotary(4)
    positions = torch.tensor([[0, 1, 2], [5, 6, 7]])
    turned = rotate(x, rotary(positions, torch.float32))
    for row in range(2):
        alone = rotate(x[row : row + 1], rotary(positions[row : row + 1], torch.float32))
        assert torch.equal(turned[row : row + 1], alone)


def test_an_odd_head_is_refused() -> None:
    with pytest.raises(ValueError, match="must be even"):
        Rotary(7)


def test_learned_positions_end() -> None:
    table = LearnedPositions(4, 2)
    torch.nn.init.normal_(table.weight)
    assert torch.equal(table(torch.tensor([[0, 3]])), table.weight[[0, 3]][None])
    with pytest.raises(ValueError, match="past the 4 learned positions"):
        table(torch.tensor([[4]]))


@pytest.mark.parametrize("head_width", [8, 64, 128])
@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        (LinearScaling(8.0), {"rope_type": "linear", "factor": 8.0}),
        (
            Llama3Scaling(32.0, 8192, 1.0, 4.0),
            {"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192, "low_freq_factor": 1.0}
            | {"high_freq_factor": 4.0},
        ),
        (
            Llama3Scaling(2.0, 64, 0.5, 3.0),
            {"rope_type": "llama3", "factor": 2.0, "original_max_position_embeddings": 64, "low_freq_factor": 0.5}
            | {"high_freq_factor": 3.0},
        ),
        (YarnScaling(4.0, 32768), {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}),
        (
            YarnScaling(16.0, 100, 8.0, 2.0, 1.5),
            {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 100, "beta_fast": 8.0}
            | {"beta_slow": 2.0, "attention_factor": 1.5},
        ),
        (YarnScaling(2.0, 16), {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16}),
    ],
)
def test_stretched_positions_are_theirs(scaling: Scaling, said: dict[str, object], head_width: int) -> None:
    config = transformers.LlamaConfig(
        hidden_size=head_width, num_attention_heads=1, head_dim=head_width, max_position_embeddings=131072,
        rope_parameters={**said, "rope_theta": 500_000.0},
    )  # fmt: skip
    expected, amplitude = ROPE_INIT_FUNCTIONS[said["rope_type"]](config, None)
    cos, sin = Rotary(head_width, 500_000.0, scaling)(torch.tensor([[0, 1, 5000]]), torch.float32)
    torch.testing.assert_close(cos[0, 0, 1], expected.cos() * amplitude, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(sin[0, 0, 1], expected.sin() * amplitude, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(sin[0, 0, 2], (5000 * expected).sin() * amplitude, atol=1e-3, rtol=0)
    assert (cos[0, 0, 0] == amplitude).all()
