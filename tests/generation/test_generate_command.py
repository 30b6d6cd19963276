"""yuwen generate, as scripts and people use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from generation_models import random_model

from yuwen.cli.main import run
from yuwen.interop import save_folder
from yuwen.tokens import Tokenizer


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    save_folder(tmp_path, random_model("qwen3", tokenizer.size), tokenizer, generation={"yuwen": {"chat": False}})
    return tmp_path


def test_json_has_the_agreed_fields(folder: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", str(folder), "庙里有个", "--max-tokens", "12", "--greedy", "--json"]
    assert run(arguments) == 0
    output = capsys.readouterr()
    answer = json.loads(output.out)
    assert {"text", "ids", "finish_reason", "prefill_tokens_per_second", "decode_tokens_per_second"} <= set(answer)
    assert len(answer["ids"]) == 12 and answer["finish_reason"] == "length" and answer["chat"] is False
    assert answer["prompt_tokens"] == len(tokenizer.encode("庙里有个"))
    assert answer["text"] == tokenizer.decode(answer["ids"])
    assert answer["model"][:12] in output.err
    assert run(arguments[:-1]) == 0
    assert capsys.readouterr().out == answer["text"] + "\n"


def test_every_setting_reaches_the_sampler(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["generate", str(folder), "The", "--max-tokens", "20", "--json", "--temperature", "1.5"]
    texts = {}
    for more in ([], ["--seed", "1"], ["--top-k", "1"], ["--top-p", "0.01"], ["--min-p", "1"]):
        assert run([*base, *more]) == 0
        texts[tuple(more)] = json.loads(capsys.readouterr().out)["ids"]
    assert run(["generate", str(folder), "The", "--max-tokens", "20", "--json", "--greedy"]) == 0
    greedy = json.loads(capsys.readouterr().out)["ids"]
    assert texts[("--top-k", "1")] == texts[("--top-p", "0.01")] == texts[("--min-p", "1")] == greedy
    assert len({tuple(ids) for ids in texts.values()}) == 3
    assert run(["generate", str(folder), "The", "--json", "--greedy", "--repetition-penalty", "5"]) == 0
    assert json.loads(capsys.readouterr().out)["ids"][:20] != greedy


def test_stop_strings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["generate", str(folder), "The quick", "--greedy", "--max-tokens", "30", "--json"]
    run(base)
    text = json.loads(capsys.readouterr().out)["text"]
    stop = text[4:7]
    assert run([*base, "--stop", "never said", "--stop", stop]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["finish_reason"] == "stop" and answer["text"] == text[: text.index(stop)]


def test_a_chat_model_answers_unless_raw(
    tmp_path: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    save_folder(tmp_path, random_model("llama", tokenizer.size), tokenizer)
    asked, chat = ["generate", str(tmp_path), "hi", "--max-tokens", "3", "--json"], []
    for more in ([], ["--raw"]):
        assert run([*asked, *more]) == 0
        chat.append(json.loads(capsys.readouterr().out)["chat"])
    assert chat == [True, False]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--greedy", "--top-k", "5"], "--greedy would ignore --top-k"),
        (["--temperature", "-1"], "temperature=-1"),
        (["--temperature", "0", "--top-p", "0.5"], "would ignore top_p"),
        (["--max-tokens", "0"], "max_tokens=0"),
        (["--stop", ""], "must not be empty"),
        (["--dtype", "int3"], "int3"),
        (["--stpo", "x"], "did you mean --stop"),
    ],
)
def test_mistakes_are_one_line(folder: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", str(folder), "The", *more]) == 2
    output = capsys.readouterr()
    assert not output.out and said in output.err.splitlines()[-1]


def test_a_prompt_longer_than_the_context_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", str(folder), "山" * 300]) == 2
    assert "shorten the prompt" in capsys.readouterr().err


def test_a_model_without_tokenizer_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_folder(tmp_path, random_model("llama", 50))
    assert run(["generate", str(tmp_path), "x"]) == 2
    assert "without a tokenizer" in capsys.readouterr().err
