"""The chunked loss is F.cross_entropy, in value and in every gradient, and never holds all logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from yuwen.nn import LinearCrossEntropy
from yuwen.nn.cross_entropy import IGNORE


def drawn(n: int, d: int, v: int, *, bias: bool, ignored: float = 0.2) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    generator = torch.Generator().manual_seed(n * 31 + v)
    h = torch.randn(n, d, generator=generator, requires_grad=True)
    weight = torch.randn(v, d, generator=generator, requires_grad=True)
    b = torch.randn(v, generator=generator, requires_grad=True) if bias else None
    targets = torch.randint(0, v, (n,), generator=generator)
    targets[torch.rand(n, generator=generator) < ignored] = IGNORE
    return h, weight, b, targets


def both(
    h: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float, chunk: int
) -> tuple[list[Tensor], list[Tensor]]:
    """(loss, gradients …) of ours, and of the plain loss in double precision."""
    leaves = [t for t in (h, weight, bias) if t is not None]
    ours = LinearCrossEntropy(smoothing=smoothing, chunk=chunk)(h, weight, bias, targets)
    ours_gradients = torch.autograd.grad(ours * 0.37, leaves)
    double = [t.detach().double().requires_grad_() for t in leaves]
    logits = F.linear(double[0], double[1], double[2] if bias is not None else None)
    theirs = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing)
    return [ours, *ours_gradients], [theirs, *torch.autograd.grad(theirs * 0.37, double)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize(("n", "chunk"), [(1, 8), (8, 8), (37, 8), (37, 1), (37, 64), (64, 16)])
def test_equal_to_the_plain_loss(n: int, chunk: int, smoothing: float, bias: bool) -> None:
    for ours, theirs in zip(*both(*drawn(n, 6, 11, bias=bias), smoothing, chunk), strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=2e-5, rtol=2e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 30), st.integers(1, 50), st.floats(0, 0.99), st.booleans())
def test_equal_for_any_shape(n: int, d: int, v: int, chunk: int, smoothing: float, bias: bool) -> None:
    for ours, theirs in zip(*both(*drawn(n, d, v, bias=bias), smoothing, chunk), strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bf16_stays_near(smoothing: float) -> None:
    h, weight, bias, targets = drawn(50, 16, 40, bias=True)
    rough = [t.detach().bfloat16().requires_grad_() for t in (h, weight, bias) if t is not None]
    loss = LinearCrossEntropy(smoothing=smoothing, chunk=16)(rough[0], rough[1], rough[2], targets)
    assert loss.dtype == torch.float32
    gradients = torch.autograd.grad(loss, rough)
    assert all(gradient.dtype == torch.bfloat16 for gradient in gradients)
    exact = [t.detach().float().requires_grad_() for t in rough]
    theirs = F.cross_entropy(F.linear(*exact), targets, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(loss, theirs, atol=0, rtol=0.01)
    for gradient, reference in zip(gradients, torch.autograd.grad(theirs, exact), strict=True):
        assert (gradient.float() - reference).norm() < 0.02 * reference.norm()


def test_nothing_to_count_is_zero_and_not_nan() -> None:
    h, weight, bias, targets = drawn(10, 4, 7, bias=True, ignored=2.0)
    assert (targets == IGNORE).all()
    ours, _ = both(h, weight, bias, targets, 0.1, 4)
    assert ours[0] == 0
    for gradient in ours[1:]:
        assert (gradient == 0).all()


def test_an_ignored_position_leaves_no_trace() -> None:
    h, weight, _, targets = drawn(12, 4, 7, bias=False, ignored=0.5)
    counted = targets != IGNORE
    whole, _ = both(h, weight, None, targets, 0.1, 5)
    alone, _ = both(h.detach()[counted].requires_grad_(), weight, None, targets[counted], 0.1, 5)
    torch.testing.assert_close(whole[0], alone[0])
    torch.testing.assert_close(whole[2], alone[2])
    assert (whole[1][~counted] == 0).all()


def test_large_scores_do_not_overflow() -> None:
    h, weight = torch.full((2, 1), 1e4, requires_grad=True), torch.tensor([[1.0], [-1.0]], requires_grad=True)
    loss = LinearCrossEntropy()(h, weight, None, torch.tensor([0, 1]))
    assert float(loss.detach()) == pytest.approx(2e4)
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, (h, weight)))


def test_without_gradients_nothing_is_kept() -> None:
    h, weight, _, targets = drawn(37, 6, 11, bias=False)
    with torch.no_grad():
        loss = LinearCrossEntropy(chunk=8)(h, weight, None, targets)
    assert loss.grad_fn is None
    torch.testing.assert_close(loss, LinearCrossEntropy(chunk=8)(h, weight, None, targets).detach())


class Largest(TorchDispatchMode):
    """Watches every tensor an operation returns, and remembers the most elements one had."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_tensor_has_a_row_for_every_position_and_a_column_for_every_id() -> None:
    n, d, v, chunk = 400, 4, 300, 16
    h, weight, _, targets = drawn(n, d, v, bias=False)
    with Largest() as seen:
        torch.autograd.grad(LinearCrossEntropy(smoothing=0.1, chunk=chunk)(h, weight, None, targets), (h, weight))
    assert seen.elements == max(chunk * v, n * d, v * d) < n * v / 10
    with Largest() as seen:
        F.cross_entropy(F.linear(h, weight), targets)
    assert seen.elements == n * v, "the watch works: the plain loss holds them all"
