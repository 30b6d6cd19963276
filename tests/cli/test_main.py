from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from yuwen import __version__
from yuwen.cli import _output, main
from yuwen.errors import UserError

CLI = Path(main.__file__).parent


def yuwen(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "yuwen.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Puts a function in the place of `yuwen doctor`."""

    def put(function: Callable[[], object]) -> None:
        app = typer.Typer()
        app.command()(function)
        monkeypatch.setitem(sys.modules, "yuwen.cli.doctor", SimpleNamespace(app=app))

    return put


def test_help_lists_the_verbs_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    shown = capsys.readouterr().out
    positions = [shown.index(f"\n  {verb} ") for verb in main.verbs()]
    assert positions == sorted(positions) and "doctor" in main.verbs()


def test_every_verb_file_has_a_row_in_the_table() -> None:
    files = {file.stem for file in CLI.glob("*.py") if not file.stem.startswith("_")} - {"main"}
    assert files <= main.VERBS.keys()


def test_every_verb_follows_the_convention(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in main.verbs():
        assert main.run([verb, "--help"]) == 0, verb
        shown = capsys.readouterr().out
        assert shown.startswith(f"Usage: yuwen {verb} ") and "--install-completion" not in shown


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([]) == 0
    assert "Verbs:" in capsys.readouterr().out


def test_help_and_version_are_fast() -> None:
    for option in ("--help", "--version"):
        seconds = []
        for _ in range(3):  # the processor's time, not the clock's, and the best of a few: others use the machine too
            before = os.times()
            result = yuwen(option)
            after = os.times()
            seconds.append(sum(after[2:4]) - sum(before[2:4]))
        assert result.returncode == 0 and min(seconds) < 0.3, (option, seconds)
    assert result.stdout == f"yuwen {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["doctr"], "yuwen: no such verb doctr: did you mean doctor? (see yuwen --help)\n"),
        (["--versoin"], "yuwen: no such option --versoin: did you mean --version? (see yuwen --help)\n"),
        (["doctor", "--jsn"], "yuwen: doctor: no such option --jsn: did you mean --json? (see yuwen doctor --help)\n"),
    ],
)
def test_a_usage_error_is_one_line_with_the_nearest_name(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(arguments) == 2
    assert capsys.readouterr().err == told


def test_a_superfluous_argument_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["doctor", "more"]) == 2
    told = capsys.readouterr().err
    assert "more" in told and "see yuwen doctor --help" in told and told.count("\n") == 1


def test_a_user_error_is_one_line(verb: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise UserError("a.jsonl:3: no field text:\n name it with data.field=body")

    verb(fail)
    assert main.run(["doctor"]) == 2
    assert capsys.readouterr().err == "yuwen: a.jsonl:3: no field text: name it with data.field=body\n"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOENT, errno.EISDIR, errno.EEXIST])
def test_trouble_with_files_is_one_line(code: int, verb: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise OSError(code, os.strerror(code), "runs/a")

    verb(fail)
    assert main.run(["doctor"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"yuwen: runs/a: {os.strerror(code)}: ") and told.count("\n") == 1


def test_interruption(verb: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    verb(fail)
    assert main.run(["doctor"]) == 130
    assert capsys.readouterr().err == "yuwen: interrupted\n"


def test_our_fault_keeps_its_traceback(
    verb: Callable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail() -> None:
        raise ValueError("a\nsurprise")

    verb(fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main.run(["doctor"]) == 1
    told = capsys.readouterr().err
    (kept,) = tmp_path.iterdir()
    assert "ValueError: a surprise" in told and str(kept) in told and told.count("\n") == 1
    assert "Traceback" in kept.read_text() and "in fail" in kept.read_text()

    monkeypatch.setenv("YUWEN_DEBUG", "1")
    assert main.run(["doctor"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_chosen_exit_status_passes_through(verb: Callable) -> None:
    def stop() -> None:
        raise typer.Exit(2)

    verb(stop)
    assert main.run(["doctor"]) == 2


def test_a_reader_that_went_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "yuwen.cli.main", "--help"], stdout=writer, stderr=subprocess.PIPE, timeout=60
        )
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "yuwen.cli.main", "--help"], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert result.returncode == 2 and result.stderr.count(b"\n") == 1 and b"free some space" in result.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_as_good_as_nothing(closed: str) -> None:
    result = subprocess.run(["sh", "-c", f'"{sys.executable}" -m yuwen.cli.main --help {closed}'], capture_output=True)
    assert result.returncode == 0 and b"Traceback" not in result.stderr


def test_a_tokenizer_takes_no_other_tokenizers_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("语文是语言和文字。\n" * 20, encoding="utf-8")
    command = ["tokenizer", "train", str(tmp_path / "text.txt"), "--vocab", "300", "--out", str(tmp_path / "out")]
    assert main.run(command) == 0
    before = (tmp_path / "out" / "tokenizer.json").read_bytes()
    assert main.run([*command, "--kind", "char"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == before


def test_undecodable_arguments_are_told_readably() -> None:
    result = subprocess.run([sys.executable, "-m", "yuwen.cli.main", b"\xff"], capture_output=True, timeout=60)
    assert result.returncode == 2 and b"no such verb" in result.stderr and b"Traceback" not in result.stderr


def test_json_is_one_strict_document(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    value = {
        "路": Path("a/b"),
        "n": np.float32(0.5),
        "ids": np.arange(3),
        "bad": float("nan"),
        "set": {1},
        3: (True, None),
    }
    _output.print_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == {"路": "a/b", "n": 0.5, "ids": [0, 1, 2], "bad": None, "set": [1], "3": [True, None]}
    assert "路" in out and out.count("\n") == 1


def test_json_is_json_where_stdout_cannot_write_all_of_unicode() -> None:
    code = (
        "from yuwen.cli import main, _output; main.run = lambda a: _output.print_json({'好': '😀\\xa0ñ'}); main.main()"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "gbk"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, env=environment)
    assert json.loads(result.stdout.decode("gbk")) == {"好": "😀\xa0ñ"}
