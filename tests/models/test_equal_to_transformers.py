"""Each family computes what the published code computes, in fp32 within 1e-5, with weights taken either way."""

from __future__ import annotations

import pytest
import torch
from model_cases import CASES, PUBLISHED, case_config, case_model, logits, random_ids, their_model

from yuwen.models import build, family
from yuwen.models.weights import from_published, to_published
from yuwen.nn import Causal, Padding

LENGTHS = [1, 2, 63, 64, 65, 257, 300]


@pytest.fixture(scope="module", params=PUBLISHED)
def pair(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """Our model, and theirs with our weights."""
    ours = case_model(request.param)
    theirs = their_model(ours.config)
    published = to_published(family(ours.config.MODEL_TYPE).weights(ours.config), ours.state_dict())
    result = theirs.load_state_dict(published, strict=False)
    assert result.unexpected_keys == []
    assert result.missing_keys == (["lm_head.weight"] if ours.config.tied else [])
    return ours, theirs


@pytest.mark.parametrize("length", LENGTHS)
def test_our_weights_in_their_code(pair, length: int) -> None:  # type: ignore[no-untyped-def]
    ours, theirs = pair
    ids = random_ids(2, length)
    with torch.no_grad():
        expected = theirs(ids).logits
    torch.testing.assert_close(logits(ours, ids), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("lengths", [[9, 4, 1], [65, 64, 2]])
def test_a_batch_padded_on_the_left(pair, lengths: list[int]) -> None:  # type: ignore[no-untyped-def]
    ours, theirs = pair
    T = max(lengths)
    ids = random_ids(len(lengths), T)
    keep = torch.arange(T)[None] >= T - torch.tensor(lengths)[:, None]
    positions = (keep.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = theirs(ids, attention_mask=keep.long(), position_ids=positions).logits
    result = logits(ours, ids, Causal() & Padding(keep), positions)
    assert result.isfinite().all()
    torch.testing.assert_close(result[keep], expected[keep], atol=1e-5, rtol=0)
    for row, length in enumerate(lengths):
        alone = logits(ours, ids[row : row + 1, T - length :])
        torch.testing.assert_close(result[row, T - length :], alone[0], atol=1e-5, rtol=0)


def test_gradients_are_theirs_too(pair) -> None:  # type: ignore[no-untyped-def]
    ours, theirs = pair
    ids = random_ids(2, 70)
    entries = family(ours.config.MODEL_TYPE).weights(ours.config)
    mine = torch.autograd.grad(ours.output(ours(ids)).square().mean(), list(ours.parameters()))
    named = dict(zip([name for name, _ in ours.named_parameters()], mine, strict=True))
    parameters = dict(theirs.named_parameters())
    their_gradients = torch.autograd.grad(theirs(ids).logits.square().mean(), list(parameters.values()))
    expected = dict(zip(parameters, their_gradients, strict=True))
    for name, gradient in to_published(entries, named).items():
        scale = expected[name].abs().max()
        torch.testing.assert_close(gradient, expected[name], atol=float(1e-4 * scale + 1e-7), rtol=0)


@pytest.mark.parametrize("case", PUBLISHED)
def test_their_weights_in_our_code(case: str) -> None:
    config = case_config(case)
    theirs, ours = their_model(config, seed=1), build(config).eval()
    published = {
        name: tensor for name, tensor in theirs.state_dict().items() if not (config.tied and "lm_head" in name)
    }
    weights, missing, unused = from_published(family(config.MODEL_TYPE).weights(config), published)
    assert (missing, unused) == ([], [])
    tied = {"head.weight": weights["embedding.weight"]} if config.tied else {}
    ours.load_state_dict({**weights, **tied})
    ids = random_ids(3, 130, seed=1)
    with torch.no_grad():
        expected = theirs(ids).logits
    torch.testing.assert_close(logits(ours, ids), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_weight_names_go_there_and_back(case: str) -> None:
    model = case_model(case)
    entries = family(model.config.MODEL_TYPE).weights(model.config)
    back, missing, unused = from_published(entries, to_published(entries, model.state_dict()))
    assert (missing, unused) == ([], [])
    assert {name: tensor.shape for name, tensor in back.items()} == {n: t.shape for n, t in model.named_parameters()}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in back.items())


def test_what_is_missing_or_unused_is_listed() -> None:
    model = case_model("qwen3")
    entries = family("qwen3").weights(model.config)
    published = to_published(entries, model.state_dict())
    published["extra"] = published.pop("model.norm.weight")
    _, missing, unused = from_published(entries, published)
    assert (missing, unused) == (["model.norm.weight"], ["extra"])
