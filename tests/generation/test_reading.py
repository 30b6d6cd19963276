"""A reading that is gone on from gives what reading anew gives, whatever was asked before and wherever it was cut."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from generation_models import random_model

from yuwen.generation import SamplingConfig, generate
from yuwen.generation.decoding import Decoding, Reading
from yuwen.models import Decoder

GREEDY = SamplingConfig(temperature=0, max_tokens=12)


def equal(model: Decoder, reading: Reading, ids: list[int]) -> int:
    """Goes on from the reading, compares with reading anew, and returns how many tokens were not read again."""
    ours = Decoding(model, [ids], reading)
    torch.testing.assert_close(ours.prefill(), Decoding(model, [ids]).prefill(), atol=2e-5, rtol=1e-5)
    assert reading.ids == ids
    return ours.reused


def test_any_text_after_any_other(model: Decoder) -> None:
    drawn, reading = random.Random(0), Reading(model)
    ids = [1, 2, 3]
    for _ in range(25):
        ids = ids[: drawn.randrange(1, len(ids) + 1)] + [drawn.randrange(40) for _ in range(drawn.randrange(12))]
        equal(model, reading, ids[:64])


def test_a_conversation_reads_only_what_is_new(model: Decoder) -> None:
    reading, ids, read = Reading(model), [5, 6, 7], 0
    for _ in range(3):
        row = generate(model, [ids], GREEDY, end_ids=[], reading=reading)[0]
        assert row.ids == generate(model, [ids], GREEDY, end_ids=[])[0].ids
        assert (row.reused_tokens, row.prompt_tokens) == (read, len(ids))
        ids = ids + row.ids
        read = len(ids) - 1  # the last token that was drawn has not been read
        assert reading.ids == ids[:-1]
        ids += [8, 9]
    assert row.prefill_tokens_per_second == pytest.approx(3 / row.prefill_seconds)


def test_the_last_token_is_always_read() -> None:
    model = random_model("llama", 50)
    reading = Reading(model)
    assert [equal(model, reading, [1, 2, 3, 4]) for _ in range(2)] == [0, 3]
    assert equal(model, reading, [1, 2]) == 1
    assert equal(model, reading, [9]) == 0


def test_a_window_that_has_moved_on_is_read_anew() -> None:
    model, text = random_model("gemma3", 50, context=2000), [7 * n % 50 for n in range(1000)]
    reading = Reading(model)
    assert equal(model, reading, text) == 0
    assert equal(model, reading, [*text[:990], 3, 4]) == 990
    assert equal(model, reading, [*text[:20], 3, 4]) in (0, 20)
    assert equal(model, reading, [*text[:20], 3, 4, 5]) == 22


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_an_interrupt_between_layers_does_no_harm(family: str, layer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(family, 50)
    reading, ids = Reading(model), [1, 2, 3, 4, 5]
    for place in ("prefill", "step"):
        calls = {"left": 1 if place == "prefill" else 3}
        whole = model.blocks[layer].feedforward.forward

        def interrupted(x: Any, calls: dict[str, int] = calls, whole: Any = whole) -> Any:
            calls["left"] -= 1
            if calls["left"] == 0:
                raise KeyboardInterrupt
            return whole(x)

        with monkeypatch.context() as patch:
            patch.setattr(model.blocks[layer].feedforward, "forward", interrupted)
            with pytest.raises(KeyboardInterrupt):
                generate(model, [ids], GREEDY, end_ids=[], reading=reading)
        equal(model, reading, [*ids, 6])
        ids = [*ids, 6, 7, 8]


def test_a_reading_is_of_one_text() -> None:
    model = random_model("llama", 50)
    with pytest.raises(ValueError, match="of one text, not of 2"):
        generate(model, [[1], [2]], GREEDY, reading=Reading(model))
