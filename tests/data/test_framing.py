"""What stands around a text, how it is cut, and how wide it becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from yuwen.data import Frame, framed, padded
from yuwen.data.buckets import Rows
from yuwen.data.framing import pair_widths, widths
from yuwen.errors import UserError
from yuwen.tokens import Tokenizer

BERT = Frame((1,), (2,), (2,), 0)


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_frames_by_how_a_model_reads(tokenizer_folder: Path, tmp_path: Path) -> None:
    plain = Tokenizer.load(tokenizer_folder)
    end = plain.end_id
    assert end is not None
    assert Frame.of(plain, "forwards") == Frame((), (end,), (), end)
    assert Frame.of(plain, "pairs") == Frame((), (end,), (end,), end)
    for reads in ("both", "permuted"):
        with pytest.raises(UserError, match="the tokenizer has no cls_token, which stands at an end of every text"):
            Frame.of(plain, reads)
        assert Frame.of(plain, reads, partial=True) == Frame((), (), (), 0)
    described = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    for n, token in enumerate(("[CLS]", "[SEP]", "[PAD]"), plain.size):
        described["added_tokens"].append({"id": n, "content": token, "single_word": False, "lstrip": False,
                                          "rstrip": False, "normalized": False, "special": True})  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    roles = {"eos_token": "<|endoftext|>", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **roles}))
    framed_one = Tokenizer.load(tmp_path)
    first, last, pad = plain.size, plain.size + 1, plain.size + 2
    assert Frame.of(framed_one, "both") == Frame((first,), (last,), (last,), pad)
    assert Frame.of(framed_one, "permuted") == Frame((), (last,), (last, first), pad)
    assert Frame.of(framed_one, "pairs") == Frame((first,), (last,), (last,), pad)


@pytest.mark.parametrize("kind", ["BertProcessing", "RobertaProcessing"])
def test_two_texts_are_framed_as_published(tokenizer_folder: Path, tmp_path: Path, kind: str) -> None:
    described = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    size = Tokenizer.load(tokenizer_folder).size
    for n, token in enumerate(("<s>", "</s>"), size):
        described["added_tokens"].append({"id": n, "content": token, "single_word": False, "lstrip": False,
                                          "rstrip": False, "normalized": False, "special": True})  # fmt: skip
    more = {"trim_offsets": True, "add_prefix_space": False} if kind == "RobertaProcessing" else {}
    described["post_processor"] = {"type": kind, "sep": ["</s>", size + 1], "cls": ["<s>", size], **more}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    published, frame = Backend.from_file(str(tmp_path / "tokenizer.json")), Frame.of(Tokenizer.load(tmp_path), "both")
    one, two = (np.array(published.encode(text, add_special_tokens=False).ids) for text in ("a dog", "语文"))
    assert frame(one, None, 64)[0].tolist() == published.encode("a dog").ids
    assert frame(one, two, 64)[0].tolist() == published.encode("a dog", "语文").ids


@pytest.mark.parametrize(
    ("frame", "pair", "expected", "segments"),
    [
        (BERT, None, [1, 7, 8, 9, 2], [0] * 5),
        (BERT, ids(5, 6), [1, 7, 8, 9, 2, 5, 6, 2], [0] * 5 + [1] * 3),
        (Frame((), (2,), (2, 1), 0), ids(5), [7, 8, 9, 2, 5, 2, 1], [0] * 4 + [1] * 3),
        (Frame((), (2,), (), 0), None, [7, 8, 9], [0] * 3),
    ],
)
def test_around_one_text_and_two(frame: Frame, pair: Any, expected: list[int], segments: list[int]) -> None:
    found, of = frame(ids(7, 8, 9), pair, 20)
    assert found.tolist() == expected and of.tolist() == segments


@given(st.integers(0, 30), st.one_of(st.none(), st.integers(0, 30)), st.integers(5, 40))
def test_what_is_too_long_is_cut_at_its_end(one: int, other: int | None, length: int) -> None:
    text, pair = np.arange(100, 100 + one), None if other is None else np.arange(200, 200 + other)
    found, segments = BERT(text, pair, length)
    around = 2 if other is None else 3
    assert len(found) == len(segments) == min(length, one + (other or 0) + around)
    kept = found[(found >= 100) & (found < 200)]
    assert kept.tolist() == text[: len(kept)].tolist()
    if other is not None:
        kept_pair = found[found >= 200]
        assert kept_pair.tolist() == pair[: len(kept_pair)].tolist()  # type: ignore[index]
        while one + other > length - 3:  # token by token, as the published code does it
            one, other = (one - 1, other) if one > other else (one, other - 1)
        assert (len(kept), len(kept_pair)) == (one, other)


def test_a_length_without_room_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.length=4 leaves no room for a text beside 3 special tokens"):
        BERT(ids(5), ids(6), 4)


@given(st.lists(st.integers(0, 512), min_size=1, max_size=9), st.integers(8, 512))
def test_padding_keeps_the_rows_and_knows_few_widths(lengths: list[int], most: int) -> None:
    rows = [np.arange(1, 1 + min(length, most)) for length in lengths]
    found, keep = padded(rows, 0, most)
    assert found.shape == keep.shape and found.shape[1] in widths(most) and len(widths(most)) <= 7
    longest = max(map(len, rows))
    assert found.shape[1] == most or found.shape[1] <= max(2 * longest, most // 8 + 8)
    for row, whole, kept in zip(rows, found, keep, strict=True):
        assert whole[kept].tolist() == row.tolist() and kept.sum() == len(row) and not whole[~kept].any()


@given(st.integers(1, 512), st.integers(1, 512), st.integers(1, 512))
def test_a_pair_has_one_width_or_a_quarter_of_it(source: int, target: int, most: int) -> None:
    lengths = [min(length, most) for length in (source, target)]
    found = pair_widths([np.arange(lengths[0])], [np.arange(lengths[1])], most)
    allowed = {(wide, min(wide, -(-wide // 32) * 8)) for wide in widths(most)}
    assert any(set(found) <= set(pair) for pair in allowed)
    for length, width in zip(lengths, found, strict=True):
        assert length <= width <= most
    one, other = sorted(zip(lengths, found, strict=True))
    assert one[1] == other[1] or one[0] <= one[1] <= -(-other[1] // 32) * 8 < other[1]


def test_rows_become_inputs() -> None:
    rows = Rows({"text": [ids(7), ids(8, 9)], "pair": [ids(5), ids()]}, None, None, ids(0, 1), 8)
    arrays = framed(rows, BERT)
    assert arrays["ids"].tolist() == [[1, 7, 2, 5, 2, 0, 0, 0], [1, 8, 9, 2, 2, 0, 0, 0]]
    assert arrays["segments"].tolist() == [[0, 0, 0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]]
    assert arrays["keep"].sum(1).tolist() == [5, 5]
    assert "segments" not in framed(Rows({"text": [ids(7)]}, None, None, ids(0), 8), BERT)
