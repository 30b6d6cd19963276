"""A chat template rendered at arm's length: it runs in a process of its own, with bounded memory and time."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yuwen.errors import UserError

PROGRAM = Path(__file__).with_name("template_program.py")
_LONGEST = 1 << 20  # characters of a template; published ones have at most some ten thousand


def render(template: str, variables: Mapping[str, Any], span: str) -> str:
    """The text of a Jinja template; `span` is put before and behind what `{% generation %}` marks.

    Variables are plain data: strings, numbers, lists, objects. UserError for a template that is wrong or refuses, and
    for one that takes more memory or time than any conversation needs.
    """
    if len(template) > _LONGEST:
        raise UserError(f"the chat template has {len(template):,} characters: no model's is that long")
    answer = _workshop.ask({"template": template, "variables": variables, "span": span})
    if answer is None:
        raise UserError(
            "the chat template takes too long or too much memory: it was stopped; give another or use --raw"
        )
    if "refused" in answer:
        raise UserError(f"the chat template cannot render this conversation: {answer['refused']}")
    return answer["text"]


def start() -> None:
    """Starts the other process, if it is not there yet, so that a first conversation need not wait for it."""
    with contextlib.suppress(OSError):  # whoever renders will be told
        _workshop.start()


class _Workshop:
    """The other process: started when first needed, again after it was ended, and one for each forked process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: Mapping[str, Any]) -> dict[str, str] | None:
        """Its answer; None if it ended instead."""
        line = json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        with self._lock:
            if self._process is not None and self._process.poll() is not None:
                self.close()  # it ended between two questions, which is none of this template's doing
            process = self._process or self._start()
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(line)
                process.stdin.flush()
                answer = process.stdout.readline()
            except BrokenPipeError:
                answer = b""
            except BaseException:  # interrupted between question and answer: the next answer would be to this question
                self.close()
                raise
            if not answer:
                self.close()
                return None
        return json.loads(answer.decode("utf-8", "surrogatepass"))

    def start(self) -> None:
        """Begins without waiting for it."""
        with self._lock:
            if self._process is None:
                self._start()

    def close(self) -> None:
        """Ends the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        paths = [path for path in sys.path if path]  # its imports are ours, and none comes from the current folder
        code = (
            f"import sys; sys.path[:] = {paths!r}; import runpy; runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self._process


_workshop = _Workshop()
atexit.register(lambda: _workshop.close())


def _fresh() -> None:
    global _workshop
    _workshop = _Workshop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh)  # a child must not read the answers to its parent's questions
