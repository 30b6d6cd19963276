"""Continuations scored through the cache are what the model says of the whole text."""

from __future__ import annotations

import pytest
import torch
from task_models import Ready

from yuwen.tasks import reading
from yuwen.tasks.reading import common, log_probabilities


def naive(ready: Ready, prompt: list[int], continuation: list[int]) -> float:
    """sum_j log p(t_j | all before), from one pass without cache."""
    with torch.no_grad():
        log_p_TV = ready.model.output(ready.model(torch.tensor([prompt + continuation])))[0].log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(continuation) - 1)
    return sum(float(log_p_TV[place, id]) for place, id in zip(places, continuation, strict=True))


def cases(size: int, seed: int = 0) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Prompts of several lengths with a common beginning, and continuations of several lengths."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n: int) -> list[int]:
        return torch.randint(5, size, (n,), generator=generator).tolist()

    shared = draw(7)
    prompts = [shared + draw(n) for n in (3, 9, 3, 1, 5, 9, 3)]
    return prompts, [[draw(n) for n in (1, 4, 2, 1, 3)] for _ in prompts]


def test_scores_are_the_naive_sums(ready: Ready) -> None:
    prompts, continuations = cases(ready.tokenizer.size)
    found = log_probabilities(ready.model, prompts, continuations)
    for prompt, options, sums in zip(prompts, continuations, found, strict=True):
        assert sums == pytest.approx([naive(ready, prompt, ids) for ids in options], abs=1e-4)


def test_small_batches_change_nothing(one: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, continuations = cases(one.tokenizer.size)
    whole = log_probabilities(one.model, prompts, continuations)
    for name, value in (("_TOKENS", 1), ("_SLOTS", 1), ("_LOGITS", 1), ("_CHUNK", 3)):
        monkeypatch.setattr(reading, name, value)
    apart = log_probabilities(one.model, prompts, continuations)
    for one_row, other in zip(whole, apart, strict=True):
        assert one_row == pytest.approx(other, abs=1e-4)


def test_a_single_prompt_and_prompts_within_each_other(one: Ready) -> None:
    for prompts in ([[7, 8, 9]], [[7]], [[7, 8], [7, 8, 9]], [[7, 8], [7, 8]]):
        found = log_probabilities(one.model, prompts, [[[5], [6, 7]]] * len(prompts))
        for prompt, sums in zip(prompts, found, strict=True):
            assert sums == pytest.approx([naive(one, prompt, [5]), naive(one, prompt, [6, 7])], abs=1e-4)


def test_common() -> None:
    assert common([[1, 2, 3], [1, 2, 4], [1, 2]]) == [1, 2]
    assert common([[1, 2], [2, 1]]) == [] and common([[1, 2]]) == [1, 2]


def test_the_probabilities_of_all_next_tokens_sum_to_one(one: Ready) -> None:
    vocabulary = one.model.config.vocabulary
    sums = log_probabilities(one.model, [[5, 6, 7]], [[[id] for id in range(vocabulary)]])[0]
    assert torch.tensor(sums).exp().sum().item() == pytest.approx(1, abs=1e-5)
