"""The tokenizer every other part uses: ids, bytes, readable pieces, rendered chats."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Backend

from yuwen.errors import UserError
from yuwen.tokens import files, pieces
from yuwen.tokens.backend import between, described, twin, unknown_of
from yuwen.tokens.chat import Protector, Rendered, render_text
from yuwen.tokens.split import EACH_CHARACTER
from yuwen.tokens.stream import StreamDecoder
from yuwen.tokens.typed import TypedSpecials

_MOST_IDS = 1 << 24  # what a model can have; tables by id are made of this size
_KINDS = {"BPE": "bpe", "WordPiece": "wordpiece", "Unigram": "unigram", "WordLevel": "word"}


class Tokenizer:
    """A Hugging Face `tokenizers.Tokenizer` with the roles of its special tokens and its chat template."""

    def __init__(self, backend: Backend, settings: Mapping[str, Any]) -> None:
        """`settings` are those of tokenizer_config.json. The backend must cut and pad nothing."""
        self.size = pieces.size_of(backend)
        if self.size > _MOST_IDS:  # before to_str, which would write down every hole in such a vocabulary
            raise UserError(f"a tokenizer with an id of {self.size - 1:,}: no vocabulary is so large; get it anew")
        self._backend = backend
        self._backend.encode_special_tokens = True  # "<|endoftext|>" in a person's text stays text
        self._settings = dict(settings)
        self.kind = _KINDS[type(backend.model).__name__]
        split = (described(backend.pre_tokenizer) or {}).get("pattern")
        if self.kind == "word" and split == {"Regex": EACH_CHARACTER} and backend.normalizer is None:
            self.kind = "char"
        self.byte_level = '"ByteLevel"' in json.dumps(described(backend.decoder))  # pieces in GPT-2's letters for bytes
        added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(id for id, token in added.items() if token.special)
        self.chat_template: str | None = self._settings.get("chat_template")
        self.end_id = self._role("eos_token", "sep_token")
        self.start_id = self._role("bos_token", "cls_token")
        self.pad_id = self._role("pad_token")
        self.mask_id = self._role("mask_token")
        self.unknown_id = self._role("unk_token")
        if self.unknown_id is None:
            self.unknown_id = unknown_of(backend)
        self._typed = TypedSpecials(backend, self.size, self.special_ids, self.unknown_id)

    @functools.cached_property
    def cuts_at_lines(self) -> bool:
        """Whether a text may be cut before the first letter of a line, and its parts encoded apart, to the same ids.

        Not so where every text gets a prefix (LLaMA 2), where what follows an empty line decides how that is cut
        (GPT-2), or where a mark, the line's end and a slash behind it are one piece (GPT-4o).
        """
        lines = ["一二。\n", "ab cd.\n\n", "x;\n", "// y\n", "Ef"]
        whole, *parts = self.encode_batch(["".join(lines), *lines])
        return np.array_equal(whole, np.concatenate(parts))

    @classmethod
    def load(cls, folder: Path | str) -> Tokenizer:
        """Opens any folder with a tokenizer.json. Raises UserError when a file is missing or malformed."""
        return cls(*files.read_folder(Path(folder)))

    def save(self, folder: Path | str) -> None:
        """Writes tokenizer.json and tokenizer_config.json, which `transformers.AutoTokenizer` opens with equal ids."""
        files.write_folder(Path(folder), self._backend, self._settings)

    def described(self) -> dict[str, Any]:
        """What tokenizer.json says of it."""
        return json.loads(self._backend.to_str())

    def id_of(self, role: str) -> int | None:
        """Id of a special token by its role in tokenizer_config.json: `bos_token`, `pad_token` …"""
        return self._role(role)

    @functools.cached_property
    def between_ids(self) -> tuple[int, ...]:
        """Ids that tokenizer.json puts between two texts; none where it says nothing of two."""
        ids = map(self._backend.token_to_id, between(self._backend))
        return tuple(id for id in ids if id is not None)

    @functools.cached_property
    def adds_start(self) -> bool:
        """Whether a raw prompt begins with the start token: `add_bos_token`, else what tokenizer.json puts in front."""
        said = self._settings.get("add_bos_token")
        if said is None:
            said = self._backend.encode("", add_special_tokens=True).ids[:1] == [self.start_id]
        return bool(said) and self.start_id is not None

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of all that decides ids and rendering."""
        roles = {role: files.role_text(self._settings, role) for role in files.ROLES}
        described = json.loads(self._backend.to_str())
        if self.kind == "unigram":  # the library's reading of a score may move its last digit
            described["model"]["vocab"] = [[piece, round(score, 6)] for piece, score in described["model"]["vocab"]]
        content = json.dumps([described, roles, self.chat_template], sort_keys=True)
        return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def encode(self, text: str, specials: bool = False) -> list[int]:
        """Ids of a text; nothing is put around it. `specials` also reads special tokens from its text."""
        if specials:
            return self._encodings(self._with_specials, [text])[0].ids
        return self.encode_batch([text])[0].tolist()

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids (int32) of each text, as `encode` gives them, on all cores."""
        if self.kind == "char":
            _check_texts(texts)
            return [self._code_points(text) for text in texts]
        encodings = self._encodings(self._backend, texts)
        return [self._typed.spelled(np.array(encoding.ids, np.int32))[0] for encoding in encodings]

    def encode_bytes(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids (int32), and how many of the text's UTF-8 bytes each accounts for (int32): every byte once.

        White space that a kind drops counts for the token that follows, at the end of the text for the last one. A
        text without a single token (white space alone, in such a kind) gives two empty arrays.
        """
        if self.kind == "char" or self.byte_level:
            ids = self.encode_batch([text])[0]
            counts = _utf8_lengths(text) if self.kind == "char" else self._byte_counts[ids]
            if (
                counts.sum() == _utf8_lengths(text).sum()
            ):  # not if a published tokenizer normalises, or strips around a token
                return ids, counts
        encoding = self._encoding(self._backend, text)
        ids, whole = self._typed.spelled(np.array(encoding.ids, np.int32))
        if not len(ids):
            return np.empty(0, np.int32), np.empty(0, np.int32)
        ends = np.array([end for _, end in encoding.offsets], np.int64)[whole]
        ends[-1] = len(text)
        positions = np.concatenate([[0], np.cumsum(_utf8_lengths(text))])
        counts = np.diff(positions[np.maximum.accumulate(ends)], prepend=0)
        return ids, counts.astype(np.int32)

    def decode(self, ids: Sequence[int] | np.ndarray, skip_special: bool = True) -> str:
        """Text of ids; bytes that are no whole character become U+FFFD."""
        numbers = [int(id) for id in ids]
        with _refusals():
            return self._backend.decode(numbers, skip_special_tokens=skip_special)

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Each id as a person reads it: `" the"`, `"中国"`; bytes of an unfinished character as ⟨E4⟩."""
        return [pieces.readable(self.token_bytes(int(id))) for id in ids]

    def stream(self, skip_special: bool = True) -> StreamDecoder:
        """A decoder for ids that arrive one at a time."""
        return StreamDecoder(self, skip_special)

    def token_bytes(self, id: int) -> bytes:
        """UTF-8 bytes that an id stands for; none for an id outside the vocabulary."""
        return self._table[id] if 0 <= id < self.size else b""

    def flags(self) -> np.ndarray:
        """uint8 by id: bit 0 (1) the piece starts a word, bit 1 (2) it ends a sentence."""
        return pieces.flags(self._table, self.special_ids, cuts_words=self.kind in ("wordpiece", "word"))

    def render(self, messages: Sequence[Mapping[str, Any]], *, generate: bool = False) -> Rendered:
        """Ids and loss mask of a conversation by the chat template; `generate` ends where the assistant speaks next.

        The mask is 1 on what the assistant wrote and on the token that ends its turn. Special-token text within a
        message stays text. Raises UserError without a template, or when it cannot render these messages.
        """
        if self.chat_template is None:
            raise UserError("this tokenizer has no chat template: generate from plain text, or add chat_template")
        variables = {role: files.role_text(self._settings, role) or "" for role in files.ROLES}
        protector = Protector(token for token in map(self._backend.id_to_token, self.special_ids) if token)
        text, spans = render_text(self.chat_template, protector.hide(messages), variables, generate, spans=not generate)
        ids: list[int] = []
        mask: list[int] = []
        spans = [(start, self._turn_end(text, start, end)) for start, end in spans]
        for part, place, typed in protector.parts(text):
            if typed:
                found = self.encode(part)
                starts = [place] * len(found)
            else:
                encoding = self._encoding(self._with_specials, part)
                found, starts = encoding.ids, [place + start for start, _ in encoding.offsets]
            ids += found
            mask += [int(any(first <= start < last for first, last in spans)) for start in starts]
        return Rendered(np.array(ids, np.int32), np.array(mask, np.uint8))

    @functools.cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a text: the end token, and the one that ends an assistant's turn in the chat template."""
        ids = {self.end_id} if self.end_id is not None else set()
        if self.chat_template is not None:
            try:
                rendered = self.render([{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}])
            except UserError:  # a template with demands of its own
                return frozenset(ids)
            written = rendered.ids[rendered.mask == 1]
            ids |= {int(written[-1])} & self.special_ids if len(written) else set()
        return frozenset(ids)

    def _turn_end(self, text: str, start: int, end: int) -> int:
        """Where a turn ends: white space behind its end token is the template's, not the assistant's."""
        stripped = text[start:end].rstrip()
        special = any(stripped.endswith(self._backend.id_to_token(id) or "\0") for id in self.special_ids)
        return start + len(stripped) if special else end

    def _role(self, *roles: str) -> int | None:
        for role in roles:
            token = files.role_text(self._settings, role)
            if token is not None:
                return self._backend.token_to_id(token)
        return None

    def _encodings(self, backend: Backend, texts: Sequence[str]) -> list[Any]:
        """Without offsets into the text, and so faster than `_encoding`."""
        with _refusals(texts):
            return backend.encode_batch_fast(list(texts), add_special_tokens=False)

    def _encoding(self, backend: Backend, text: str) -> Any:
        with _refusals([text]):
            return backend.encode(text, add_special_tokens=False)

    @functools.cached_property
    def _with_specials(self) -> Backend:
        """The same tokenizer, which reads special tokens from text; apart, so that threads do not flip a switch."""
        return twin(self._backend)

    @functools.cached_property
    def _table(self) -> list[bytes]:
        return pieces.vocabulary_bytes(self._backend, self.byte_level)

    @functools.cached_property
    def _byte_counts(self) -> np.ndarray:
        return np.array([len(piece) for piece in self._table], np.int32)

    @functools.cached_property
    def _id_of_code_point(self) -> np.ndarray:
        """The char kind's vocabulary as one table; its last entry stands for every character above."""
        vocabulary = self._backend.get_vocab(with_added_tokens=False)
        own = ((token, id) for token, id in vocabulary.items() if id not in self.special_ids)
        characters = {ord(token): id for token, id in own if len(token) == 1}
        table = np.full(max(characters) + 2, self.unknown_id, np.int32)
        table[list(characters)] = list(characters.values())
        return table

    def _code_points(self, text: str) -> np.ndarray:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        return self._id_of_code_point[np.minimum(codes, len(self._id_of_code_point) - 1)]


@contextmanager
def _refusals(texts: Iterable[object] = ()) -> Iterator[None]:
    """What the tokenizers library cannot do, as a UserError: half a character, which JSON can spell and Python keep
    (\\ud800) but UTF-8 cannot; what is no text; and settings that it takes when loading and panics over later."""
    try:
        yield
    except (UnicodeEncodeError, TypeError):
        _check_texts(texts)
        raise UserError(
            "a text holds half of a surrogate pair (\\ud800…\\udfff), which is no character: clean the data"
        ) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's own, which no module exports
            raise
        raise UserError(
            f"the tokenizer's settings are damaged: its library gives up ({error})".splitlines()[0]
        ) from None


def _check_texts(texts: Iterable[object]) -> None:
    """UserError for what is no text."""
    for text in texts:
        if not isinstance(text, str):
            raise UserError(f"a text to encode is a {type(text).__name__}, not a string: give a string") from None


def _utf8_lengths(text: str) -> np.ndarray:
    """UTF-8 bytes of each character (int32)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return (1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)).astype(np.int32)
