"""A counting model keeps the contract of every model that continues text, and its folder keeps its tables."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from yuwen.errors import UserError
from yuwen.interop import load_folder, save_folder
from yuwen.models import build, config_from_published, left_to_right, parse_config
from yuwen.models.ngram import NGram, NGramConfig
from yuwen.nn import Causal, Documents, Mask, Padding
from yuwen.training.counting import Column, fit

V = 13
ORDERS = [1, 2, 3, 5]
every_order = pytest.mark.parametrize("order", ORDERS)


def model_of(order: int, **values: Any) -> NGram:
    return fit(Column.of(walk(600, 1, seed=order)[:, 0]), NGramConfig(vocabulary=V, order=order, **values))[0]


def random_ids(*shape: int, seed: int = 0) -> Tensor:
    """Other walks than those the models were counted on, of which many contexts are known and some are not."""
    return torch.from_numpy(walk(shape[1], shape[0], seed=1000 + seed).T.copy())


def walk(length: int, width: int, seed: int) -> np.ndarray:
    """Ids [length, width] that mostly follow from the one before; the last id of the vocabulary never comes."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, V - 1, (length, width))
    for at in range(1, length):
        ids[at] = np.where(rng.random(width) < 0.7, (2 * ids[at - 1] + 1) % (V - 1), ids[at])
    return ids


def log_p(model: NGram, ids: Tensor, mask: Mask | None = None, cache: Any = None) -> Tensor:
    with torch.no_grad():
        return model.output(model(ids, mask, None, cache))


@every_order
def test_probabilities_sum_to_one_and_are_what_is_looked_up(order: int) -> None:
    model, ids = model_of(order), random_ids(3, 40)
    h_BTD = model(ids)
    assert h_BTD.shape == (3, 40, order - 1) and h_BTD.dtype == torch.int64
    scores = model.output(h_BTD)
    assert scores.shape == (3, 40, V) and scores.dtype == torch.float32
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(3, 40))
    targets = torch.roll(ids, -1, 1).flatten()
    nats = model.nats(h_BTD.flatten(0, 1), targets)
    torch.testing.assert_close(nats, -scores.flatten(0, 1).gather(1, targets[:, None])[:, 0])


def test_contexts_are_as_long_as_they_were_seen() -> None:
    """Otherwise everything below would hold of unigrams too."""
    h_BTD = model_of(5)(random_ids(3, 40))
    shares = (h_BTD >= 0).float().mean((0, 1))
    assert shares[0] == 1 and 0.2 < shares[3] < 0.9


@every_order
@pytest.mark.parametrize("sizes", [[1] * 20, [7, 6, 7], [19, 1], [1, 19]])
def test_cached_equals_uncached(order: int, sizes: list[int]) -> None:
    model, ids = model_of(order), random_ids(2, 20)
    cache, parts = model.new_cache(), []
    for part in ids.split(sizes, dim=1):
        parts.append(log_p(model, part, None, cache))
    assert cache.length == 20
    assert torch.equal(torch.cat(parts, 1), log_p(model, ids))


@every_order
def test_a_padded_batch_decodes_as_each_row_alone(order: int) -> None:
    model, lengths, T, more = model_of(order), [8, 3, 1], 8, 4
    ids = random_ids(3, T + more)
    keep = torch.arange(T + more)[None] >= T - torch.tensor(lengths)[:, None]
    cache, parts = model.new_cache(), []
    for start, end in [(0, T), *((n, n + 1) for n in range(T, T + more))]:
        parts.append(log_p(model, ids[:, start:end], Causal() & Padding(keep[:, :end]), cache))
    together = torch.cat(parts, 1)
    for row, length in enumerate(lengths):
        assert torch.equal(together[row, T - length :], log_p(model, ids[row : row + 1, T - length :])[0])


@every_order
def test_padding_at_the_right_changes_nothing(order: int) -> None:
    model, lengths, ids = model_of(order), [8, 3, 1], random_ids(3, 8)
    keep = torch.arange(8)[None] < torch.tensor(lengths)[:, None]
    together = log_p(model, ids, Causal() & Padding(keep))
    for row, length in enumerate(lengths):
        assert torch.equal(together[row, :length], log_p(model, ids[row : row + 1, :length])[0])


@every_order
def test_rows_of_the_cache_can_be_chosen_and_forgotten(order: int) -> None:
    model, ids, rows = model_of(order), random_ids(3, 9), torch.tensor([2, 2, 0])
    cache = model.new_cache()
    log_p(model, ids[:, :8], None, cache)
    twin = cache.branch(rows)
    assert torch.equal(log_p(model, ids[rows, 8:], None, twin)[:, 0], log_p(model, ids)[rows, -1])
    assert not cache.truncate(3) and not cache.truncate(9) and cache.truncate(8)
    cache.select(rows)
    assert torch.equal(log_p(model, ids[rows, 8:], None, cache)[:, 0], log_p(model, ids)[rows, -1])
    assert cache.truncate(0) and cache.length == 0
    assert torch.equal(log_p(model, ids, None, cache), log_p(model, ids))


