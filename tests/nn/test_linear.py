"""Linear maps give the same whatever library multiplies, and only where it may be another one is it another one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen.nn import Linear, linear, quick_products


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 70), st.integers(1, 70), st.booleans(), st.booleans())
def test_quick_products_are_the_products(
    batch: int, length: int, width: int, outputs: int, bias: bool, cut: bool
) -> None:
    torch.manual_seed(width)
    x = torch.randn(batch, length + 1, width + 1)
    x = x[:, 1:, 1:] if cut else x[:, :-1, :-1].contiguous()  # rows that do not follow one another
    weight, offset = torch.randn(outputs, width), torch.randn(outputs) if bias else None
    exact = F.linear(x.double(), weight.double(), None if offset is None else offset.double())
    with torch.inference_mode(), quick_products():
        found = linear.linear(x, weight, offset)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=1e-4, rtol=1e-5)


def test_outside_they_are_the_usual_ones() -> None:
    x, layer = torch.randn(2, 33, 65), Linear(65, 17)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    with pytest.raises(ZeroDivisionError), quick_products():
        raise ZeroDivisionError
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias)), "an error within leaves nothing switched"
    with torch.no_grad(), quick_products():
        half = layer.bfloat16()
        assert torch.equal(half(x.bfloat16()), F.linear(x.bfloat16(), half.weight, half.bias))
