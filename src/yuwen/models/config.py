"""What every family's settings share, and how they meet the published `config.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from typing_extensions import Self

from yuwen.config import Config
from yuwen.errors import UserError

# How a model reads: on from left to right, from both sides, in any order, or one text (both sides) to write another.
Reads = Literal["forwards", "both", "permuted", "pairs"]


class ModelConfig(Config):
    """What any model is asked for, counts and recurrences included, and how its settings are published.

    `vocabulary` comes from the tokenizer when a recipe leaves it out; `context` is the longest text it reads at once.
    `PUBLISHED` maps our names to the keys of the family's `config.json`, of which `REQUIRED` must be there and those
    in `MOVED`, on which no weight depends, may stand in `generation_config.json` instead; `CONSTANT`
    holds keys whose other values would be another architecture; `HARMLESS` names keys that do not change what the
    weights compute. Any other key is refused: nothing is silently ignored. `BODY` is the first part of published weight
    names, which files of a body without a head may leave out. `CARRIES`: the model's cache keeps one size however much
    it has read, so that a text has no longest length and is read in pieces. `COUNTS`: it is made by counting, not by
    steps of an optimiser.
    """

    # strict: a width of "48" or 48.0 would pass as a number but not as a shape
    model_config = ConfigDict(strict=True)

    vocabulary: int = Field(gt=0, le=16_777_216)
    context: int = Field(default=1024, gt=0, le=16_777_216)

    READS: ClassVar[Reads] = "forwards"
    ARCHITECTURE: ClassVar[str]
    MODEL_TYPE: ClassVar[str]
    PUBLISHED: ClassVar[Mapping[str, str]]
    CONSTANT: ClassVar[Mapping[str, Any]] = {}
    HARMLESS: ClassVar[frozenset[str]] = frozenset()
    REQUIRED: ClassVar[tuple[str, ...]] = ("vocabulary",)
    MOVED: ClassVar[frozenset[str]] = frozenset()
    BODY: ClassVar[str] = "model"
    CARRIES: ClassVar[bool] = False
    COUNTS: ClassVar[bool] = False

    @property
    def reads(self) -> Reads:
        """How a model of these settings reads."""
        return self.READS

    @classmethod
    def model_types(cls) -> tuple[str, ...]:
        """The published names of the architecture; ours stands first."""
        return (cls.MODEL_TYPE,)

    @classmethod
    def architectures(cls) -> tuple[str, ...]:
        """The published classes that can be read."""
        return (cls.ARCHITECTURE,)

    @property
    def architecture(self) -> str:
        """The published class that these settings build."""
        return self.ARCHITECTURE

    @property
    def copies(self) -> Mapping[str, str]:
        """Published names under which files may repeat one of our weights, and our name of it."""
        return {}

    def kept(self, length: int) -> int:
        """Numbers that the backward pass keeps of each position of a text of that length, roughly."""
        raise NotImplementedError

    def as_stored(self, names: Iterable[str]) -> Self:
        """These settings, with what only a checkpoint's published weight names can tell."""
        return self

    def published(self) -> dict[str, Any]:
        """The same settings as the family's `config.json`."""
        values = {theirs: getattr(self, ours) for ours, theirs in self.PUBLISHED.items()}
        return {"architectures": [self.architecture], "model_type": self.MODEL_TYPE, **self.CONSTANT, **values}

    @classmethod
    def from_published(cls, values: Mapping[str, Any], where: str) -> Self:
        """Settings from a `config.json` read at `where`. UserError for a key that asks for something not built here."""
        for ours in cls.REQUIRED:
            if values.get(cls.PUBLISHED[ours]) is None:
                raise UserError(
                    f"{where}: no {cls.PUBLISHED[ours]}: not the complete config.json of a {cls.MODEL_TYPE}"
                )
        taken = {ours: values[theirs] for ours, theirs in cls.PUBLISHED.items() if values.get(theirs) is not None}
        for key, constant in cls.CONSTANT.items():
            if key in values and values[key] is not None and values[key] != constant:
                raise UserError(
                    f"{where}: {key}={values[key]!r} is not supported for {cls.MODEL_TYPE} (only {constant!r})"
                )
        known = set(cls.PUBLISHED.values()) | set(cls.CONSTANT) | cls.HARMLESS | EVERYWHERE
        unknown = sorted(k for k in set(values) - known if not k.startswith("_") and values[k] not in (None, False))
        if unknown:
            raise UserError(f"{where}: {cls.MODEL_TYPE} settings this version does not know: {', '.join(unknown)}")
        return cls.parse(f"{where}: model", taken)


class AttentionConfig(ModelConfig):
    """Shape of a model of attention layers; `tied` shares embedding and head.

    Widths are in units of the residual stream's coordinates.
    """

    layers: int = Field(default=6, gt=0, le=1024)
    width: int = Field(default=384, gt=0, le=1_048_576)
    heads: int = Field(default=6, gt=0, le=4096)
    ffn: int = Field(default=0, ge=0, le=16_777_216, description="0: the family's own multiple of the width")
    tied: bool = True

    REQUIRED: ClassVar[tuple[str, ...]] = ("vocabulary", "context", "layers", "width", "heads")

    @property
    def copies(self) -> Mapping[str, str]:
        return {"lm_head.weight": "embedding.weight"} if self.tied else {}

    def kept(self, length: int) -> int:
        """In each layer 16 vectors of the residual width, 4 of the feed-forward's, and a row of scores per head, of
        which strips skip 3/8; a long row only where it is dropped out (`nn.kernels`)."""
        seen = length if getattr(self, "dropout", 0.0) else min(length, 1024)
        scores = self.heads * seen * 5 // 8 * 2
        return self.layers * (16 * self.width + 4 * self.ffn + scores)


# Keys of any published config.json that say nothing about what the weights compute.
EVERYWHERE = frozenset(
    [
        "architectures",
        "model_type",
        "torch_dtype",
        "dtype",
        "transformers_version",
        "use_cache",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "initializer_range",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "name_or_path",
        "id2label",
        "label2id",
        "problem_type",
        "chunk_size_feed_forward",
        "is_encoder_decoder",
        "yuwen",
    ]
)


def divides(heads: int, kv_heads: int, width: int, head_width: int | None) -> None:
    """Raises ValueError (one line) for a shape that attention cannot have."""
    if heads % kv_heads:
        raise ValueError(f"heads={heads} must be a multiple of kv_heads={kv_heads}")
    if head_width is None and width % heads:
        raise ValueError(f"width={width} must be a multiple of heads={heads}")


def gated_hidden(width: int) -> int:
    """Width of a gated feed-forward that has the parameters of a plain one of 4 x width, rounded up to 64."""
    return -(-8 * width // 3 // 64) * 64
