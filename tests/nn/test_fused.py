"""Attention in C is the attention of the formula, forward and backward."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from yuwen.nn import ScaledDotProduct, fused
from yuwen.nn.mask import Allowed

reason = fused.prepare()
pytestmark = pytest.mark.skipif(reason is not None, reason=f"no kernel here: {reason}")


def heads(batch: int, count: int, length: int, width: int, seed: int) -> Tensor:
    """[B, H, T, K] as projections lay it out, [B, T, H, K] in memory."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, count, width, generator=generator).bfloat16().transpose(1, 2)


def exact(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=True)


def gradients(attend: object, inputs: list[Tensor], upstream: Tensor) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = attend(*leaves)  # type: ignore[operator]
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream.to(out.dtype))]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_what_is_no_number_stays_none(bad: float, which: int) -> None:
    """A run that diverges is seen by its numbers: a score that is none must not come out as a mean of values."""
    inputs = [heads(1, 2, 32, 16, seed) for seed in range(3)]
    inputs[which][0, 0, 5] = bad
    out = fused.attention(*inputs, causal=True, scale=0.25)
    assert not out[0, 0, 5].isfinite().any() and out[0, 1].isfinite().all()


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 3),
    share=st.integers(1, 3),
    length=st.integers(1, 9),
    width=st.integers(1, 9),
    causal=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_it_is_the_formula(
    batch: int, groups: int, share: int, length: int, width: int, causal: bool, seed: int
) -> None:
    T, K = 16 * length, 16 * width
    q, up = (heads(batch, groups * share, T, K, seed + n) for n in (0, 3))
    k, v = (heads(batch, groups, T, K, seed + n) for n in (1, 2))
    scale = 1.3 / math.sqrt(K)
    found = gradients(lambda *x: fused.attention(*x, causal=causal, scale=scale), [q, k, v], up)
    wanted = gradients(lambda *x: exact(*x, causal, scale), [x.float() for x in (q, k, v)], up)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours.float() - theirs).norm() < 0.01 * theirs.norm() + 1e-4  # with one key d_q and d_k are 0


@pytest.mark.parametrize("scale", [1e-4, 30.0])
def test_sharp_and_flat_scores_stay_numbers(scale: float) -> None:
    q, k, v, up = (heads(1, 2, 64, 32, seed) for seed in range(4))
    found = gradients(lambda *x: fused.attention(*x, causal=True, scale=scale), [q, k, v], up)
    wanted = gradients(lambda *x: exact(*x, True, scale), [x.float() for x in (q, k, v)], up)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.isfinite().all()
        assert (ours.float() - theirs).norm() < 0.02 * theirs.norm()


@pytest.mark.parametrize("causal", [True, False])
def test_the_longest_text(causal: bool) -> None:
    q, k, v, up = (heads(1, 2, 1024, 64, seed) for seed in range(4))
    found = gradients(lambda *x: fused.attention(*x, causal=causal), [q, k, v], up)
    wanted = gradients(lambda *x: exact(*x, causal, 1 / 8), [x.float() for x in (q, k, v)], up)
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.float() - theirs).norm() < 0.02 * theirs.norm()


def test_whatever_lies_in_memory_is_read_as_it_is_meant() -> None:
    q, k, v, up = (heads(2, 2, 32, 32, seed) for seed in range(4))
    plain = gradients(lambda *x: fused.attention(*x, causal=True), [q, k, v], up)
    odd = torch.empty(2, 2, 32, 33, dtype=torch.bfloat16)[..., 1:].copy_(q)  # rows that begin between two pairs
    for other in (q.contiguous(), odd, q.transpose(-1, -2).contiguous().transpose(-1, -2)):
        again = gradients(lambda *x: fused.attention(*x, causal=True), [other, k, v], up.contiguous())
        assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_the_same_bits_every_time_whatever_the_threads() -> None:
    inputs, up = [heads(2, 3, 64, 32, seed) for seed in range(3)], heads(2, 3, 64, 32, 3)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            found.append(gradients(lambda *x: fused.attention(*x, causal=True), inputs, up))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("causal", [True, False])
