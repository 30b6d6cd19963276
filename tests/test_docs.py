"""What the pages say can be done: links lead somewhere, commands and settings exist, defaults are the code's, and each
page has its twin in the other language."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml

from yuwen.app.pages.comparison import picture
from yuwen.app.run.recipe import DataConfig, Recipe, read_recipe
from yuwen.cli import main
from yuwen.config import Config
from yuwen.errors import UserError
from yuwen.models import FAMILIES
from yuwen.objectives import ObjectiveConfig
from yuwen.text import FieldsConfig, TextConfig

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
ENGLISH = [page for page in PAGES if ".zh-CN" not in page.name and page.name not in ("CHANGELOG.md", "CONTRIBUTING.md")]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = "|".join(Recipe.model_fields)

name = lambda page: str(page.relative_to(ROOT))  # noqa: E731


def chinese(page: Path) -> Path:
    return page.with_name(f"{page.stem}.zh-CN.md")


@cache
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    return FENCE.sub("", text(page))


def tables(page: Path) -> Iterator[list[list[str]]]:
    """The tables of a page, as rows of cells, the line below the header left out."""
    for found in re.findall(r"(?:^\|.*\|\n)+", prose(page), re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split(" |")] for line in found.splitlines()]
        yield [rows[0], *rows[2:]]


# Links


def anchors(page: Path) -> set[str]:
    """The names GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(linked), f"{target}: the page has {sorted(anchors(linked))}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_exist(page: Path) -> None:
    for path in re.findall(r"(?<![\w/.\]$])((?:[\w-]+/)*[\w-]+\.(?:py|c|j2|yaml))\b(?!\.)", text(page)):
        if {"NAME", "VERB", "FOLDER", "RUN"} & set(re.split(r"[/.]", path)) or path in OTHERS:
            continue
        places = [ROOT / path, ROOT / "src/yuwen" / path, ROOT / "recipes" / path]
        known = any(place.exists() for place in places) or any((ROOT / "src").rglob(path))
        assert known, f"{path}: no such file"


# Files of the reader's own, or written by a program.
OTHERS = {"recipe.yaml", "RECIPE.yaml", "my.yaml", "mine.j2", "NAME.en.j2", "NAME.zh.j2"}


@pytest.mark.parametrize("language", ["", ".zh-CN"], ids=["english", "chinese"])
def test_chapters_lead_on_in_the_order_of_the_contents(language: str) -> None:
    chapters = re.findall(r"^\d+\. \[[^]]+\]\(([^)]+)\)", text(DOCS / f"README{language}.md"), re.MULTILINE)
    leads = [
        re.search(r"^(?:Next: |下一章：)\[[^]]+\]\(([^)]+)\)\n\Z", text(DOCS / file), re.MULTILINE) for file in chapters
    ]
    assert [lead and lead[1] for lead in leads] == [*chapters[1:], None]
    listed = set(re.findall(r"\]\(([\w.-]+\.md)\)", text(DOCS / f"README{language}.md")))
    own = {page.name for page in DOCS.glob("*.md") if (".zh-CN" in page.name) == bool(language)}
    assert own <= listed | {f"README{language}.md"}, "a page that the contents do not list"


# Commands


def commands(page: Path) -> Iterator[tuple[str, str]]:
    """The `yuwen …` commands of a page, or of a recipe's comments, and the line after each."""
    if page.suffix == ".yaml":
        lines = [line[line.find("yuwen ") :] for line in text(page).splitlines() if line.startswith("#")]
        inline: list[str] = []
    else:
        fenced = "\n".join(body for language, body in FENCE.findall(text(page)) if language in ("", "sh"))
        indented = "\n".join(re.findall(r"^    .*$", prose(page), re.MULTILINE))
        lines = f"{fenced}\n{indented}".splitlines()
        inline = re.findall(r"`(yuwen [^`]+)`", re.sub(r"\n(?!\n)", " ", prose(page)))
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        for part in re.split(r" \| ", line):
            found = re.match(
                r"\s*(?:\$ |\w+: )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/|torchrun .* -m )?(yuwen(?:\.cli\.main)? .*)", part
            )
            if found:
                yield found[1], after
    yield from ((command, "") for command in inline)


def options_of(words: list[str]) -> set[str] | None:
    """The options of the verb that a command line names; None where it names none, as in `yuwen VERB --help`."""
    group: Any = typer.main.get_command(main.app)
    context = typer.Context(group)
    if not words[1:] or words[1].startswith("-") or words[1] == "VERB":
        return None
    command = group.get_command(context, words[1])
    if hasattr(command, "list_commands") and len(words) > 2 and not words[2].startswith("-"):
        command = command.get_command(context, words[2])
        assert command is not None, f"no such action: {' '.join(words[:3])}"
    return {
        "--help",
        *(option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)),
    }


