"""Prompts: Jinja templates in both languages, to be seen, edited and replaced.

    yuwen apply classify --show-prompt --language zh > mine.j2
    yuwen apply classify MODEL --prompt mine.j2 --labels 正面,负面 …

They are rendered in the sandbox, what they name must exist, and a text is inserted as it is, never interpreted.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from yuwen.errors import UserError
from yuwen.tasks.language import LANGUAGES, known, language_of

VARIABLES: dict[str, tuple[str, ...]] = {
    "classify": ("text", "labels", "examples", "label"),
    "label": ("label",),
    "tag": ("text", "label", "labels", "examples"),
    "answer": ("text", "question"),
    "translate": ("text", "source", "target"),
    "summarise": ("text",),
    "extract": ("text", "schema"),
}
"""The prompts there are, and what each may name. Where `classify` says `label`, its answer stands."""

_SLOT = secrets.token_hex(16)  # no text can hold it


@dataclass(frozen=True)
class Prompt:
    """A template for each language; a replaced one serves both."""

    task: str
    names: Mapping[str, str]
    sources: Mapping[str, str]

    @classmethod
    def of(cls, task: str, path: str | Path | None = None) -> Prompt:
        """The task's own prompt, or the one in the file. UserError for a file that is no such template."""
        if path is None:
            names = {language: f"{task}.{language}.j2" for language in LANGUAGES}
            return cls(task, names, {language: _packaged(name) for language, name in names.items()})
        try:
            source = Path(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{path}: not UTF-8: save the prompt as UTF-8") from None
        _compiled(source, str(path))
        return cls(task, dict.fromkeys(LANGUAGES, str(path)), dict.fromkeys(LANGUAGES, source))

    def render(self, language: str, **values: Any) -> str:
        """The prompt's text. UserError names the template's mistake."""
        name = self.names[language]
        try:
            return _compiled(self.sources[language], name).render(**values)
        except jinja2.UndefinedError as error:
            raise UserError(f"{name}: {error}: the prompt may name {', '.join(VARIABLES[self.task])}") from None
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
            raise UserError(f"{name}: the prompt cannot be rendered: {error}") from None

    def up_to(self, slot: str, language: str, **values: Any) -> str:
        """The prompt's text up to the place of `slot`, where the model answers. UserError if it has no such place."""
        before, found, _ = self.render(language, **values, **{slot: _SLOT}).partition(_SLOT)
        if not found:
            raise UserError(f"{self.names[language]}: no {{{{ {slot} }}}} in the prompt: say where the answer stands")
        return before


def language_for(text: str, language: str | None) -> str:
    """The language of a prompt: as told, or by the script of the text."""
    return known(language) or language_of(text)


def shown(task: str, language: str | None = None) -> str:
    """The template's source, of one language or of both. UserError for a task without a prompt."""
    if task not in VARIABLES:
        raise UserError(f"{task} has no prompt: the text goes to the model as it is")
    prompt = Prompt.of(task)
    if known(language) is not None:
        return prompt.sources[str(language)]
    return "\n".join(f"{{# {prompt.names[name]} #}}\n{prompt.sources[name]}" for name in LANGUAGES)


def _packaged(name: str) -> str:
    return (resources.files("yuwen.tasks") / "prompts" / name).read_text(encoding="utf-8")


@functools.lru_cache(maxsize=32)
def _compiled(source: str, name: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False
    )
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"{name}:{error.lineno}: {error.message}") from None
