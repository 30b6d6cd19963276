from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from yuwen.data import Shards


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "yuwen.cli.main", "data", "prepare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("语文", "yuwen", "语文")), encoding="utf-8")
    return path


def test_prepares_and_reports(rows: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    done = run(rows, "--tokenizer", tokenizer_folder, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    found, shards = json.loads(done.stdout), Shards(tmp_path / "out")
    assert (found["tokens"], found["documents"], found["bytes"]) == (len(shards), 2, 11)
    assert found["dropped"] == {"duplicate": 1} and found["unknown"] == 0
    text = run(rows, "--tokenizer", tokenizer_folder, "--out", tmp_path / "out")
    assert text.returncode == 0 and "1 duplicate" in text.stdout


def test_a_mistake_is_one_line(rows: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    for data, tokenizer, message in [
        (tmp_path / "none.txt", tokenizer_folder, "none.txt: no such file"),
        (tmp_path / "empty.txt", tokenizer_folder, "empty.txt"),
        (rows, tmp_path, "tokenizer.json"),
    ]:
        done = run(data, "--tokenizer", tokenizer, "--out", tmp_path / "out")
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1 and not (tmp_path / "out").exists()