@pytest.mark.parametrize("page", [*PAGES, *RECIPES], ids=name)
def test_every_verb_and_option_exists(page: Path) -> None:
    for command, _ in commands(page):
        bare = re.sub(r"'[^']*'|\"[^\"]*\"|(?:^|\s)#.*", " ", command)
        known = options_of(bare.split())
        used = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", bare.partition(">")[0]))
        assert known is None or used <= known, f"{command}: no option {used - known}"


# Settings


def known_key(key: str) -> bool:
    """Whether a recipe may hold `section.key`, of one family or objective at least."""
    section, _, rest = key.partition(".")
    first, _, inner = rest.partition(".")
    if section == "model":
        return first in ("family", "from") or any(first in family.config.model_fields for family in FAMILIES.values())
    if section == "objective":
        kinds = [get_args(kind)[0] for kind in get_args(get_args(ObjectiveConfig)[0])]
        return any(first in kind.model_fields for kind in kinds)
    fields = {field.alias or name for name, field in Recipe.model_fields[section].annotation.model_fields.items()}
    if section == "data" and inner:
        return inner in {"text": TextConfig, "fields": FieldsConfig}[first].model_fields
    return first in fields


def overrides(words: list[str]) -> list[str]:
    """Those among a command's words; in brackets stand the ones that may be left out."""
    bare = [word[1:].rstrip("]") if word.startswith("[") else word for word in words]
    return [word for word in bare if re.match(rf"(?:{SECTIONS})\.[a-z_.]+=", word)]


@pytest.mark.parametrize("page", [*PAGES, *RECIPES], ids=name)
def test_every_setting_that_is_shown_exists(page: Path) -> None:
    shown = re.sub(r"```python\n.*?```", "", text(page), flags=re.DOTALL)
    for key in re.findall(rf"(?<![\w./-])((?:{SECTIONS})(?:\.[a-z_0-9]+)+)=", shown):
        assert known_key(key), f"{key}: no such setting"
    for table in tables(page) if page.suffix == ".md" else ():
        if table[0][0] in ("Key", "键"):
            for key in re.findall(rf"`((?:{SECTIONS})\.[a-z_0-9.]+)`", " ".join(row[0] for row in table)):
                assert known_key(key), f"{key}: no such setting"


@pytest.mark.parametrize("page", [*PAGES, *RECIPES], ids=name)
def test_recipes_take_the_settings_that_they_are_shown_with(page: Path) -> None:
    for command, after in commands(page):
        words = shlex.split(re.sub(r"\s#.*", "", command).replace("…", ""))
        if words[1:2] not in (["train"], ["compare"]):
            continue
        paths = [ROOT / word for word in words[2:] if word.startswith("recipes/")]
        for path in paths or [ROOT / "recipes/qwen3.yaml"]:
            if after.startswith("yuwen: "):  # a mistake, and what is said to it
                with pytest.raises(UserError) as error:
                    read_recipe(path, overrides(words))
                shown = str(path.relative_to(ROOT)) if paths else "recipe.yaml"
                assert after == f"yuwen: {error.value}".replace(str(path), shown)
            else:
                read_recipe(path, overrides(words))


# Defaults


def values(cell: str) -> list[Any]:
    """A cell of defaults as values."""
    words = [word.strip("` ") for word in re.split(r", |、", cell)]
    return [None if word in ("none", "无") else yaml.safe_load(word) for word in words]


def same(shown: Any, default: Any) -> bool:
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        return float(shown) == default
    return (shown is None and default in (None, ())) or shown == default


def defaults(section: str, config: type[Config]) -> dict[str, Any]:
    return {f"{section}.{field.alias or name}": field.default for name, field in config.model_fields.items()}


