"""What stands around a text that an encoder reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from task_models import encoder
from tokenizers import Tokenizer as Backend

from yuwen.tasks import embed, fill
from yuwen.tasks.ids import frame, framed
from yuwen.tokens import Tokenizer


def test_a_text_is_framed_and_cut() -> None:
    ready = encoder()
    assert ready.tokenizer is not None
    first, last = ready.tokenizer.id_of("cls_token"), ready.tokenizer.id_of("sep_token")
    assert (frame(ready).before, frame(ready).after) == ((first,), (last,))
    assert framed(ready, [7, 8, 9], 5) == ([first, 7, 8, 9, last], False)
    assert framed(ready, [7, 8, 9], 4) == ([first, 7, 8, last], True)
    assert framed(encoder(family="xlnet"), [7, 8, 9], 4) == ([7, 8, last, first], True)


def test_without_a_frame_a_text_stands_alone(tokenizer: Tokenizer) -> None:
    bare = replace(encoder(), tokenizer=tokenizer)
    assert (frame(bare).before, frame(bare).after) == ((), ())
    assert framed(bare, [7, 8], 1) == ([7], True)


def test_an_encoder_whose_files_name_no_roles(tmp_path: Path) -> None:
    """As bert-base-chinese is published."""
    ready = encoder()
    assert ready.tokenizer is not None
    described = ready.tokenizer.described()
    described["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true, "model_max_length": 512}')
    published = replace(ready, tokenizer=Tokenizer.load(tmp_path))
    assert published.tokenizer is not None
    ids, _ = framed(published, published.tokenizer.encode("a dog"), 64)
    assert ids == Backend.from_str(json.dumps(described)).encode("a dog").ids
    assert list(fill(published, ["a [MASK] in paris"])) == list(fill(ready, ["a [MASK] in paris"]))
    assert list(embed(published, ["a dog"])) == list(embed(ready, ["a dog"]))
