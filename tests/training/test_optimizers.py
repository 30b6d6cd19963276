"""How weights move, against PyTorch's own rules and against the formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from yuwen.errors import UserError
from yuwen.models import build, parse_config
from yuwen.training import OptimizerConfig
from yuwen.training.muon import orthogonalise
from yuwen.training.optimizers import Optimizers, hidden_matrices, table_rates

SHAPES = {"embedding.weight": (11, 6), "blocks.0.a.weight": (6, 4), "blocks.0.b.weight": (4, 6), "norm.weight": (6,)}
HIDDEN = {"blocks.0.a.weight": 1.0, "blocks.0.b.weight": 1.0}


def weights(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).requires_grad_() for name, shape in SHAPES.items()}


def gradients(values: dict[str, Tensor], seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in values.values():
        weight.grad = scale * torch.randn(weight.shape, generator=generator)


def config(name: str, **values: float) -> OptimizerConfig:
    return OptimizerConfig.parse("optimizer", {"name": name, "clip": 0, "weight_decay": 0, **values})


def test_adamw_is_pytorchs() -> None:
    mine, theirs = weights(), weights()
    ours = Optimizers(mine, config("adamw", lr=0.01, weight_decay=0.3, beta1=0.8, beta2=0.9), HIDDEN)
    matrices, vectors = [w for w in theirs.values() if w.dim() == 2], [w for w in theirs.values() if w.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.9), foreach=False, fused=False)
    for step, factor in enumerate([0.5, 1.0, 0.25]):
        gradients(mine, step)
        gradients(theirs, step)
        ours.step(factor)
        for group in reference.param_groups:
            group["lr"] = 0.01 * factor
        reference.step()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-6, atol=1e-7)


def test_sgd_without_decay_is_pytorchs() -> None:
    mine, theirs = weights(), weights()
    ours = Optimizers(mine, config("sgd", lr=0.1, momentum=0.9), HIDDEN)
    reference = torch.optim.SGD(theirs.values(), lr=0.1, momentum=0.9)
    for step in range(3):
        gradients(mine, step)
        gradients(theirs, step)
        ours.step(1.0)
        reference.step()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name])


OWN: dict[str, dict[str, float]] = {"sgd": {"momentum": 0.9}, "adamw": {}, "muon": {"table_lr": 0.2, "momentum": 0.9}}


@pytest.mark.parametrize("name", OWN)
def test_decay_is_decoupled_and_spares_vectors(name: str) -> None:
    values = weights()
    before = {key: weight.detach().clone() for key, weight in values.items()}
    rates = {"lr": 0.1, "weight_decay": 0.5, **OWN[name]}
    optimizers = Optimizers(values, config(name, **rates), HIDDEN)
    for _ in range(2):  # nothing but the decay moves a weight whose gradient is zero, and no momentum builds up
        for weight in values.values():
            weight.grad = torch.zeros_like(weight)
        optimizers.step(0.5)
    for key, weight in values.items():
        lr = 0.2 if name == "muon" and key == "embedding.weight" else 0.1
        kept = 1.0 if weight.dim() < 2 else (1 - 0.5 * lr * 0.5) ** 2
        torch.testing.assert_close(weight.detach(), before[key] * kept)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_what_gets_no_gradient_stays(name: str) -> None:
    """A head that the objective does not ask is no less for the decay of the others."""
    values = weights()
    before = {key: weight.detach().clone() for key, weight in values.items()}
    optimizers = Optimizers(values, config(name, lr=0.1, weight_decay=0.5), HIDDEN)
    idle = [key for key, weight in values.items() if weight.dim() >= 2][0]
    for key, weight in values.items():
        weight.grad = None if key == idle else torch.ones_like(weight)
    optimizers.step(1.0)
    assert {key for key, weight in values.items() if weight.equal(before[key])} == {idle}


def test_l1_and_l2_are_parts_of_the_gradient() -> None:
    values = weights()
    before = {key: weight.detach().clone() for key, weight in values.items()}
    for weight in values.values():
        weight.grad = torch.zeros_like(weight)
    Optimizers(values, config("sgd", lr=0.1, momentum=0.0, l1=0.2, l2=0.3), HIDDEN).step(1.0)
    for key, weight in values.items():
        torch.testing.assert_close(weight.detach(), before[key] - 0.1 * (0.2 * before[key].sign() + 0.3 * before[key]))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_clipping_bounds_the_whole_gradient(scale: float) -> None:
    values = weights()
    before = {key: weight.detach().clone() for key, weight in values.items()}
    gradients(values, 1, scale)
    norm = torch.cat([weight.grad.flatten() for weight in values.values()]).norm()  # type: ignore[union-attr]
    told = Optimizers(values, config("sgd", lr=1.0, momentum=0.0, clip=1.0), HIDDEN).step(1.0)
    assert told == pytest.approx(float(norm), rel=1e-5)
    moved = torch.cat([(before[key] - weight.detach()).flatten() for key, weight in values.items()]).norm()
    assert float(moved) == pytest.approx(min(1.0, float(norm)), rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 24), st.integers(2, 24), st.integers(0, 1000), st.sampled_from([1e-4, 1.0, 1e4]))
def test_muon_makes_all_directions_about_equally_long(rows: int, columns: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    # singular values between 1 and 20: a Gaussian matrix may have some too small to be raised in five steps
    left, _ = torch.linalg.qr(torch.randn(rows, rows, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(columns, columns, generator=generator))
    size = min(rows, columns)
    lengths = torch.empty(size).uniform_(1, 20, generator=generator)
    matrix = scale * left[:, :size] @ torch.diag(lengths) @ right[:, :size].T
    found = orthogonalise(matrix[None])[0].float()
    assert found.shape == matrix.shape
    values = torch.linalg.svdvals(found)
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    # the directions stay: U^T O V is nearly diagonal
    inside = left[:, :size].T @ found @ right[:, :size]
    assert float((inside - torch.diag(torch.diagonal(inside))).abs().max()) < 0.1


def test_muon_moves_the_matrices_and_adamw_the_rest() -> None:
    values, alike = weights(), weights()
    before = {key: weight.detach().clone() for key, weight in values.items()}
    gradients(values, 3)
    gradients(alike, 3)
    optimizers = Optimizers(values, config("muon", lr=0.02, table_lr=0.01), HIDDEN)
    optimizers.step(1.0)
    Optimizers(alike, config("adamw", lr=0.01), HIDDEN).step(1.0)
    for key in ("embedding.weight", "norm.weight"):
        torch.testing.assert_close(values[key], alike[key])
    for key in ("blocks.0.a.weight", "blocks.0.b.weight"):
        rows, columns = values[key].shape
        moved = torch.linalg.matrix_norm(before[key] - values[key].detach(), ord=2)
        assert float(moved) == pytest.approx(0.02 * max(1, rows / columns) ** 0.5, rel=0.35)


CASES = [("sgd", {"momentum": 0.0}), ("sgd", {"momentum": 0.9}), ("adamw", {}), ("muon", {"momentum": 0.9})]


@pytest.mark.parametrize(("name", "own"), CASES)
def test_state_goes_out_and_back(name: str, own: dict[str, float]) -> None:
    one = weights()
    first = Optimizers(one, config(name, **own), HIDDEN)
    gradients(one, 1)
    first.step(1.0)
    other = {key: weight.detach().clone().requires_grad_() for key, weight in one.items()}
    second = Optimizers(other, config(name, **own), HIDDEN)
    second.load_state({key: tensor.clone() for key, tensor in first.state().items()})
    for step in (2, 3):
        for values, optimizers in ((one, first), (other, second)):
            gradients(values, step)
            optimizers.step(0.5)
    assert all(one[key].equal(other[key]) for key in one)


@pytest.mark.parametrize(
    "values",
    [
        {"name": "adamw", "table_lr": 0.01},
        {"name": "adamw", "momentum": 0.5},
        {"name": "adamw", "iterations": 3},
        {"name": "sgd", "beta2": 0.9},
        {"name": "sgd", "eps": 1e-6},
    ],
)
def test_a_setting_that_the_rule_does_not_read_is_refused(values: dict[str, float]) -> None:
    ignored = next(key for key in values if key != "name")
    with pytest.raises(UserError, match=f"would ignore {ignored}="):
        OptimizerConfig.parse("optimizer", values)


def test_a_rate_that_is_left_out_is_the_rules_own() -> None:
    rates = {name: OptimizerConfig.parse("optimizer", {"name": name}).lr for name in ("muon", "adamw", "sgd")}
    assert rates == {"muon": 0.02, "adamw": 0.001, "sgd": 0.1}
    assert OptimizerConfig.parse("optimizer", {}).lr == 0.02
    again = OptimizerConfig.parse("optimizer", OptimizerConfig.parse("optimizer", {"name": "sgd"}).model_dump())
    assert again.lr == 0.1


def test_hidden_matrices_are_the_maps_and_no_table() -> None:
    settings = {"vocabulary": 64, "width": 16, "layers": 1, "heads": 2, "next_sentence": True}
    model = build(parse_config("bert", settings))
    hidden = hidden_matrices(model)
    tables = {"embedding.weight", "positions.weight", "segments.weight"}
    assert set(hidden) == {n for n, w in model.named_parameters() if w.dim() == 2} - tables
    assert {"transform.dense.weight", "pooler.dense.weight", "sentence_head.weight"} <= set(hidden)
    lstm = build(parse_config("lstm", {"vocabulary": 64, "width": 16, "layers": 1}))
    assert {name.rsplit(".", 1)[1] for name in hidden_matrices(lstm)} == {"input", "recurrent"}


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_a_map_that_is_to_stay_small_moves_by_smaller_steps_and_decays_alike(name: str) -> None:
    values = weights()
    slow = {key: torch.nn.Parameter(weight.detach().clone()) for key, weight in values.items()}
    gradients(values, 1)
    gradients(slow, 1)
    before = values["blocks.0.a.weight"].detach().clone()
    settings = config(name, lr=0.02, weight_decay=0.1)
    Optimizers(values, settings, HIDDEN).step(1.0)
    Optimizers(slow, settings, {**HIDDEN, "blocks.0.a.weight": 0.25}).step(1.0)
    kept = before * (1 - 0.02 * 0.1)
    moved, less = (w["blocks.0.a.weight"].detach() - kept for w in (values, slow))
    torch.testing.assert_close(less, moved / 4, rtol=1e-2, atol=1e-5)
    torch.testing.assert_close(slow["blocks.0.b.weight"].detach(), values["blocks.0.b.weight"].detach())


def test_t5s_queries_hold_the_scale_and_learn_by_it() -> None:
    model = build(parse_config("t5", {"vocabulary": 64, "width": 32, "layers": 1, "heads": 2}))
    rates = hidden_matrices(model)
    assert {name.rsplit(".", 2)[1] for name, rate in rates.items() if rate == 0.25} == {"query"}
    assert sum(rate == 0.25 for rate in rates.values()) == 3  # the encoder's, the decoder's, the one that crosses


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_a_table_that_begins_larger_moves_by_larger_steps_and_decays_alike(name: str) -> None:
    values, fast = weights(), weights()
    table = next(key for key in values if key not in HIDDEN and values[key].dim() == 2)
    gradients(values, 1)
    gradients(fast, 1)
    before = values[table].detach().clone()
    own = {"table_lr": 0.01} if name == "muon" else {}
    settings = config(name, lr=0.01, weight_decay=0.1, **own)
    Optimizers(values, settings, HIDDEN).step(1.0)
    Optimizers(fast, settings, HIDDEN, {table: 4.0}).step(1.0)
    kept = before * (1 - 0.01 * 0.1)
    moved, more = (w[table].detach() - kept for w in (values, fast))
    torch.testing.assert_close(more, moved * 4, rtol=1e-2, atol=1e-5)
    others = [key for key in values if key != table]
    assert all(torch.equal(fast[key], values[key]) for key in others)


@pytest.mark.parametrize(("family", "rate"), [("palm", 4.0), ("t5", 4.0), ("llama", 1.0), ("gemma3", 1.0)])
def test_tables_drawn_from_unit_normals_learn_by_their_size(family: str, rate: float) -> None:
    model = build(parse_config(family, {"vocabulary": 64, "width": 16, "layers": 1, "heads": 2}))
    assert table_rates(model) == {"embedding.weight": rate}
    assert (model.embedding.weight.std().item() > 0.5) == (rate > 1)
