"""The program in which chat templates run: a process of its own, because a template may come from anywhere.

It reads one JSON object a line, {"template", "variables", "span"}, and answers each with {"text"} or {"refused"}. The
template language is that of `transformers`, in the same sandbox. A template that uses more than MEMORY or SECONDS of
processor time ends this process, and nothing else. Run by `tokens.template`; imports nothing of yuwen, so that it
starts quickly.
"""

from __future__ import annotations

import datetime
import faulthandler
import functools
import json
import signal
import sys
from collections.abc import Callable
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 2  # a conversation takes milliseconds
MEMORY = 512 << 20  # bytes of address space
LONGEST = 32 << 20  # characters of a rendered text


class Generation(jinja2.ext.Extension):
    """`{% generation %} … {% endgeneration %}`, by which a template says what the assistant wrote."""

    tags = {"generation"}
    span = ""  # stands before and behind it: that of the request being answered

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        return f"{Generation.span}{caller()}{Generation.span}"


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda pattern: datetime.datetime.now().strftime(pattern)
    return environment.from_string(template)


def _rendered(template: str, variables: dict[str, Any]) -> str:
    parts, length = [], 0
    for part in _compiled(template).generate(variables):
        parts.append(part)
        length += len(part)
        if length > LONGEST:
            raise jinja2.TemplateError(f"it writes more than {LONGEST:,} characters")
    return "".join(parts)


def _answer(line: bytes) -> dict[str, str]:
    request = json.loads(line)
    Generation.span = request["span"]
    try:
        return {"text": _rendered(request["template"], request["variables"])}
    except MemoryError:
        return {"refused": f"it needs more than {MEMORY >> 20} MB of memory"}
    except Exception as error:  # whatever a stranger's template does wrong
        return {"refused": " ".join(f"{error or type(error).__name__}".split())[:300]}


def _watch(seconds: float) -> None:
    """Ends the process after so much time unless called again; 0: never. By the system, whatever Python is at."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)  # processor time; no handler, so SIGPROF ends the process
    elif seconds:
        faulthandler.dump_traceback_later(seconds, exit=True)
    else:
        faulthandler.cancel_dump_traceback_later()


def main() -> None:
    """Answers requests from stdin until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the program that asks
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):  # a system without that limit: time and length still bound it
        pass
    for line in sys.stdin.buffer:
        _watch(SECONDS)
        answer = json.dumps(_answer(line), ensure_ascii=False).encode("utf-8", "surrogatepass")
        _watch(0)
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
