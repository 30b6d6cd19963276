"""Chat or continuation, and which tokens end a text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yuwen.errors import UserError
from yuwen.generation import end_ids, is_chat, prompt_ids
from yuwen.tokens import Tokenizer


def without_template(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    tokenizer.save(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    path.write_text(json.dumps(settings), encoding="utf-8")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    return Tokenizer.load(folder)


def test_a_checkpoint_says_whether_it_chats_else_its_template_does(tokenizer: Tokenizer, tmp_path: Path) -> None:
    plain = without_template(tokenizer, tmp_path / "plain")
    assert is_chat(tmp_path, tokenizer) and not is_chat(tmp_path, plain)
    (tmp_path / "generation_config.json").write_text('{"yuwen": {"chat": false}}', encoding="utf-8")
    assert not is_chat(tmp_path, tokenizer)
    (tmp_path / "generation_config.json").write_text('{"yuwen": {"chat": true}}', encoding="utf-8")
    assert is_chat(tmp_path, tokenizer)


def test_a_message_is_rendered_and_a_text_left_as_it_is(tokenizer: Tokenizer) -> None:
    ids = prompt_ids("你好", tokenizer, chat=True)
    rendered = "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(ids, skip_special=False) == rendered
    assert all(type(id) is int for id in ids)
    assert prompt_ids("你好", tokenizer, chat=False) == tokenizer.encode("你好")
    assert prompt_ids("", tokenizer, chat=False) == [tokenizer.end_id]


def test_end_tokens_are_the_models_and_the_tokenizers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    own = sorted(tokenizer.stop_ids)
    assert tokenizer.end_id in own and end_ids(tmp_path, tokenizer) == own
    for named, expected in ((7, [7]), ([7, 9], [7, 9]), (None, [])):
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": named}), encoding="utf-8")
        assert end_ids(tmp_path, tokenizer) == sorted({*own, *expected})


def test_a_broken_file_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"generation_config.json: not JSON"):
        is_chat(tmp_path, tokenizer)
