"""yuwen chat at a terminal (a pty) and over pipes."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from chat_models import save_chat_model
from yuwen.cli.main import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("chat"))


def piped(monkeypatch: pytest.MonkeyPatch, text: bytes, *arguments: str) -> int:
    stdin = SimpleNamespace(buffer=io.BytesIO(text), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stdin)
    return run(["chat", *arguments])


def test_one_object_a_turn(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "t.jsonl"
    arguments = [str(folder), "--json", "--greedy", "--max-tokens", "6", "--transcript", str(kept), "--system", "语文"]
    assert piped(monkeypatch, "\ufeff你好\r\n\n//fox\n/undo\n/retry\n/quit\nnever\n".encode(), *arguments) == 0
    output = capsys.readouterr()
    turns = [json.loads(line) for line in output.out.splitlines()]
    assert [turn["message"] for turn in turns] == ["你好", "/fox", "你好"]
    assert turns[0]["text"] == turns[2]["text"] and turns[1]["reused_tokens"] > 0
    assert {"ids", "finish_reason", "prompt_tokens", "prefill_tokens_per_second", "model"} <= set(turns[0])
    assert turns[0]["model"][:12] in output.err and "taken back: /fox" in output.err
    messages = json.loads(kept.read_text("utf-8"))["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    assert piped(monkeypatch, b"/clear\nfox\n", *arguments[:-2]) == 0
    assert "goes on after 3 messages" in capsys.readouterr().err
    assert len(kept.read_text("utf-8").splitlines()) == 2


def test_text_alone_without_json(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "s.jsonl"
    text = f"你好\n/save {saved}\n/clear\n/load {saved}\n/system\n/help\n"
    assert piped(monkeypatch, text.encode(), str(folder), "--greedy", "--max-tokens", "6") == 0
    output = capsys.readouterr()
    assert output.out == json.loads(saved.read_text("utf-8"))["messages"][1]["content"] + "\n"
    for said in ("cut after --max-tokens 6", "2 messages from", "system prompt: none", "/retry"):
        assert said in output.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fox\n/lod x\n", "line 2 of the input: no command /lod: did you mean load?"),
        ("/load\n", "line 1 of the input: /load FILE: which file?"),
        ("/load nowhere.jsonl\n", "no such file"),
        ("/undo\n", "nothing has been said"),
        ("/undo x\n", "/undo stands alone"),
        ("/save .\n", "exists already"),
        ("fox " * 2000 + "\n", "shorten it"),
        (b"ok\n\xff\xfe\n", "line 2 of the input: not UTF-8"),
    ],
)
def test_a_mistake_in_a_pipe_names_its_line(
    folder: Path, text: str | bytes, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = text if isinstance(text, bytes) else text.encode()
    assert piped(monkeypatch, content, str(folder), "--max-tokens", "2") == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_base_model_is_offered_generate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = save_chat_model(tmp_path, chat=False)
    assert piped(monkeypatch, b"", str(base)) == 2
    assert "yuwen generate" in capsys.readouterr().err.splitlines()[-1]


class Terminal:
    """A program in a terminal of 24 columns."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        import fcntl
        import termios

        def at_a_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background of a script has it ignored

        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 24, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "yuwen.cli.main", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=at_a_terminal,
            env={**os.environ, "TERM": "xterm", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"},
        )
        os.close(slave)
        self.seen = b""

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C at a prompt, as late as a hand is: Python does not see one between writing a prompt and waiting."""
        time.sleep(1)
        self.send("\x03")

    def more(self, bytes: int, seconds: float = 120) -> None:
        """Waits until so much is seen."""
        end = time.monotonic() + seconds
        while len(self.seen) < bytes:
            assert time.monotonic() < end, f"no more than {self.seen!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 4096)

    def until(self, said: str, seconds: float = 120) -> bytes:
        """What comes before and with a text that has not been waited for yet."""
        end = time.monotonic() + seconds
        while said.encode() not in self.seen:
            assert time.monotonic() < end, f"{said!r} never came, but {self.seen[-300:]!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:  # the program has left
                    assert said.encode() in self.seen, f"{said!r} never came, but {self.seen[-300:]!r}"
        before, after = self.seen.split(said.encode(), 1)
        self.seen = after
        return before

    def close(self) -> int:
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            os.close(self.master)


def test_a_conversation_at_a_terminal(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "t.jsonl"
    terminal = Terminal("chat", str(folder), "--greedy", "--max-tokens", "3000", "--transcript", str(kept))
    terminal.until("> ")
    terminal.send("/system 语文课\n")
    terminal.until("语文课)")
    terminal.until("> ")
    terminal.send("从前有座山🙂\n")
    terminal.until("山🙂")
    terminal.more(60)  # some of the answer
    terminal.send("\x03")
    terminal.until("(interrupted)")
    terminal.until("> ")
    messages = json.loads(kept.read_text("utf-8"))["messages"]
    assert messages[1]["content"] == "从前有座山🙂" and messages[2]["interrupted"] and messages[2]["content"]
    terminal.send("/undo\n")
    terminal.until("(taken back")
    terminal.until("> ")
    terminal.interrupt()
    terminal.until("Ctrl-C again leaves")
    terminal.until("> ")
    terminal.send("/nothing\n")
    terminal.until("no command /nothing")
    terminal.until("> ")
    terminal.send("/help\n")
    terminal.until("/quit")
    terminal.until("> ")
    terminal.interrupt()
    terminal.until("Ctrl-C again leaves")
    terminal.until("> ")
    terminal.interrupt()
    assert terminal.close() == 0


def test_an_answer_then_two_interrupts_leave(folder: Path) -> None:
    terminal = Terminal("chat", str(folder), "--greedy", "--max-tokens", "3000")
    terminal.until("> ")
    terminal.send("fox\n")
    terminal.until("fox")
    time.sleep(0.5)
    terminal.more(60)
    os.killpg(terminal.process.pid, signal.SIGINT)
    terminal.until("(interrupted)")
    terminal.until("> ")
    terminal.interrupt()
    assert terminal.close() == 0


def test_bench_generate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "generate", str(folder), "--prompt", "9", "--tokens", "5", "--batch", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = ("prefill_tokens_per_second", "decode_tokens_per_second", "first_token_seconds", "load_seconds")
    assert all(found[name] > 0 for name in names) and found["peak_memory_bytes"] > found["weights_bytes"] > 0
    assert run(["bench", "generate", str(folder), "--prompt", "9", "--tokens", "1"]) == 0
    assert "writes" not in capsys.readouterr().out
    assert run(["bench", "generate", str(folder), "--prompt", "4000", "--tokens", "2"]) == 2
    assert "more than the model's context of 4000" in capsys.readouterr().err