@every_order
@pytest.mark.parametrize("lengths", [[5, 1, 9], [20, 3], [1, 1, 1]])
def test_packing_changes_nothing(order: int, lengths: list[int]) -> None:
    model, ids = model_of(order), random_ids(1, sum(lengths))
    document = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]
    packed = log_p(model, ids, Causal() & Documents(document))
    assert torch.equal(packed, torch.cat([log_p(model, part) for part in ids.split(lengths, dim=1)], 1))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(ORDERS), st.integers(1, 4), st.integers(1, 30), st.integers(0, 1000))
def test_a_row_depends_on_nothing_but_its_own_last_ids(order: int, batch: int, length: int, seed: int) -> None:
    model, ids = model_of(order), random_ids(batch, length, seed=seed)
    together = log_p(model, ids)
    for row in range(batch):
        assert torch.equal(together[row], log_p(model, ids[row : row + 1])[0])
    context = ids[:, max(0, length - order + 1) :]
    if order > 1:
        assert torch.equal(together[:, -1], log_p(model, context)[:, -1])
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % V
    assert torch.equal(log_p(model, changed)[:, :-1], together[:, :-1])


def test_before_anything_is_counted_all_ids_are_alike() -> None:
    model = left_to_right(build(parse_config("ngram", {"vocabulary": V, "order": 3})), "continue text")
    ids = random_ids(2, 6)
    scores = model.output(model(ids))
    torch.testing.assert_close(scores, torch.full_like(scores, -math.log(V)))
    assert torch.equal(model.nats(model(ids)[0], ids[0]), -scores[0, :, 0])


@every_order
def test_a_folder_keeps_the_tables(order: int, tmp_path: Path) -> None:
    model, ids = model_of(order), random_ids(2, 30)
    save_folder(tmp_path, model)
    again, _ = load_folder(tmp_path)
    assert isinstance(again, NGram) and again.config == model.config
    assert torch.equal(log_p(again, ids), log_p(model, ids))
    with torch.device("meta"):
        empty = build(model.config)
    assert {n: p.shape for n, p in empty.state_dict().items()} == {n: p.shape for n, p in again.state_dict().items()}


def test_in_bfloat16_only_the_probabilities_are_rounded(tmp_path: Path) -> None:
    model, ids = model_of(5), random_ids(2, 30)
    save_folder(tmp_path, model, dtype=torch.bfloat16)
    again, _ = load_folder(tmp_path, None)
    assert torch.equal(again(ids), model(ids))
    assert again.get_parameter("orders.1.log_p").dtype == torch.bfloat16
    assert again.get_buffer("orders.1.keys").dtype == torch.int64
    torch.testing.assert_close(log_p(again, ids), log_p(model, ids), atol=0.05, rtol=0.01)


def test_a_folder_that_does_not_hold_together_is_refused(tmp_path: Path) -> None:
    save_folder(tmp_path, model_of(3))
    weights, settings = load_file(tmp_path / "model.safetensors"), (tmp_path / "config.json").read_text()
    save_file({**weights, "orders.1.keys": weights["orders.1.keys"].float()}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"orders\.1\.keys is stored as F32; only I64 can be loaded"):
        load_folder(tmp_path)
    save_file({**weights, "orders.1.log_p": weights["orders.1.log_p"].long()}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"orders\.1\.log_p is stored as I64; only F64"):
        load_folder(tmp_path)
    save_file(weights, tmp_path / "model.safetensors")
    for change, message in [
        ({"sizes": [V, 10, 10]}, r"orders\.1\.keys is \[\d+\], but config.json asks for \[10\]"),
        ({"sizes": [V, 10]}, r"sizes=\[13, 10\]: expected 3 positive numbers"),
        ({"sizes": [V, 10, 0]}, "expected 3 positive numbers"),
        ({"sizes": None}, "no sizes: not the complete config.json of a ngram"),
        ({"order": 2, "sizes": [V, 10]}, "have no place in this ngram"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps({**json.loads(settings), **change}))
        with pytest.raises(UserError, match=message):
            load_folder(tmp_path)


def test_tables_that_do_not_rise_give_nonsense_but_no_fault(tmp_path: Path) -> None:
    model = model_of(3)
    for name in ("orders.1.keys", "orders.2.keys"):
        keys = model.get_buffer(name)
        keys.copy_(keys.flip(0) - 2**62)
    ids = random_ids(2, 20)
    assert log_p(model, ids).isfinite().all()
    assert model.nats(model(ids)[0], ids[0]).isfinite().all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"order": 0}, "model.order=0: input should be greater than 0"),
        ({"order": 3.0}, "model.order=3.0: input should be a valid integer"),
        ({"smoothing": "laplace"}, "model.smoothing='laplace': input should be 'kneser_ney' or 'modified'"),
        ({"discount": 0.0}, "model.discount=0.0: input should be greater than 0"),
        ({"discount": 1.5}, "model.discount=1.5: input should be less than or equal to 1"),
        ({"layers": 2}, "unknown key model.layers"),
        ({"heads": 2}, "unknown key model.heads"),
        ({"tied": True}, "unknown key model.tied"),
    ],
)
def test_settings_that_make_no_model_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_config("ngram", {"vocabulary": V, **values})
    assert message in str(error.value)


def test_published_settings_go_there_and_back() -> None:
    config = model_of(3, smoothing="kneser_ney", discount=0.5).config
    assert config_from_published(json.loads(json.dumps(config.published())), "x") == config
