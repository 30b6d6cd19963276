"""Documents → clean documents: one form for what looks the same, nothing that is no text, no junk.

The defaults are gentle: a good document passes byte for byte, but for its line ends, control characters, odd spaces,
and the Unicode form NFC.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from functools import cached_property
from importlib import metadata
from typing import Any, Literal

import pydantic

from yuwen.config import Config
from yuwen.errors import UserError
from yuwen.text import filters
from yuwen.text.document import Document

_BREAKS = "\r\x0b\x0c\x85\u2028\u2029"
_SPACES = "\xa0\u1680\u202f\u205f" + "".join(map(chr, range(0x2000, 0x200B)))
# C0 and C1 but tab and the breaks; soft hyphen, zero-width space, word joiner, byte order mark. The joiners U+200C and
# U+200D stay: emoji and several scripts need them.
_CONTROL = "".join(map(chr, [*range(0x00, 0x09), *range(0x0E, 0x20), *range(0x7F, 0x85), *range(0x86, 0xA0)]))
_CONTROL += "\xad\u200b\u2060\ufeff"
_FILTERS = {
    "symbols": filters.symbols,
    "repeated_lines": filters.repeated_lines,
    "repeated_characters": filters.repeated_characters,
}
_LONG = 1 << 12
_BODY = re.compile(r"<(?:body|html)\b", re.IGNORECASE)
_TAG = re.compile(r"<(?:!|/?[a-zA-Z])")
_INDENT = re.compile(r"[ \t\u3000]{2,}|[\t\u3000]")
_EDGES = re.compile(r" +(?=\n)|(?<=\n) +")
_GAPS = re.compile(r"\n{3,}")


class TextConfig(Config):
    """How text is cleaned. Shares lie between 0 and 1; None leaves a filter out."""

    normalise: Literal["none", "nfc", "nfkc"] = "nfc"  # nfkc also makes full-width forms plain: １９９８ → 1998
    control: bool = True  # remove control and invisible characters
    whitespace: Literal["keep", "tidy", "collapse"] = "tidy"  # tidy: all line ends \n, all odd spaces plain ones
    html: bool = False  # keep the readable text of HTML
    simplify: bool = False  # Traditional Chinese to Simplified
    minimum_characters: int = pydantic.Field(default=1, ge=0)
    maximum_characters: int | None = pydantic.Field(default=None, ge=1)
    maximum_symbols: float | None = pydantic.Field(default=None, ge=0, le=1)
    maximum_repeated_lines: float | None = pydantic.Field(default=None, ge=0, le=1)
    maximum_repeated_characters: float | None = pydantic.Field(default=None, ge=0, le=1)

    @property
    def identity(self) -> dict[str, Any]:
        """What cleaned text depends on: the settings, and the versions of the packages that two of them ask."""
        asked = {"trafilatura": self.html, "opencc": self.simplify}
        return {**self.model_dump(mode="json"), **{name: _version(name) for name, used in asked.items() if used}}


def _version(package: str) -> str | None:
    """None of a package that is not installed: the cleaner says so."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


class Cleaner:
    """Cleans documents one by one; `reasons` counts why documents were dropped.

    Every document is judged by itself, a part of a long file too, so that any process may clean any of them.
    """

    def __init__(self, config: TextConfig | None = None) -> None:
        self.config = config or TextConfig()
        self.reasons: Counter[str] = Counter()
        self._table = self._replacements()
        odd = "".join(self._table)
        self._odd = re.compile(f"[{re.escape(odd)}]") if odd else None
        self._odd_ascii = bytes(ord(character) for character in odd if character.isascii())
        self._form: Any = self.config.normalise.upper()
        limits = {name: getattr(self.config, f"maximum_{name}") for name in _FILTERS}
        self._filters = [(name, _FILTERS[name], most) for name, most in limits.items() if most is not None]

    def clean(self, document: Document) -> Document | None:
        """The document with its text cleaned (itself, if nothing was to do); None if it is dropped."""
        text = self.text(document.text, last=document.closing != "none")
        reason = self._reason(text)
        if reason is not None:
            self.reasons[reason] += 1
            return None
        if text is document.text:
            return document
        return Document(text, document.source, document.line, document.closing, document.fields)

    def text(self, text: str, last: bool = True) -> str:
        """Cleans a text. `last`: nothing follows it, so its end may be trimmed (only whitespace="collapse" does)."""
        if self.config.html:
            text = self._readable(text)
        text = self._normalise(self._replace(text))
        if self.config.simplify and not text.isascii():
            text = self._opencc.convert(text)
        if self.config.whitespace == "collapse":
            text = _GAPS.sub("\n\n", _EDGES.sub("", _INDENT.sub(" ", text))).lstrip()
            text = text.rstrip() if last else text
        return text

    def _replacements(self) -> dict[str, str]:
        table = dict.fromkeys(_CONTROL, "") if self.config.control else {}
        if self.config.whitespace != "keep":
            table |= {**dict.fromkeys(_BREAKS, "\n"), **dict.fromkeys(_SPACES, " ")}
        return table

    def _replace(self, text: str) -> str:
        """Finding nothing is the common case, and must cost little: for ASCII a byte table does it."""
        if self._odd is None:
            return text
        if text.isascii():
            if len(text.encode().translate(None, self._odd_ascii)) == len(text):
                return text
        elif self._odd.search(text) is None:
            return text
        if self.config.whitespace != "keep":
            text = text.replace("\r\n", "\n")
        return self._odd.sub(lambda match: self._table[match[0]], text)

    def _normalise(self, text: str) -> str:
        """A long text line by line: nothing composes across a line break, and most lines are in order already."""
        if self._form == "NONE" or text.isascii():
            return text
        if len(text) < _LONG:
            return text if unicodedata.is_normalized(self._form, text) else unicodedata.normalize(self._form, text)
        lines, changed = text.split("\n"), False
        for number, line in enumerate(lines):
            if not line.isascii() and not unicodedata.is_normalized(self._form, line):
                lines[number], changed = unicodedata.normalize(self._form, line), True
        return "\n".join(lines) if changed else text

    def _readable(self, text: str) -> str:
        if _TAG.search(text) is None:
            return html.unescape(text)
        if _BODY.search(text) is None:  # a fragment, in which trafilatura would see no page
            text = f"<html><body>{text}</body></html>"
        extract, everything = self._trafilatura
        return extract(text, favor_recall=True, include_comments=False) or everything(text)

    def _reason(self, text: str) -> str | None:
        config = self.config
        if not text or text.isspace():
            return "empty" if config.minimum_characters else None
        if len(text) < config.minimum_characters:
            return "too short"
        if config.maximum_characters is not None and len(text) > config.maximum_characters:
            return "too long"
        for name, share, most in self._filters:
            if share(text) > most:
                return f"too many {name.replace('_', ' ')}"
        return None

    @cached_property
    def _opencc(self) -> Any:
        try:
            import opencc
        except ImportError:
            raise UserError(
                "data.text.simplify needs a package that is not installed; pip install 'yuwen[data]'"
            ) from None
        return opencc.OpenCC("t2s")

    @cached_property
    def _trafilatura(self) -> Any:
        try:
            import trafilatura
        except ImportError:
            raise UserError("data.text.html needs a package that is not installed; pip install 'yuwen[data]'") from None
        return trafilatura.extract, trafilatura.html2txt