def test_compiled_training_takes_it(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    kernel = fused.attention
    monkeypatch.setattr(fused, "attention", lambda *x, **how: taken.append(1) or kernel(*x, **how))
    inputs, up = [heads(2, 2, 32, 32, seed) for seed in range(3)], heads(2, 2, 32, 32, 3)
    score, allowed = ScaledDotProduct(), Allowed(causal, None)
    eager = gradients(lambda *x: score(*x, allowed), inputs, up)
    assert not taken, "only graphs take it: their makers have a compiler, and expect to wait for it"
    compiled = gradients(torch.compile(lambda *x: score(*x, allowed), backend="aot_eager"), inputs, up)
    assert taken
    for ours, theirs in zip(compiled, eager, strict=True):
        assert (ours.float() - theirs.float()).norm() < 0.02 * theirs.float().norm()


@pytest.mark.parametrize("causal", [True, False])
def test_dropout_drops_the_same_weights_in_both_directions(causal: bool) -> None:
    T, rate = 64, 0.3
    q, k, v, up = (heads(2, 3, T, T, seed) for seed in range(4))
    units = torch.eye(T).bfloat16().expand(2, 3, T, T)

    def dropped(*x: Tensor) -> Tensor:
        torch.manual_seed(5)
        return fused.attention(*x, causal=causal, rate=rate)

    weights = dropped(q, k, units).float()  # with units for values the output is the weights that were left
    p = exact(q.float(), k.float(), units.float(), causal, 1 / math.sqrt(T))
    kept = weights > 0
    torch.testing.assert_close(weights[kept], (p / (1 - rate))[kept], rtol=0.02, atol=1e-5)

    def wanted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.transpose(-1, -2) / math.sqrt(T)
        if causal:
            scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -math.inf)
        return (scores.softmax(-1) * kept / (1 - rate)) @ v

    for ours, theirs in zip(
        gradients(dropped, [q, k, v], up), gradients(wanted, [x.float() for x in (q, k, v)], up), strict=True
    ):
        assert (ours.float() - theirs).norm() < 0.01 * theirs.norm()


def test_dropout_is_even_and_differs_by_seed_and_head() -> None:
    T, rate = 128, 0.1
    q = torch.zeros(2, 2, T, T).bfloat16()
    units = torch.eye(T).bfloat16().expand(2, 2, T, T)
    torch.manual_seed(0)
    one, other = (fused.attention(q, q, units, rate=rate) > 0 for _ in range(2))
    torch.manual_seed(0)
    assert torch.equal(fused.attention(q, q, units, rate=rate) > 0, one)
    masks = [*one.flatten(0, 1), *other.flatten(0, 1)]
    for mask in masks:
        lost = 1 - mask.float()
        spread = (rate * (1 - rate) / T) ** 0.5
        assert abs(float(lost.mean()) - rate) < 5 * spread / T**0.5
        assert (lost.mean(0) - rate).abs().max() < 5 * spread and (lost.mean(1) - rate).abs().max() < 5 * spread
    for n, mask in enumerate(masks):
        for later in masks[n + 1 :]:  # independent masks agree where both keep or both drop
            assert abs(float((mask == later).float().mean()) - (rate**2 + (1 - rate) ** 2)) < 0.02


def test_what_it_cannot_do_goes_another_way() -> None:
    q = heads(1, 2, 32, 32, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert fused.suits(q, q)
        assert not fused.suits(q.float(), q.float())
        assert not fused.suits(q[:, :, :8], q[:, :, :8])
        assert not fused.suits(q[:, :, :16], q)
        assert not fused.suits(q[..., :24], q[..., :24])
    assert not fused.suits(q, q)
