"""Rotary positions against transformers' and against what they are for: scores that depend on distance only."""

from __future__ import annotations

import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from yuwen.nn import LearnedPositions, Rotary, rotate


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
