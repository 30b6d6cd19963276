from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def yuwen(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "yuwen.cli.main", "data", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_check(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "语文"}\n')
    result = yuwen("check", str(path), "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["documents"] == 1
    path.write_text('{"body": "语文"}\n{"bdy": 1}\n')
    result = yuwen("check", str(path), "--field", "body")
    assert result.returncode == 2 and f"{path}:2:body: no such field; the row has bdy; " in result.stdout
    assert result.stderr == f"yuwen: {path}: not fit to learn from: 1 × missing field; mend what is listed on stdout\n"
    result = yuwen("check", str(path), "--json")
    assert result.returncode == 2 and json.loads(result.stdout)["problems"][0]["line"] == 2


def test_stats(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("语文".encode("gb18030"))
    result = yuwen("stats", str(path), "--encoding", "gb18030", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["scripts"] == {"Han": 1.0}
    assert "Han 100.0%" in yuwen("stats", str(path), "--encoding", "gbk").stdout
    result = yuwen("stats", str(path))
    assert result.returncode == 2 and result.stdout == "" and "a.txt:1: byte 0" in result.stderr


def test_a_missing_file(tmp_path: Path) -> None:
    for verb in ("check", "stats"):
        result = yuwen(verb, str(tmp_path / "no.txt"), "--json")
        assert result.returncode == 2 and result.stdout == "" and "no such file or folder" in result.stderr