@pytest.mark.parametrize("language", ["", ".zh-CN"], ids=["english", "chinese"])
def test_the_recipe_page_lists_every_key_with_its_default(language: str) -> None:
    sections = {
        name: field.annotation for name, field in Recipe.model_fields.items() if name not in ("model", "objective")
    }
    expected = {key: value for name, config in sections.items() for key, value in defaults(name, config).items()}
    for key in ("data.train", "data.text"):  # without a default; a section of its own
        del expected[key]
    assert defaults("data", DataConfig)["data.text"] == TextConfig()
    expected |= {"model.family": "qwen3", "model.from": None, "objective.name": None}
    assert Recipe(data=DataConfig(train="x")).family == "qwen3"
    (table,) = tables(DOCS / f"recipe{language}.md")
    shown: dict[str, Any] = {}
    for keys, cell, _ in table[1:]:
        names = re.findall(r"`([^`]+)`", keys)
        if cell:
            section = names[0].partition(".")[0]
            full = [key if "." in key else f"{section}.{key}" for key in names]
            shown |= dict(zip(full, values(cell), strict=True))
    shapes = {key: shown.pop(key) for key in list(shown) if key.startswith("model.") and key not in expected}
    assert shown.keys() == expected.keys()
    wrong = {key: (shown[key], expected[key]) for key in expected if not same(shown[key], expected[key])}
    assert not wrong, f"(shown, default): {wrong}"
    family = defaults("model", FAMILIES["qwen3"].config)
    assert shapes and all(same(value, family[key]) for key, value in shapes.items())


@pytest.mark.parametrize("language", ["", ".zh-CN"], ids=["english", "chinese"])
def test_the_text_page_lists_every_key_with_its_default(language: str) -> None:
    (table,) = [table for table in tables(DOCS / f"text{language}.md") if table[0][0] in ("Key", "键")]
    shown = {
        key: value
        for keys, cell, _ in table[1:]
        for key, value in zip(re.findall(r"`([^`]+)`", keys), values(cell), strict=True)
    }
    assert shown == {name: field.default for name, field in TextConfig.model_fields.items()}


# What is printed


SHOWN = sorted(
    {
        (found[0], found[1])
        for page in PAGES
        for found in re.findall(r"^\$ (yuwen data show sample:zh-news .*)\n((?:  .*\n)+)", text(page), re.MULTILINE)
    }
)


assert SHOWN


@pytest.mark.parametrize(("command", "lines"), SHOWN, ids=[command for command, _ in SHOWN])
def test_objectives_make_of_text_what_is_shown(command: str, lines: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The lines are printed in this order; … stands for what a page leaves out, and whole lines may be left out too."""
    assert main.run(shlex.split(command)[1:]) == 0
    shown = [".*".join(re.escape(part) for part in line.split("…")) for line in lines.splitlines()]
    printed = capsys.readouterr().out
    assert re.search("(?:^.*\n)*?".join(f"^{line}$\n" for line in shown), printed, re.MULTILINE), printed


# Snippets


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_snippets_name_only_what_there_is(page: Path) -> None:
    code = "\n".join(body for language, body in FENCE.findall(text(page)) if language == "python")
    if not code:
        pytest.skip("no code on this page")
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", "F821", "-"],
        input=code,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("yuwen"):
            for alias in node.names:
                module = importlib.import_module(str(node.module))
                inner = importlib.util.find_spec(f"{node.module}.{alias.name}") if hasattr(module, "__path__") else None
                assert hasattr(module, alias.name) or inner, f"{node.module} has no {alias.name}"


# Twins


def skeleton(language: str, body: str) -> Any:
    """What a block of code is in any language: Python without its strings, commands without their texts."""
    if language == "python":
        tree = ast.parse(body)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                node.value = ""
        return ast.dump(tree)
    bare = re.sub(r"'[^']*'|\"[^\"]*\"|#.*", "", body)
    return re.findall(r"yuwen [a-z]+|(?<![\w-])--[a-z-]+|[a-z_.]+=|\w+\.(?:py|yaml)", bare)


@pytest.mark.parametrize("page", ENGLISH, ids=name)
def test_each_page_has_its_chinese_twin(page: Path) -> None:
    twin = chinese(page)
    assert f"[中文]({twin.name})" in text(page) and f"[English]({page.name})" in text(twin)
    depths = [re.findall(r"^(#+) ", prose(one), re.MULTILINE) for one in (page, twin)]
    assert depths[0] == depths[1], "headings"
    blocks = [[skeleton(*found) for found in FENCE.findall(text(one))] for one in (page, twin)]
    assert blocks[0] == blocks[1], "code blocks"
    rows = [[len(table) for table in tables(one)] for one in (page, twin)]
    assert rows[0] == rows[1], "rows of tables"
    for target in re.findall(r"\]\(((?!https:)[^)#]+\.md)", prose(twin).split("\n", 4)[-1]):
        assert ".zh-CN" in target or target == "CONTRIBUTING.md", f"{target} is English"


@pytest.mark.parametrize("drawn", sorted(DOCS.glob("*.svg")), ids=name)
def test_pictures_are_drawn_from_the_results(drawn: Path) -> None:
    result = json.loads(text(ROOT / "benchmarks/results" / f"{drawn.stem}.json"))
    assert picture(result) == text(drawn)
