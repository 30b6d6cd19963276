"""Saved tokenizers give the same in `transformers`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yuwen.tokens import Tokenizer

transformers = pytest.importorskip("transformers")
CHAT = [
    {"role": "user", "content": "你好"},
    {"role": "assistant", "content": "Hi 你好。"},
    {"role": "user", "content": "再见"},
    {"role": "assistant", "content": "bye"},
]


def test_equal_ids_on_thousands_of_lines(tokenizer: Tokenizer, tmp_path: Path, lines: list[str]) -> None:
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.eos_token_id, theirs.pad_token_id) == (tokenizer.end_id, tokenizer.pad_id)
    assert theirs.unk_token_id == tokenizer.unknown_id
    assert theirs.chat_template == tokenizer.chat_template
    assert len(theirs) == tokenizer.size
    assert len(lines) > 5000
    expected = theirs(lines, add_special_tokens=False)["input_ids"]
    assert [tokenizer.encode(line, specials=True) for line in lines[::5]] == expected[::5]
    plain = [place for place, line in enumerate(lines) if "<|" not in line]
    ours = tokenizer.encode_batch([lines[place] for place in plain])
    assert [ids.tolist() for ids in ours] == [expected[place] for place in plain]
    for ids in expected[::20]:
        assert theirs.decode(ids) == tokenizer.decode(ids, skip_special=False)


# Not qwen2: for that one transformers 5 ignores tokenizer.json's own cutting, whoever made it.
@pytest.mark.parametrize("model_type", ["qwen3", "gpt2", "llama", "bert"])
def test_equal_ids_beside_a_models_config(
    trained: dict[str, Tokenizer], tmp_path: Path, lines: list[str], model_type: str
) -> None:
    trained["bpe"].save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for line in lines[::60]:
        assert theirs.encode(line, add_special_tokens=False) == trained["bpe"].encode(line, specials=True)


def test_equal_chats(trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    trained["bpe"].save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    expected = theirs.apply_chat_template(CHAT, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    ours = trained["bpe"].render(CHAT)
    assert ours.ids.tolist() == expected["input_ids"]
    assert ours.mask.tolist() == expected["assistant_masks"]
    prompt = theirs.apply_chat_template(CHAT[:1], tokenize=True, return_dict=True, add_generation_prompt=True)
    assert trained["bpe"].render(CHAT[:1], generate=True).ids.tolist() == prompt["input_ids"]
