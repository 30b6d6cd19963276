"""The filters leave the sets of transformers' processors, and what is drawn follows the probabilities."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen.errors import UserError
from yuwen.generation import SamplingConfig
from yuwen.generation.sampling import Sampler, filters, min_p, repetition_penalty, temperature, top_k, top_p

SCORES = st.lists(st.lists(st.floats(-30, 30, width=32), min_size=7, max_size=7), min_size=1, max_size=3).map(
    torch.tensor
)
NO_IDS = torch.zeros(1, 0, dtype=torch.long)


def kept(scores_BV: torch.Tensor) -> torch.Tensor:
    return scores_BV > float("-inf")


@given(SCORES, st.integers(1, 9))
def test_top_k_is_that_of_transformers(scores_BV: torch.Tensor, k: int) -> None:
    theirs = transformers.TopKLogitsWarper(k)(NO_IDS, scores_BV)
    assert torch.equal(top_k(scores_BV, k), theirs)


@given(SCORES, st.floats(0.01, 0.99))
def test_top_p_is_that_of_transformers(scores_BV: torch.Tensor, p: float) -> None:
    theirs = transformers.TopPLogitsWarper(p)(NO_IDS, scores_BV)
    assert torch.equal(top_p(scores_BV, p), theirs)


@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0, 20.0])
def test_top_p_of_a_large_vocabulary_is_that_of_transformers(spread: float) -> None:
    scores_BV = spread * torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))
    for p in (0.1, 0.5, 0.9, 0.99):
        theirs = transformers.TopPLogitsWarper(p)(NO_IDS, scores_BV)
        different = int((kept(top_p(scores_BV, p)) != kept(theirs)).sum())
        assert different <= (3 if spread == 0.01 else 0)  # of equal chances the sums differ in their last bit


@given(SCORES, st.floats(0.01, 0.99))
def test_min_p_is_that_of_transformers(scores_BV: torch.Tensor, p: float) -> None:
    theirs = transformers.MinPLogitsWarper(p)(NO_IDS, scores_BV)
    assert torch.equal(min_p(scores_BV, p), theirs)


@given(SCORES, st.floats(0.5, 2.0), st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_repetition_penalty_is_that_of_transformers(scores_BV: torch.Tensor, penalty: float, ids: list[int]) -> None:
    ids_BT = torch.tensor([ids] * len(scores_BV))
    seen_BV = torch.zeros_like(scores_BV, dtype=torch.bool).scatter(1, ids_BT, True)
    theirs = transformers.RepetitionPenaltyLogitsProcessor(penalty)(ids_BT, scores_BV.clone())
    torch.testing.assert_close(repetition_penalty(scores_BV, seen_BV, penalty), theirs)


@given(SCORES, st.floats(1e-30, 1e3))
def test_no_temperature_overflows(scores_BV: torch.Tensor, value: float) -> None:
    probabilities_BV = temperature(scores_BV, value).softmax(-1)
    torch.testing.assert_close(probabilities_BV.sum(-1), torch.ones(len(scores_BV)))


@settings(max_examples=50)
@given(SCORES, st.floats(0.2, 3.0), st.integers(0, 7), st.floats(0.05, 1.0), st.floats(0.0, 0.9))
def test_all_together_are_those_of_transformers(
    scores_BV: torch.Tensor, heat: float, k: int, p: float, least: float
) -> None:
    ours = scores_BV
    for keep in filters(SamplingConfig(temperature=heat, top_k=k, top_p=p, min_p=least)):
        ours = keep(ours)
    theirs = transformers.TemperatureLogitsWarper(heat)(NO_IDS, scores_BV - scores_BV.amax(-1, keepdim=True))
    warpers: list[Any] = [transformers.TopKLogitsWarper(k)] if k else []
    warpers += [transformers.TopPLogitsWarper(p)] if p < 1 else []
    warpers += [transformers.MinPLogitsWarper(least)]
    for warper in warpers:
        theirs = warper(NO_IDS, theirs)
    assert torch.equal(kept(ours), kept(theirs))
    torch.testing.assert_close(ours.softmax(-1), theirs.softmax(-1))


def test_draws_follow_the_probabilities() -> None:
    scores_V = torch.tensor([2.0, 1.0, 0.0, -1.0, 3.0])
    rows = 20_000
    sampler = Sampler(SamplingConfig(temperature=0.7, top_p=1.0), [[0]] * rows, range(rows), 4, torch.device("cpu"))
    drawn_B = sampler(scores_V.expand(rows, -1))
    found = drawn_B.bincount(minlength=5).double() / rows
    expected = torch.cat(((scores_V[:4] / 0.7).softmax(-1), torch.zeros(1))).double()
    assert found[4] == 0  # outside the vocabulary
    torch.testing.assert_close(found, expected, atol=0.015, rtol=0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 0}, "top_p=0"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"min_p": 2}, "min_p=2"),
        ({"top_k": -3}, "top_k=-3"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"repetition_penalty": 0}, "repetition_penalty=0"),
        ({"stop": ["a", ""]}, "must not be empty"),
        ({"temperature": 0, "top_k": 5}, "would ignore top_k"),
        ({"topp": 0.5}, "did you mean top_p"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        SamplingConfig.parse("", values)
