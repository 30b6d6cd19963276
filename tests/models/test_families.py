"""What must hold for every family, whatever it is made of."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import CASES, FADES, ONE_EACH, STEPS, SURE, V, case_config, case_model, logits, random_ids

from yuwen.models import FAMILIES, build
from yuwen.nn import Causal, Documents, LinearCrossEntropy, Padding

every_case = pytest.mark.parametrize("case", CASES)
every_family = pytest.mark.parametrize("case", ONE_EACH)


def test_the_battery_covers_every_family() -> None:
    assert (
        {CASES[case][0] for case in ONE_EACH}
        == {name for name, _ in CASES.values()}
        == {name for name, family in FAMILIES.items() if family.config.READS == "forwards" and not family.config.COUNTS}
        | {"transformer"}  # whose decoder can stand alone
    )


@every_case
@pytest.mark.parametrize("sizes", [[1] * 20, [7, 6, 7], [19, 1], [1, 19], [64, 1, 1, 5]])
def test_cached_equals_uncached(case: str, sizes: list[int]) -> None:
    model, ids = case_model(case), random_ids(2, sum(sizes))
    cache, parts = model.new_cache(), []
    for part in ids.split(sizes, dim=1):
        parts.append(logits(model, part, None, None, cache))
    assert cache.length == sum(sizes)
    torch.testing.assert_close(torch.cat(parts, 1), logits(model, ids), atol=1e-5, rtol=0)


@every_family
def test_a_padded_batch_decodes_as_each_row_alone(case: str) -> None:
    """Generation in a batch: prompts of several lengths, padded on the left, then one token at a time."""
    model, lengths, T, more = case_model(case), [8, 3, 1], 8, 4
    ids = random_ids(3, T + more)
    keep = torch.arange(T + more)[None] >= T - torch.tensor(lengths)[:, None]
    positions = (keep.cumsum(1) - 1).clamp(min=0)
    cache, parts = model.new_cache(), []
    for start, end in [(0, T), *((n, n + 1) for n in range(T, T + more))]:
        mask = Causal() & Padding(keep[:, :end])
        parts.append(logits(model, ids[:, start:end], mask, positions[:, start:end], cache))
    together = torch.cat(parts, 1)
    for row, length in enumerate(lengths):
        alone = logits(model, ids[row : row + 1, T - length :])[0]
        torch.testing.assert_close(together[row, T - length :], alone, atol=1e-5, rtol=0)


@every_family
def test_rows_of_the_cache_can_be_chosen(case: str) -> None:
    model, ids, rows = case_model(case), random_ids(3, 9), torch.tensor([2, 2, 0])
    cache = model.new_cache()
    logits(model, ids[:, :8], None, None, cache)
    cache.select(rows)
    last = logits(model, ids[rows, 8:], None, None, cache)
    torch.testing.assert_close(last[:, 0], logits(model, ids)[rows, -1], atol=1e-5, rtol=0)


@every_case
@pytest.mark.parametrize("length", [10, 65, 130])
def test_the_future_never_leaks(case: str, length: int) -> None:
    model, ids = case_model(case), random_ids(1, length)
    before = logits(model, ids)
    for at in (1, length // 2, length - 1):
        changed = ids.clone()
        changed[:, at:] = (changed[:, at:] + 1) % V
        after = logits(model, changed)
        torch.testing.assert_close(after[:, :at], before[:, :at], atol=1e-6, rtol=0)
        heard = slice(at, at + FADES.get(CASES[case][0], length))
        assert (after[:, heard] - before[:, heard]).abs().amax(-1).min() > 1e-3, "and what follows hears of a change"


@every_case
def test_no_gradient_flows_back_from_the_past(case: str) -> None:
    model, ids = case_model(case), random_ids(1, 70)
    seen = []
    model.embedding.register_forward_hook(lambda module, inputs, output: seen.append(output) or output)
    h = model(ids)
    (gradient,) = torch.autograd.grad(h[0, 40].sum(), seen)
    assert (gradient[0, 41:] == 0).all()
    assert (gradient[0, :41].abs().amax(-1) > 0).all()


@every_case
@pytest.mark.parametrize("lengths", [[5, 1, 9], [64, 65], [1, 1, 1]])
def test_packing_changes_nothing(case: str, lengths: list[int]) -> None:
    model, ids = case_model(case), random_ids(1, sum(lengths))
    document = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    packed = logits(model, ids, Causal() & Documents(document), positions)
    alone = [logits(model, part) for part in ids.split(lengths, dim=1)]
    torch.testing.assert_close(packed, torch.cat(alone, 1), atol=1e-5, rtol=0)


@every_case
def test_padding_changes_nothing(case: str) -> None:
    model, ids = case_model(case), random_ids(2, 30)
    keep = torch.ones(2, 30, dtype=torch.bool)
    keep[1, 21:] = False
    padded = logits(model, ids, Causal() & Padding(keep))
    torch.testing.assert_close(padded[1, :21], logits(model, ids[1:, :21])[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(padded[0], logits(model, ids[:1])[0], atol=1e-5, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(ONE_EACH), st.integers(1, 4), st.integers(1, 40), st.integers(0, 1000))
def test_a_row_does_not_depend_on_its_batch(case: str, batch: int, length: int, seed: int) -> None:
    model, ids = case_model(case), random_ids(batch, length, seed=seed)
    together = logits(model, ids)
    assert together.shape == (batch, length, V)
    for row in range(batch):
        torch.testing.assert_close(together[row], logits(model, ids[row : row + 1])[0], atol=1e-5, rtol=0)


@every_case
def test_one_batch_can_be_learnt_by_heart(case: str) -> None:
    model = build(case_config(case), torch.Generator().manual_seed(0))
    ids, loss_of = random_ids(2, 25), LinearCrossEntropy(chunk=16)
    steps, rate = STEPS.get(CASES[case][0], (70, 5e-3))
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0)
    for _ in range(steps):
        h_ND = model.readout(model(ids[:, :-1])).flatten(0, 1)
        loss = loss_of(h_ND, model.head.weight, model.head.bias, ids[:, 1:].flatten()) / h_ND.shape[0]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05


@every_case
def test_every_weight_has_a_gradient_and_the_chunked_loss_gives_it(case: str) -> None:
    model, ids = case_model(case), random_ids(2, 25)
    parameters = list(model.parameters())
    chunked = LinearCrossEntropy(chunk=7)(
        model.readout(model(ids[:, :-1])).flatten(0, 1), model.head.weight, model.head.bias, ids[:, 1:].flatten()
    )
    plain = F.cross_entropy(model.output(model(ids[:, :-1])).flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
    torch.testing.assert_close(chunked, plain)
    ours, theirs = torch.autograd.grad(chunked, parameters), torch.autograd.grad(plain, parameters)
    for gradient, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, reference, atol=float(1e-4 * reference.abs().max() + 1e-6), rtol=0)
    biases_of_keys = [n for n, _ in model.named_parameters() if n.endswith("key.bias")]  # softmax cannot see these
    named = dict(zip([n for n, _ in model.named_parameters()], ours, strict=True))
    assert all(named[name].abs().max() > 1e-6 for name in named if name not in biases_of_keys)


@every_family
def test_a_seed_gives_the_weights(case: str) -> None:
    config = case_config(case)
    one, same, other = (build(config, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.dim() < 2 or not torch.equal(a, c)
        assert a.dim() == 2 or torch.equal(a, c)  # norms and biases are not drawn


@every_family
def test_fresh_weights_start_at_the_loss_of_not_knowing(case: str) -> None:
    model, ids = build(case_config(case), torch.Generator().manual_seed(0)).eval(), random_ids(4, 60)
    loss = F.cross_entropy(logits(model, ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - torch.tensor(float(V)).log().item()) < SURE.get(case, 0.1)


@every_family
def test_dropout_acts_in_training_only(case: str) -> None:
    model, ids = case_model(case, dropout=0.3), random_ids(1, 40)
    assert torch.equal(logits(model, ids), logits(model, ids))
    torch.testing.assert_close(logits(model, ids), logits(case_model(case), ids))
    model.train()
    assert not torch.allclose(logits(model, ids), logits(model, ids))


@every_family
def test_bf16_stays_near_fp32(case: str) -> None:
    model, ids = case_model(case), random_ids(2, 65)
    exact = logits(model, ids)
    rough = logits(model.bfloat16(), ids)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).norm() < 0.03 * exact.norm()


@every_family
def test_a_model_without_memory_has_the_same_shapes(case: str) -> None:
    with torch.device("meta"):
        empty = build(case_config(case))
    assert {n: p.shape for n, p in empty.named_parameters()} == {
        n: p.shape for n, p in case_model(case).named_parameters()
    }
    assert all(p.is_meta for p in empty.parameters()) and not list(empty.buffers())
