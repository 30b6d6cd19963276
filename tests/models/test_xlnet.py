"""XLNet's own: two streams in any order, as published; no token in its own prediction; memory is one longer text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from encoder_cases import case_model, random_ids, random_segments, with_our_weights
from torch import Tensor

from yuwen.errors import UserError
from yuwen.models import build
from yuwen.models.xlnet import TwoStream
from yuwen.nn import Causal, LinearCrossEntropy, Padding, SegmentMemory

V = 83


def model_of(case: str = "xlnet", **values: Any) -> TwoStream:
    model = case_model(case, **values)
    assert isinstance(model, TwoStream)
    return model


def drawn_order(B: int, T: int, hidden: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(order, places): all but `hidden` tokens are seen from the beginning, those come one after another."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.stack([torch.randperm(T, generator=generator)[:hidden] for _ in range(B)])
    return torch.full((B, T), -1).scatter(1, places, torch.arange(hidden).expand(B, hidden)), places


def as_published(order: Tensor, places: Tensor) -> dict[str, Tensor]:
    """`perm_mask` (1: token i does not see j) and `target_mapping` of the same order."""
    first = (order[:, :, None] == -1) & (order[:, None] == -1)
    seen = (order[:, None] < order[:, :, None]) | first
    mapping = torch.zeros(*places.shape, order.shape[1]).scatter(2, places[..., None], 1.0)
    return {"perm_mask": (~seen).float(), "target_mapping": mapping}


@pytest.fixture(scope="module", params=["xlnet", "xlnet-untied"])
def pair(request: pytest.FixtureRequest) -> tuple[TwoStream, Any]:
    """Our model, and theirs with our weights."""
    ours = model_of(request.param)
    return ours, with_our_weights(ours)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("length", "hidden"), [(1, 1), (2, 1), (9, 3), (64, 10), (65, 64)])
@pytest.mark.parametrize("split", [False, True])
def test_the_query_stream_is_theirs(pair: tuple[TwoStream, Any], length: int, hidden: int, split: bool) -> None:
    ours, theirs = pair
    ids, (order, places) = random_ids(2, length), drawn_order(2, length, hidden)
    segments = random_segments(ours, ids) if split else None
    with torch.no_grad():
        expected = theirs(ids, **as_published(order, places), token_type_ids=segments).logits
        found = ours.output(ours.predict(ids, order, places, None, segments))
    told = torch.ones(hidden, dtype=torch.bool)
    told[0] = length > hidden  # with nothing before it theirs reads every token, its own too: see below
    close(found[:, told], expected[:, told])


def test_a_padded_batch_in_any_order_is_theirs(pair: tuple[TwoStream, Any]) -> None:
    ours, theirs = pair
    ids, (order, places) = random_ids(3, 12), drawn_order(3, 8, 3)
    order = torch.cat((order, torch.full((3, 4), -1)), dim=1)
    keep = torch.arange(12)[None] < torch.tensor([12, 9, 8])[:, None]
    with torch.no_grad():
        expected = theirs(ids, **as_published(order, places), attention_mask=keep.long()).logits
        close(ours.output(ours.predict(ids, order, places, Padding(keep))), expected)
        alone = ours.output(ours.predict(ids[2:, :8], order[2:, :8], places[2:]))
        close(alone, expected[2:])


@pytest.mark.parametrize("split", [False, True])
def test_memory_is_theirs(pair: tuple[TwoStream, Any], split: bool) -> None:
    """Three segments: read, read, told; a memory of 5 is shorter than two segments of 6 and 3."""
    ours, theirs = pair
    theirs.transformer.mem_len = 5
    memory, mems = SegmentMemory(2, 5), None
    for length, seed in ((6, 0), (3, 1)):
        ids = random_ids(2, length, seed=seed)
        segments = random_segments(ours, ids) if split else None
        with torch.no_grad():
            out = theirs(ids, mems=mems, use_mems=True, token_type_ids=segments)
            close(ours.output(ours(ids, segments_BT=segments, memory=memory)), out.logits)
        mems = out.mems
        assert memory.length == len(mems[0]) == 5
        for held, expected in zip(memory.states, mems, strict=True):
            assert held is not None
            close(held, expected.transpose(0, 1))
    ids, (order, places) = random_ids(2, 7, seed=2), drawn_order(2, 7, 7)
    segments = random_segments(ours, ids) if split else None
    with torch.no_grad():
        expected = theirs(ids, **as_published(order, places), mems=mems, token_type_ids=segments).logits
        close(ours.output(ours.predict(ids, order, places, None, segments, memory)), expected)


def test_gradients_of_both_streams_are_theirs(pair: tuple[TwoStream, Any]) -> None:
    ours, theirs = pair
    ids, (order, places) = random_ids(2, 40), drawn_order(2, 40, 12)
    segments = random_segments(ours, ids)
    ours.output(ours.predict(ids, order, places, None, segments)).square().mean().backward()
    theirs(ids, **as_published(order, places), token_type_ids=segments).logits.square().mean().backward()
    for ours_name, theirs_name in (
        ("start", "mask_emb"), ("embedding.weight", "word_embedding.weight"),
        ("blocks.0.attention.content_bias", "layer.0.rel_attn.r_w_bias"),
        ("blocks.1.attention.position_bias", "layer.1.rel_attn.r_r_bias"),
        ("blocks.1.attention.segment_bias", "layer.1.rel_attn.r_s_bias"),
        ("blocks.0.attention.segments", "layer.0.rel_attn.seg_embed"),
    ):  # fmt: skip
        mine, reference = ours.get_parameter(ours_name).grad, theirs.transformer.get_parameter(theirs_name).grad
        assert mine is not None and mine.abs().max() > 1e-7
        tolerance = float(1e-4 * reference.abs().max() + 1e-7)
        torch.testing.assert_close(mine, reference.view_as(mine), atol=tolerance, rtol=0)
    ours.zero_grad()
    theirs.zero_grad()


@pytest.mark.parametrize("length", [7, 70])
def test_a_token_never_tells_itself_or_later_ones(length: int) -> None:
    model, ids = model_of(), random_ids(1, length)
    order, places = drawn_order(1, length, length)  # every token is told, the first of them from nothing
    with torch.no_grad():
        before = model.output(model.predict(ids, order, places))
        assert before.isfinite().all()
        for rank in (0, length // 2, length - 1):
            changed = ids.clone()
            changed[0, places[0, rank]] = (changed[0, places[0, rank]] + 1) % V
            after = model.output(model.predict(changed, order, places))
            assert torch.equal(after[0, : rank + 1], before[0, : rank + 1])
            assert ((after - before)[0, rank + 1 :].abs().amax(-1) > 1e-4).all(), "and every later one hears of it"


def test_no_gradient_comes_from_a_token_or_those_after_it() -> None:
    model, ids = model_of(), random_ids(1, 30)
    order, places = drawn_order(1, 30, 30)
    seen: list[Tensor] = []
    model.embedding.register_forward_hook(lambda module, inputs, output: seen.append(output) or output)
    g = model.predict(ids, order, places)
    (gradient,) = torch.autograd.grad(g[0, 12].sum(), seen)
    sizes = gradient[0, places[0]].abs().amax(-1)
    assert (sizes[12:] == 0).all() and (sizes[:12] > 0).all()


def test_unmask_never_looks_at_the_hidden_ids() -> None:
    model, ids = model_of(), random_ids(2, 20)
    hidden = torch.zeros(2, 20, dtype=torch.bool)
    hidden[0, [3, 4, 19]] = hidden[1, 7] = True
    with torch.no_grad():
        one = model.unmask(ids, hidden)
        assert one.shape == (4, 48)
        assert torch.equal(one, model.unmask(ids.masked_fill(hidden, 2), hidden))
        order, places = hidden.long(), torch.tensor([[3, 4, 19], [7, 0, 0]])
        close(one, model.predict(ids, order, places)[[0, 0, 0, 1], [0, 1, 2, 0]])
        changed = ids.clone()
        changed[:, 10] = (changed[:, 10] + 1) % V
        assert ((model.unmask(changed, hidden) - one).abs().amax(-1) > 1e-4).all()


@pytest.mark.parametrize("sizes", [[7, 6, 7], [1, 19], [64, 1, 5]])
def test_memory_equals_one_long_text(sizes: list[int]) -> None:
    """Read from left to right, segments with memory are the whole text read at once (Dai et al. 2019, section 3.2)."""
    model = model_of(memory=0)
    ids, memory, parts = random_ids(2, sum(sizes)), model.new_memory(), []
    with torch.no_grad():
        for part in ids.split(sizes, dim=1):
            parts.append(model(part, Causal(), memory=memory))
        assert memory.length == sum(sizes)
        close(torch.cat(parts, dim=1), model(ids, Causal()))


def test_memory_is_cut_and_learns_nothing() -> None:
    model, memory = model_of(memory=4), SegmentMemory(2, 4)
    assert model.new_memory().width == 4
    model(random_ids(2, 9), memory=memory)
    assert memory.length == 4 and all(held is not None and not held.requires_grad for held in memory.states)
    model(random_ids(2, 2, seed=1), memory=memory)
    assert memory.length == 4


def test_a_forgotten_row_reads_as_with_no_memory() -> None:
    model, memory = model_of(memory=8), model_of(memory=8).new_memory()
    ids, (order, places) = random_ids(3, 6, seed=1), drawn_order(3, 6, 6)
    with torch.no_grad():
        model(random_ids(3, 5), memory=memory)
        memory.forget(torch.tensor([False, False, False]))
        assert memory.visible_BM is None
        memory.forget(torch.tensor([True, False, True]))
        kept = SegmentMemory(2, 8)
        kept.load(memory.tensors())
        known = model(ids, memory=memory)
        told = model.predict(ids, order, places, memory=kept)
        fresh, never = model(ids), model.predict(ids, order, places)
        close(known[[0, 2]], fresh[[0, 2]])
        close(told[[0, 2]], never[[0, 2]])
        assert (known[1] - fresh[1]).abs().amax(-1).min() > 1e-4
        assert (told[1] - never[1]).abs().amax(-1).min() > 1e-4
        assert memory.length == 8 and memory.visible_BM is not None
        assert memory.visible_BM[0].tolist() == 2 * [False] + 6 * [True]
        again = model(ids, memory=memory)  # what has been read since is seen
        assert (again[0] - fresh[0]).abs().amax(-1).min() > 1e-4


@pytest.mark.parametrize("length", [3, 12])
def test_memory_goes_into_a_checkpoint_and_back(length: int) -> None:
    model, memory = model_of(memory=8), SegmentMemory(2, 8)
    assert memory.tensors() == {}
    model(random_ids(2, length), memory=memory)
    kept = memory.tensors()
    assert {name: tensor.shape for name, tensor in kept.items()} == {
        "layer.0": (2, 8, 48), "layer.1": (2, 8, 48), "visible": (2, 8)
    }  # fmt: skip
    again = SegmentMemory(2, 8)
    again.load(kept)
    assert (again.visible_BM is None) == (length > 8)
    ids = random_ids(2, 6, seed=1)
    with torch.no_grad():
        close(model(ids, memory=memory), model(ids, memory=again))


def test_any_order_can_be_learnt_by_heart() -> None:
    model = build(model_of().config, torch.Generator().manual_seed(0))
    assert isinstance(model, TwoStream) and model.head is not None
    ids, (order, places) = random_ids(2, 25), drawn_order(2, 25, 8)
    targets, loss_of = ids.gather(1, places).flatten(), LinearCrossEntropy(chunk=16)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.95), weight_decay=0)
    for _ in range(70):
        g_ND = model.readout(model.predict(ids, order, places)).flatten(0, 1)
        loss = loss_of(g_ND, model.head.weight, model.head.bias, targets) / len(targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05


def test_positions_are_refused() -> None:
    with pytest.raises(UserError, match="a xlnet knows distances, not positions"):
        model_of()(random_ids(1, 3), positions=torch.arange(3)[None])
