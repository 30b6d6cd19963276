"""The softmax over some words: the whole one where all are drawn, and right on average where not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen.nn.cross_entropy import IGNORE
from yuwen.nn.sampled import SampledCrossEntropy, candidates

V, D = 40, 5


def case(n: int = 9, bias: bool = True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    torch.manual_seed(0)
    h, weight = torch.randn(n, D, requires_grad=True), torch.randn(V, D, requires_grad=True)
    return h, weight, torch.randn(V, requires_grad=True) if bias else None, torch.randint(0, V, (n,))


@pytest.mark.parametrize("bias", [True, False])
def test_all_words_give_the_whole_softmax(bias: bool) -> None:
    h, weight, b, targets = case(bias=bias)
    targets[3] = IGNORE
    inputs = [part for part in (h, weight, b) if part is not None]
    whole = F.cross_entropy(F.linear(h, weight, b), targets, reduction="sum", ignore_index=IGNORE)
    found = SampledCrossEntropy()(h, weight, b, targets, torch.arange(V), torch.zeros(V))
    torch.testing.assert_close(found, whole)
    for one, other in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(whole, inputs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_bias_that_is_asked_for_often_gets_its_whole_gradient() -> None:
    h, weight, b, _ = case(2000)
    assert b is not None
    targets = torch.full((2000,), 7)
    low = [part.detach().bfloat16().requires_grad_() for part in (h, weight, b)]
    every = torch.arange(V), torch.zeros(V)
    (whole,) = torch.autograd.grad(SampledCrossEntropy()(h, weight, b, targets, *every), [b])
    (found,) = torch.autograd.grad(SampledCrossEntropy()(*low, targets, *every), [low[2]])
    torch.testing.assert_close(found.float(), whole, rtol=0.02, atol=1.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5000), st.integers(1, 9000), st.integers(0, 2**32))
def test_candidates_are_words_with_the_chance_they_had(vocabulary: int, draws: int, seed: int) -> None:
    drawn, log_pi = candidates(vocabulary, draws, np.random.default_rng(seed))
    assert drawn.dtype == torch.int64 and log_pi.dtype == torch.float32
    assert 0 < len(drawn) == len(log_pi) <= min(vocabulary, draws)
    assert (drawn.diff() > 0).all() and drawn[0] >= 0 and drawn[-1] < vocabulary
    assert (log_pi <= 0).all() and (log_pi.diff() <= 0).all()
    again = candidates(vocabulary, draws, np.random.default_rng(seed))
    assert torch.equal(again[0], drawn) and torch.equal(again[1], log_pi)


def test_the_chances_are_those_of_the_draws() -> None:
    rng, times = np.random.default_rng(0), np.zeros(V)
    told = np.zeros(V)
    for _ in range(4000):
        drawn, log_pi = candidates(V, 12, rng)
        times[drawn.numpy()] += 1
        told[drawn.numpy()] = log_pi.exp().numpy()
    np.testing.assert_allclose(times / 4000, told, atol=0.03)


def test_the_sum_is_right_on_average() -> None:
    h, weight, b, targets = case(3)
    assert b is not None
    with torch.no_grad():
        scores = F.linear(h, weight, b).double()
        rng, totals = np.random.default_rng(0), torch.zeros(3, dtype=torch.float64)
        for _ in range(6000):
            drawn, log_pi = candidates(V, 12, rng)
            for n in range(3):  # each loss gives back the estimated sum: log Z = loss + own score
                loss = SampledCrossEntropy()(h[n : n + 1], weight, b, targets[n : n + 1], drawn, log_pi)
                totals[n] += (loss.double() + scores[n, targets[n]]).exp()
        torch.testing.assert_close(totals / 6000, scores.exp().sum(1), rtol=0.05, atol=0)
