"""What holds for every objective: reproducible, of fixed shape, counted once, the cross-entropy it says it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from objective_cases import CASES, model, objective, prepared, samples, settings, tokenizer, windows
from torch import Tensor

from yuwen.errors import UserError
from yuwen.nn import Padding, Prefix
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives import OBJECTIVES, Batch, build_objective, class_of, trains
from yuwen.objectives.pairs import shifted
from yuwen.training import Learner, OptimizerConfig

SEEING_EACH_OTHER = [case for case in CASES if objective(case).together]
APART = [case for case in CASES if case not in SEEING_EACH_OTHER]
DRAWN = [case for case in CASES if case not in ("causal", "masked-static-words") and not CASES[case][-1]]


def equal(one: Batch, other: Batch) -> bool:
    return one.counts == other.counts and all(
        torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors
    )


def test_every_objective_has_a_case() -> None:
    assert {CASES[case][0] for case in CASES} >= set(OBJECTIVES) - {"classify"}


@pytest.mark.parametrize("case", CASES)
def test_a_batch_is_a_function_of_samples_and_generator(case: str) -> None:
    assert equal(prepared(case, seed=3), prepared(case, seed=3))


@pytest.mark.parametrize("case", DRAWN)
def test_another_generator_draws_otherwise(case: str) -> None:
    text = samples(case, 1)
    one, other = (objective(case).prepare(text, np.random.default_rng(seed)) for seed in (1, 2))
    assert not equal(one, other)


@pytest.mark.parametrize("case", [case for case in CASES if not CASES[case][-1]])
def test_the_samples_stay_as_they_were(case: str) -> None:
    text = windows(5)
    before = text.ids.copy(), text.flags.copy()
    batch = objective(case).prepare(text, np.random.default_rng(0))
    for tensor in batch.tensors.values():
        tensor.fill_(0)
    assert (text.ids == before[0]).all() and (text.flags == before[1]).all()


@pytest.mark.parametrize("case", [case for case in CASES if not CASES[case][-1]])
def test_shapes_do_not_depend_on_the_text(case: str) -> None:
    shapes = set()
    for seed, specials in enumerate([0.0, 0.1, 0.5]):
        batch = objective(case).prepare(windows(seed, specials=specials), np.random.default_rng(seed))
        shapes.add(tuple((name, tuple(tensor.shape)) for name, tensor in sorted(batch.tensors.items())))
        padded = int((~batch.tensors["keep"]).sum()) if CASES[case][0] == "sentence_order" else 0
        assert batch.tokens == 3 * 40 - padded
    assert len(shapes) == 1


@pytest.mark.parametrize("case", CASES)
def test_counts_are_the_targets(case: str) -> None:
    batch = prepared(case)
    name = CASES[case][0]
    if "targets" in batch.tensors:
        counted = int((batch.tensors["targets"] != IGNORE).sum())
        key = {"causal": "loss", "next_sentence": "masked", "sentence_order": "masked"}.get(name, name)
        assert batch.counts[key] == counted > 0
    if "answers" in batch.tensors:
        assert batch.counts[name] == len(batch.tensors["answers"])


def logits(case: str, model: Any, batch: Batch) -> Tensor:
    """Scores at every place that has a target, by the model's own methods and nothing of the objective's."""
    held, name = batch.tensors, CASES[case][0]
    if name == "causal":
        return model.output(model(held["ids"]))
    if name == "prefix" and "ids" in held:
        return model.output(model(held["ids"], Prefix(held["prefix"])))
    if name == "permuted":
        return model.output(model.predict(held["ids"], held["order"], held["places"]))
    if "source" in held:
        mask = Padding(held["keep"])
        memory = model.encode(held["source"], mask)
        inputs = shifted(held["targets"], model.opening)
        return model.output(model.decode(inputs, memory, memory_mask=mask))[:, len(model.opening) - 1 :]
    h = model(held["ids"], segments_BT=held.get("segments")) if "segments" in held else model(held["ids"])
    return torch.stack([model.output(h[row, places][None])[0] for row, places in enumerate(held["places"])])


@pytest.mark.parametrize("case", APART)
def test_the_loss_is_plain_cross_entropy(case: str) -> None:
    network, batch = model(case), prepared(case)
    terms = objective(case).loss(network, batch, {})
    assert {name: term.count for name, term in terms.items()} == batch.counts
    smoothing = CASES[case][1].get("label_smoothing", 0.0)
    targets = batch.tensors["targets"].flatten()
    expected = F.cross_entropy(
        logits(case, network, batch).flatten(0, 1),
        targets,
        reduction="sum",
        label_smoothing=smoothing,
        ignore_index=IGNORE,
    )
    torch.testing.assert_close(next(iter(terms.values())).sum, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", APART)
def test_two_halves_give_the_loss_of_the_whole(case: str) -> None:
    network, kind, batch = model(case), objective(case), prepared(case, rows=4)
    whole = kind.loss(network, batch, {})
    halves = [
        kind.loss(network, Batch({name: t[part] for name, t in batch.tensors.items()}, batch.counts, batch.tokens), {})
        for part in (slice(0, 2), slice(2, 4))
    ]
    for name, term in whole.items():
        torch.testing.assert_close(sum(half[name].sum for half in halves), term.sum, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_one_batch_can_be_overfitted(case: str) -> None:
    torch.manual_seed(0)
    learner = Learner(model(case), objective(case), OptimizerConfig(name="adamw", lr=0.01, weight_decay=0.0))
    batch = prepared(case)
    losses = [learner.step([batch], 1.0).loss for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("case", SEEING_EACH_OTHER)
def test_a_batch_whose_samples_see_each_other_is_never_cut(case: str) -> None:
    learner = Learner(model(case), objective(case), OptimizerConfig(name="sgd", lr=0.1))
    with pytest.raises(UserError, match="train.micro_tokens=0"):
        learner.step([prepared(case), prepared(case)], 1.0)


@pytest.mark.parametrize(
    ("name", "reads"), [("causal", "both"), ("masked", "forwards"), ("span", "both"), ("permuted", "pairs")]
)
def test_a_model_that_reads_otherwise_is_refused(name: str, reads: Any) -> None:
    assert trains(name, reads) is None
    with pytest.raises(UserError, match=f"objective.name={name} cannot train this model, which reads"):
        build_objective(settings(name), tokenizer(), reads)


@pytest.mark.parametrize("case", CASES)
def test_the_least_length_is_enough_and_one_less_is_refused(case: str) -> None:
    name, kind, reads = CASES[case][0], objective(case), CASES[case][2]
    assert class_of(name, reads, length=kind.least) is type(kind)  # type: ignore[arg-type]
    text: Any = replace(samples(case, 0), length=kind.least) if kind.rows else windows(0, length=kind.least, specials=0)
    batch = kind.prepare(text, np.random.default_rng(0))
    assert all(tensor.shape[1] <= kind.least for tensor in batch.tensors.values() if tensor.dim() > 1)
    assert all(torch.isfinite(term.sum) for term in kind.loss(model(case), batch, {}).values())
    assert all(count > 0 for count in batch.counts.values())
    with pytest.raises(UserError, match=f"data.length={kind.least - 1} is too short for objective.name={name}"):
        class_of(name, reads, length=kind.least - 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "maskd"}, "unknown objective.name 'maskd': did you mean masked"),
        ({"name": "masked", "rat": 0.2}, "unknown key objective.rat: did you mean rate"),
        ({"name": "masked", "rate": 1.5}, r"objective.rate=1.5"),
        ({"name": "masked", "masked": 0.9, "random": 0.2}, "shares of the chosen"),
        ({"name": "denoising", "infill": 0, "permute": False}, "only be copied"),
        ({"rate": 0.2}, "unknown key objective.rate: known: across_documents"),
    ],
)
def test_mistakes_in_settings_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings(values.pop("name", "causal"), **values)


def test_settings_without_a_name_mean_causal() -> None:
    from objective_cases import Asked

    assert Asked.parse("", {"objective": {"label_smoothing": 0.1}}).objective.name == "causal"
