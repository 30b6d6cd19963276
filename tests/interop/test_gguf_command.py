"""`yuwen export --to gguf`, and a .gguf file where a MODEL is wanted."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from gguf_cases import small_model

from yuwen.cli.main import run
from yuwen.interop import save_folder
from yuwen.interop.gguf.header import GGUFFile
from yuwen.tokens import Tokenizer


@pytest.fixture
def folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    path = tmp_path / "model"
    save_folder(path, small_model("qwen3"), tokenizer, generation={"yuwen": {"chat": False}})
    return path


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return json.loads(capsys.readouterr().out)


def test_there_and_back(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "m.gguf"
    assert run(["export", str(folder), "--to", "gguf", str(out), "--type", "F32", "--json"]) == 0
    answer = said(capsys)
    assert answer["format"] == "gguf" and answer["dtype"] == "F32" and answer["files"] == {"m.gguf": out.stat().st_size}
    texts = []
    for model in (folder, out):
        assert run(["generate", str(model), "语文", "--greedy", "--max-tokens", "12", "--json"]) == 0
        texts.append(said(capsys)["ids"])
    assert texts[0] == texts[1]
    assert run(["export", str(out), "--to", "hf", str(tmp_path / "again"), "--json"]) == 0
    assert said(capsys)["hash"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert json.loads((tmp_path / "again" / "generation_config.json").read_text())["yuwen"] == {"chat": False}


def test_f16_unless_said_otherwise(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(folder), "--to", "gguf", str(tmp_path / "m.gguf")]) == 0
    file = GGUFFile(tmp_path / "m.gguf")
    assert file.tensors["token_embd.weight"].type.name == "F16" and file.settings["general.file_type"] == 1
    assert "tokenizer.chat_template" not in file.settings, "it never learned to chat"
    assert str(tmp_path / "m.gguf") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "gguf", "--dtype", "float32"], "--dtype is for --to hf"),
        (["--to", "hf", "--type", "F16"], "--type is for --to gguf"),
        (["--to", "gguf", "--type", "Q2_K"], "Q2_K"),
    ],
)
def test_settings_that_do_not_fit(
    arguments: list[str], words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(folder), str(tmp_path / "m"), *arguments]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "m").exists()


def test_what_is_there_stays(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.gguf").write_text("mine")
    assert run(["export", str(folder), "--to", "gguf", str(tmp_path / "m.gguf")]) == 2
    assert "exists already" in capsys.readouterr().err and (tmp_path / "m.gguf").read_text() == "mine"
