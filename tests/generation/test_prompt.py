"""Chat or continuation, and which tokens end a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import processors

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


def starting(tokenizer: Tokenizer, folder: Path, puts: bool, **settings: Any) -> Tokenizer:
    """The same with a start token, which its tokenizer.json may put in front of every text."""
    tokenizer.save(folder)
    path = folder / "tokenizer_config.json"
    start = "<|im_start|>"
    named = {**json.loads(path.read_text(encoding="utf-8")), "bos_token": start, **settings}
    named["chat_template"] = "{{ bos_token }}" + named["chat_template"]
    path.write_text(json.dumps(named), encoding="utf-8")
    if puts:
        backend = Backend.from_file(str(folder / "tokenizer.json"))
        id = backend.token_to_id(start)
        backend.post_processor = processors.TemplateProcessing(single=f"{start} $A", special_tokens=[(start, id)])
        backend.save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)


@pytest.mark.parametrize(
    ("puts", "settings", "starts"),
    [
        (False, {}, False),
        (True, {}, True),
        (False, {"add_bos_token": True}, True),
        (True, {"add_bos_token": False}, False),
    ],
)
def test_a_raw_prompt_has_the_start_token_its_tokenizer_asks_for(
    tokenizer: Tokenizer, tmp_path: Path, puts: bool, settings: dict[str, Any], starts: bool
) -> None:
    ours = starting(tokenizer, tmp_path, puts, **settings)
    ids = tokenizer.encode("你好")
    assert ours.encode("你好") == ids
    assert prompt_ids("你好", ours, chat=False) == ([ours.start_id, *ids] if starts else ids)
    assert prompt_ids("", ours, chat=False) == [ours.start_id]
    rendered = prompt_ids("你好", ours, chat=True)
    assert rendered[:2] == [ours.start_id] * 2 and ours.start_id != rendered[2]  # the template's own, and a turn's


def test_an_end_that_is_no_id_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": ["</s>"], "yuwen": 3}', encoding="utf-8")
    with pytest.raises(UserError, match="is no token id"):
        end_ids(tmp_path, tokenizer)
    assert is_chat(tmp_path, tokenizer)


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
