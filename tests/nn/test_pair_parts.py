"""The parts of encoder–decoders against their equations, written out slowly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from yuwen.nn import (
    Additive,
    Attention,
    BiasedDotProduct,
    Causal,
    CrossAttention,
    Everything,
    MemoryCache,
    Padding,
    RelativeBias,
    ScaledDotProduct,
    ShiftedPositions,
    SinusoidalPositions,
    score,
)

CPU = torch.device("cpu")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def test_waves_are_those_of_the_paper() -> None:
    waves = SinusoidalPositions(6)(torch.tensor([[0, 1, 77]]))
    for row, position in enumerate((0, 1, 77)):
        angles = [position / 10_000 ** (2 * i / 6) for i in range(3)]
        expected = [*map(math.sin, angles), *map(math.cos, angles)]
        torch.testing.assert_close(waves[0, row], torch.tensor(expected))
    with pytest.raises(ValueError, match="a width of 7 must be even"):
        SinusoidalPositions(7)


def test_far_out_the_waves_are_exact() -> None:
    position, waves = 16_777_215, SinusoidalPositions(64)
    found = waves(torch.tensor([[position]]))[0, 0]
    expected = [math.sin(position * 10_000 ** (-2 * i / 64)) for i in range(32)]
    torch.testing.assert_close(found[:32], torch.tensor(expected), atol=1e-6, rtol=0)


def test_shifted_positions_begin_at_row_two() -> None:
    positions = ShiftedPositions(5, 3)
    torch.nn.init.normal_(positions.weight)
    assert len(positions.weight) == 7
    assert torch.equal(positions(torch.arange(5)[None])[0], positions.weight[2:])
    with pytest.raises(ValueError, match="past the"):
        positions(torch.tensor([[5]]))


def bucket_by_hand(distance: int, buckets: int, furthest: int, both_sides: bool) -> int:
    """Raffel et al. 2020, section 2.1, as their code has it."""
    first = 0
    if both_sides:
        buckets //= 2
        first, distance = (buckets if distance > 0 else 0), abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    share = math.log(distance / exact) / math.log(furthest / exact)
    return first + min(exact + int(share * (buckets - exact)), buckets - 1)


@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (8, 20), (16, 1000)])
@pytest.mark.parametrize("both_sides", [True, False])
def test_buckets_of_distances(buckets: int, furthest: int, both_sides: bool) -> None:
    bias = RelativeBias(2, buckets=buckets, furthest=furthest, both_sides=both_sides)
    distances = list(range(-1200, 1200))
    expected = [bucket_by_hand(d, buckets, furthest, both_sides) for d in distances]
    assert bias.bucket(torch.tensor(distances)).tolist() == expected
    unused = {buckets // 2} if both_sides else set()  # it would be for a key 0 places behind
    assert set(expected) == set(range(buckets)) - unused


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (7, 7), (3, 7), (1, 7)])
@pytest.mark.parametrize("both_sides", [True, False])
def test_the_bias_of_every_pair(queries: int, keys: int, both_sides: bool) -> None:
    bias = RelativeBias(3, buckets=8, furthest=20, both_sides=both_sides)
    torch.nn.init.normal_(bias.weight)
    mask = Everything() if both_sides else Causal()
    allowed = bias(mask.resolve(queries, keys, CPU), queries, keys)
    assert allowed.bias is not None and allowed.bias.shape == (1, 3, queries, keys) and not allowed.causal
    found = allowed.bias if allowed.table is None else allowed.bias.masked_fill(~allowed.table, -math.inf)
    for row, t in enumerate(range(keys - queries, keys)):
        for s in range(keys):
            if not both_sides and s > t:
                assert (found[0, :, row, s] == -math.inf).all()
            else:
                expected = bias.weight[bucket_by_hand(s - t, 8, 20, both_sides)]
                assert torch.equal(found[0, :, row, s], expected)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_biased_scores(causal: bool, padded: bool) -> None:
    q, k, v = drawn(2, 4, 6, 8), drawn(2, 2, 6, 8, seed=1), drawn(2, 2, 6, 8, seed=2)
    bias = RelativeBias(4, both_sides=not causal)
    torch.nn.init.normal_(bias.weight)
    keep = torch.tensor([[True] * 6, [True, False, True, True, True, False]])
    mask = Causal() if causal else Everything()
    mask = mask & Padding(keep) if padded else mask
    allowed = bias(mask.resolve(6, 6, CPU), 6, 6)
    slots = torch.arange(6)
    distances = bias.weight[bias.bucket(slots[None] - slots[:, None])].permute(2, 0, 1)
    scores = q @ k.repeat_interleave(2, 1).transpose(-1, -2) * 0.3 + distances
    weights = scores.masked_fill(~mask.table(slots, slots), -math.inf).softmax(-1)
    expected = weights @ v.repeat_interleave(2, 1)
    torch.testing.assert_close(BiasedDotProduct(scale=0.3)(q, k, v, allowed), expected, atol=1e-6, rtol=1e-5)


def by_the_network(q: Tensor, k: Tensor, v: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """Bahdanau et al. 2015, A.1.2, one pair at a time."""
    B, H, T, K = q.shape
    scores = torch.empty(B, H, T, k.shape[2], dtype=torch.float64)
    for h in range(H):
        for t in range(T):
            for s in range(k.shape[2]):
                scores[:, h, t, s] = torch.tanh(q[:, h, t].double() + k[:, h, s].double()) @ weight[h, 0].double()
    return scores.masked_fill(~table, -math.inf).softmax(-1) @ v.double()


@pytest.mark.parametrize("strip", [1, 1 << 22])
@pytest.mark.parametrize(("queries", "keys", "causal"), [(5, 5, True), (5, 5, False), (3, 5, False), (1, 5, True)])
def test_additive_scores_and_their_gradients(
    queries: int, keys: int, causal: bool, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "_STRIP", strip)
    additive = Additive(2, 4)
    torch.nn.init.normal_(additive.weight)
    q, k, v = drawn(2, 2, queries, 4), drawn(2, 2, keys, 4, seed=1), drawn(2, 2, keys, 4, seed=2)
    inputs = [tensor.requires_grad_() for tensor in (q, k, v)] + [additive.weight]
    mask, slots = Causal() if causal else Everything(), torch.arange(keys)
    ours = additive(q, k, v, mask.resolve(queries, keys, CPU))
    expected = by_the_network(q, k, v, additive.weight, mask.table(slots[keys - queries :], slots))
    torch.testing.assert_close(ours.double(), expected, atol=1e-6, rtol=1e-5)
    upstream = drawn(2, 2, queries, 4, seed=3)
    mine = torch.autograd.grad(ours, inputs, upstream)
    theirs = torch.autograd.grad(expected, inputs, upstream.double())
    for gradient, reference in zip(mine, theirs, strict=True):
        torch.testing.assert_close(gradient, reference, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(additive(q, k, v, mask.resolve(queries, keys, CPU)), ours)


def test_queries_may_share_keys_under_every_score() -> None:
    q, k, v = drawn(1, 4, 5, 8), drawn(1, 2, 5, 8, seed=1), drawn(1, 2, 5, 8, seed=2)
    allowed = Causal().resolve(5, 5, CPU)
    additive = Additive(4, 8)
    torch.nn.init.normal_(additive.weight)
    for child in (ScaledDotProduct(), BiasedDotProduct(), additive):
        each = child(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), allowed)
        torch.testing.assert_close(child(q, k, v, allowed), each)


def test_a_biased_score_without_a_bias_is_the_scaled_one() -> None:
    q, k, v = drawn(2, 4, 7, 8), drawn(2, 4, 7, 8, seed=1), drawn(2, 4, 7, 8, seed=2)
    for mask in (Causal(), Everything(), Causal() & Padding(torch.tensor([[True] * 7, [True] * 3 + [False] * 4]))):
        allowed = mask.resolve(7, 7, CPU)
        expected = ScaledDotProduct()(q, k, v, allowed)
        torch.testing.assert_close(BiasedDotProduct(scale=8**-0.5)(q, k, v, allowed), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("child", [BiasedDotProduct(dropout=0.3), Additive(4, 8, dropout=0.3)])
def test_dropout_changes_no_mean(child: BiasedDotProduct | Additive) -> None:
    torch.manual_seed(0)
    for parameter in child.parameters():
        torch.nn.init.normal_(parameter)
    q, k, v = drawn(1, 4, 9, 8) / 3, drawn(1, 4, 9, 8, seed=1), drawn(1, 4, 9, 8, seed=2)
    allowed = Causal().resolve(9, 9, CPU)
    with torch.no_grad():
        exact = child.eval()(q, k, v, allowed)
        runs = torch.stack([child.train()(q, k, v, allowed) for _ in range(600)])
    assert runs.var(0).mean() > 1e-3
    assert ((runs.mean(0) - exact).abs() < 6 * runs.std(0) / len(runs) ** 0.5 + 1e-6).all()


def test_cross_attention_is_attention_to_another_text() -> None:
    torch.manual_seed(0)
    cross, own = CrossAttention(16, 4, bias=True, output_bias=True), Attention(16, 4, bias=True, output_bias=True)
    own.load_state_dict(cross.state_dict())
    x, everything = drawn(2, 5, 16), Everything().resolve(5, 5, CPU)
    torch.testing.assert_close(cross(x, x, everything), own(x, everything))


def test_a_memory_cache_keeps_what_was_made_first() -> None:
    cache = MemoryCache()
    keys, values = drawn(3, 2, 5, 4), drawn(3, 2, 5, 4, seed=1)
    assert cache.once(lambda: (keys, values))[0] is keys
    assert cache.once(lambda: pytest.fail("made again"))[1] is values
    cache.append(drawn(3, 2, 1, 4), drawn(3, 2, 1, 4))
    cache.select(torch.tensor([2, 0]))
    assert torch.equal(cache.once(lambda: pytest.fail("made again"))[0], keys[[2, 0]])
    assert cache.length == 1 and cache.append(drawn(2, 2, 1, 4), drawn(2, 2, 1, 4))[0].shape == (2, 2, 2, 4)
