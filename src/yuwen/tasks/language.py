"""Which of the two languages a text is written in, told by its script."""

from __future__ import annotations

import re

from yuwen.errors import UserError

LANGUAGES = ("zh", "en")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")

NAMES = {"zh": {"zh": "中文", "en": "英文"}, "en": {"zh": "Chinese", "en": "English"}}
"""What a prompt in one language calls the other."""

_CODES = {name.lower(): code for names in NAMES.values() for code, name in names.items()}
_CODES |= {code: code for code in LANGUAGES}


def language_of(text: str) -> str:
    """ "zh" or "en": a Chinese character says about as much as three letters. Neither script counts as English."""
    han = len(_HAN.findall(text))
    return "zh" if han and 3 * han >= len(_LATIN.findall(text)) else "en"


def known(language: str | None) -> str | None:
    """The language as given, or None. UserError unless prompts exist in it."""
    if language is not None and language not in LANGUAGES:
        raise UserError(f"language={language!r}: prompts are written in {' and '.join(LANGUAGES)}; name one of them")
    return language


def code(language: str | None) -> str | None:
    """zh or en for these two, however they are called; another language, and None, as it was given."""
    return None if language is None else _CODES.get(language.lower(), language)


def named(language: str, within: str) -> str:
    """The name of a language in a prompt written in `within`; another one's stands as it was given."""
    return NAMES[within].get(language, language)
