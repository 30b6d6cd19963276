"""Text that a JSON schema allows: at every step the tokens that would leave its grammar lose their chance.

    scores_v <- scores_v  where token v can continue a text of the schema,  -infinity elsewhere

The grammar is llguidance's. Texts have the layout of `json.dumps`: `{"a": 1, "b": [2, 3]}`.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits

from yuwen.errors import UserError
from yuwen.generation.schema import LAYOUT, check
from yuwen.generation.spelling import Spelling, apart, spelling_of
from yuwen.tokens import Tokenizer


class Constraint:
    """A JSON schema, ready for a vocabulary: `generate(…, constraint=Constraint(schema, tokenizer))`.

    One constraint serves any number of rows and calls. Raises UserError for a schema that no text can be held to, with
    the place in it, beginning with `where`.
    """

    def __init__(self, schema: Mapping[str, Any], tokenizer: Tokenizer, *, where: str = "schema") -> None:
        check(schema, where)
        self._spelling = spelling_of(tokenizer)
        # Where the grammar leaves one text only, the tokenizer's own ids for it are forced, if it can spell every text.
        options = json.dumps({"no_forcing": not self._spelling.complete})
        laid_out = json.dumps({**schema, "x-guidance": LAYOUT})
        grammar = LLMatcher.grammar_from_lark(f"%llguidance {options}\nstart: %json {laid_out}\n")
        limits = LLParserLimits(verbose_errors=False)
        self._start = LLMatcher(self._spelling.vocabulary, grammar, log_level=0, limits=limits)
        self.size = self._spelling.size  # ids of the vocabulary

    def guide(self, end_ids: Sequence[int]) -> Guide:
        """The state of one row, at the beginning of its text."""
        return Guide(self._spelling, self._start.deep_copy(), end_ids)


class Guide:
    """Where one row stands in the grammar: which ids may come next, and the text that those taken have made.

    The text is what the grammar has read: the tokenizer's own decoding wherever pieces simply follow each other.
    """

    def __init__(self, spelling: Spelling, matcher: LLMatcher, end_ids: Sequence[int]) -> None:
        self._spelling, self._matcher = spelling, matcher
        self._end_ids = [id for id in end_ids if 0 <= id < spelling.size]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._forms = np.zeros(0, bool)  # which forms the grammar allowed last
        self._last = ""  # the end of the text, to be quoted
        self.complete = False  # the text is whole, and nothing can be added

    def allowed(self) -> np.ndarray:
        """Boolean [V]: the ids that may come next. UserError when no token of this vocabulary can go on."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        spelling = self._spelling
        self._forms = np.unpackbits(mask, bitorder="little", count=spelling.end + 1).astype(bool)
        allowed = self._forms[: spelling.size].copy()
        if spelling.spaced:
            allowed |= self._forms[spelling.size : spelling.end]
        allowed[self._end_ids] = self._forms[spelling.end]
        if not self._matcher.is_error() and allowed.any():
            return allowed
        reason = self._matcher.get_error().removesuffix("<non-verbose/>").strip()
        if reason in ("", "NoExtensionBias"):
            raise UserError(f"this vocabulary cannot spell what the schema asks for after {self._last!r}")
        raise UserError(f"the schema cannot be followed after {self._last!r}: {reason}")

    def feed(self, id: int) -> str:
        """Takes one of the allowed ids, no end; the text that becomes certain with it, in whole characters."""
        form = self._form(id)
        if not self._matcher.consume_token(form):
            raise ValueError(f"id {id} is not one of those allowed")
        self.complete = self._matcher.is_stopped()
        text = self._decoder.decode(self._spelling.forms[form])
        self._last = (self._last + text)[-60:]
        return text

    def flush(self) -> str:
        """What is left at the end: an unfinished character comes out as U+FFFD."""
        return self._decoder.decode(b"", final=True)

    def _form(self, id: int) -> int:
        """With or without a space in front: as the grammar allows, and where it allows both, as text is written."""
        spelling = self._spelling
        spaced = spelling.size + id
        if not spelling.spaced or not self._forms[spaced]:
            return id
        if not self._forms[id]:
            return spaced
        return spaced if apart(self._last[-1:], spelling.forms[id].decode("utf-8", "replace")) else id
