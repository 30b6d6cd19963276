"""A chat template from a stranger: what it may do, and what ends it."""

from __future__ import annotations

import os
import sys
import time

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen.errors import UserError
from yuwen.tokens import template as module
from yuwen.tokens.template import render


def test_text_goes_in_and_comes_out() -> None:
    variables = {"messages": [{"content": "语文 <é> 🙂\n\udc80"}], "n": 3}
    assert render("{{ messages[0].content }}|{{ n + 1 }}|{{ messages | tojson }}", variables, "S").startswith(
        "语文 <é> 🙂\n\udc80|4|"
    )
    assert render("a{% generation %}b{% endgeneration %}c", {}, "S") == "aSbSc"


LOOPS = {
    "for ever": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "one call that never ends": "{{ (9 ** (9 ** 9)) }}",
    "two calls for each": "{% macro f(n) %}{{ f(n + 1) if n < 60 }}{{ f(n + 1) if n < 60 }}{% endmacro %}{{ f(0) }}",
}
GREEDY = {
    "ten billion letters": "{{ 'x' * 10 ** 10 }}",
    "doubling": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "a wide format": "{{ '%1000000000d' | format(1) }}",
    "much text": "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    "replaced by more": "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
}
ESCAPES = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('touch pwned').read() }}",
    "import": "{% import 'os' as os %}{{ os.popen('touch pwned').read() }}",
    "import of a statement": "import os; {{ __import__('os').system('touch pwned') }}",
    "include": "{% include '/etc/passwd' %}",
    "extends": "{% extends '/etc/passwd' %}",
    "attributes by filter": "{{ ''|attr('__class__')|attr('__mro__') }}{{ raise_exception('still here') }}",
    "format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "changing what it was given": "{{ messages.append(1) }}",
}


@pytest.mark.parametrize("name", LOOPS)
def test_what_never_ends_is_ended(name: str) -> None:
    before = time.process_time()
    with pytest.raises(UserError, match="takes too long or too much memory|512 MB|recursion") as error:
        render(LOOPS[name], {}, "S")
    assert "\n" not in str(error.value)
    assert time.process_time() - before < 1, "none of it in this process"
    assert render("and the next one is fine", {}, "S") == "and the next one is fine"


@pytest.mark.parametrize("name", GREEDY)
def test_memory_is_bounded(name: str) -> None:
    before = psutil.Process().memory_info().rss
    with pytest.raises(UserError, match="chat template"):
        render(GREEDY[name], {}, "S")
    assert psutil.Process().memory_info().rss - before < 100 << 20


@pytest.mark.parametrize("name", ESCAPES)
def test_nothing_outside_is_reached(name: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    with pytest.raises(UserError, match="the chat template cannot render") as error:
        render(ESCAPES[name], {"messages": [0]}, "S")
    assert "\n" not in str(error.value)
    assert os.listdir() == []  # noqa: PTH208


def test_a_template_of_a_megabyte_is_not_read() -> None:
    with pytest.raises(UserError, match="2,000,000 characters"):
        render("x" * 2_000_000, {}, "S")


def test_a_module_in_the_current_folder_is_not_imported(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with open("jinja2.py", "w") as file:  # noqa: PTH123
        file.write("raise SystemExit")
    module._workshop.close()
    assert render("{{ 1 }}", {}, "S") == "1"


def test_a_process_that_was_ended_from_outside_is_begun_again() -> None:
    assert render("{{ 1 }}", {}, "S") == "1"
    process = module._workshop._process
    assert process is not None
    process.kill()
    process.wait()
    assert render("{{ 2 }}", {}, "S") == "2"


def test_a_fork_asks_a_process_of_its_own() -> None:
    assert render("{{ 1 }}", {}, "S") == "1"
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = int(render("{{ 2 }}", {}, "S") != "2")
        finally:  # whatever happens, no second run of the tests begins here
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert render("{{ 3 }}", {}, "S") == "3"


words = [
    *["{{", "}}", "{%", "%}", "{#", "#}", "messages", "[0]", ".role", "|tojson", "|length", "+", "*9", "'a'"],
    *["(", ")", "range(9)", "namespace()", "-", "语文", "loop.index", "\n"],
]
statements = [" for x in messages ", " endfor ", " if ", " endif ", " set y = "]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*words, *statements]), max_size=14).map("".join))
def test_any_template_is_text_or_one_line(template: str) -> None:
    try:
        assert isinstance(render(template, {"messages": [{"role": "user", "content": "你好"}]}, "S"), str)
    except UserError as error:
        assert "\n" not in str(error) and "chat template" in str(error)
