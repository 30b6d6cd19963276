"""Settings of rotary positions that were stretched to longer texts, and how published files write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import Self

from yuwen.config import Config
from yuwen.errors import UserError
from yuwen.nn import LinearScaling, Llama3Scaling, YarnScaling


class RopeScaling(Config):
    """How frequencies change: `linear` (all divided by `factor`), `llama3` or `yarn` (slow ones only); see nn.position.

    `original_context` is the length the model was first trained on.
    """

    model_config = ConfigDict(strict=True)

    kind: Literal["linear", "llama3", "yarn"]
    factor: float = Field(ge=1, le=1e6)
    original_context: int | None = Field(default=None, gt=0, le=16_777_216)
    low_freq_factor: float | None = Field(default=None, gt=0, le=1e6)
    high_freq_factor: float | None = Field(default=None, gt=0, le=1e6)
    beta_fast: float | None = Field(default=None, gt=0, le=1e6)
    beta_slow: float | None = Field(default=None, gt=0, le=1e6)
    attention_factor: float | None = Field(default=None, gt=0, le=1e6)

    # What each kind reads beside `factor`, and what it takes where nothing is said; None: it must be said.
    READS: ClassVar[Mapping[str, Mapping[str, float | None]]] = {
        "linear": {},
        "llama3": {"original_context": None, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        "yarn": {"original_context": None, "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 0.0},
    }
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        "kind": "rope_type",
        "factor": "factor",
        "original_context": "original_max_position_embeddings",
        "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor",
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "attention_factor": "attention_factor",
    }

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        reads = cls.READS.get(str(values.get("kind"))) if isinstance(values, dict) else None
        if reads is None:  # the field's own check says so
            return values
        filled = {name: value for name, value in reads.items() if value and values.get(name) is None}
        return {**values, **filled}

    @model_validator(mode="after")
    def _only_its_own(self) -> Self:
        reads = self.READS[self.kind]
        for name in set(type(self).model_fields) - {"kind", "factor"}:
            if name not in reads and getattr(self, name) is not None:
                raise ValueError(f"{self.kind} scaling does not read {name}: leave it out")
        if "original_context" in reads and self.original_context is None:
            raise ValueError(f"{self.kind} scaling needs original_context, the length trained on before")
        for small, large in (("low_freq_factor", "high_freq_factor"), ("beta_slow", "beta_fast")):
            one, other = getattr(self, small), getattr(self, large)
            if one is not None and one >= other:
                raise ValueError(f"{small}={one} must be below {large}={other}")
        return self

    def build(self) -> LinearScaling | Llama3Scaling | YarnScaling:
        """The child of `nn.Rotary`."""
        if self.kind == "linear":
            return LinearScaling(self.factor)
        assert self.original_context is not None
        if self.kind == "llama3":
            assert self.low_freq_factor is not None and self.high_freq_factor is not None
            return Llama3Scaling(self.factor, self.original_context, self.low_freq_factor, self.high_freq_factor)
        assert self.beta_fast is not None and self.beta_slow is not None
        return YarnScaling(self.factor, self.original_context, self.beta_fast, self.beta_slow, self.attention_factor)


def published_rope(theta: float, scaling: RopeScaling | None) -> dict[str, Any]:
    """The object that a published config.json calls rope_parameters."""
    if scaling is None:
        return {"rope_type": "default", "rope_theta": theta}
    said = {theirs: getattr(scaling, ours) for ours, theirs in RopeScaling.PUBLISHED.items()}
    return {"rope_theta": theta, **{key: value for key, value in said.items() if value is not None}}


def read_rope(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Rewrites the published rotary settings, old spelling or new, to `rope_theta` and our own `rope_scaling`."""
    values = dict(values)
    merged = {**an_object(values, "rope_parameters", where), **old_spelling(values, where)}
    values.pop("rope_parameters", None)
    values.pop("rope_scaling", None)
    theta, scaling = one_rope(merged, values.get("max_position_embeddings"), where)
    return {**values, "rope_scaling": scaling, **({} if theta is None else {"rope_theta": theta})}


def one_rope(said: Mapping[str, Any], context: Any, where: str) -> tuple[Any, dict[str, Any] | None]:
    """(theta or None, our settings or None) of one object of rotary settings; `context` where it does not say its own.

    UserError for a kind or a setting that is not built here.
    """
    kind = said.get("rope_type") or said.get("type") or "default"
    taken = {ours: said[theirs] for ours, theirs in RopeScaling.PUBLISHED.items() if said.get(theirs) is not None}
    known = {*RopeScaling.PUBLISHED.values(), "type", "rope_theta"}
    odd = sorted(str(key) for key in set(said) - known if said[key] is not None)
    if said.get("partial_rotary_factor") == 1:
        odd.remove("partial_rotary_factor")
    if odd:
        raise UserError(f"{where}: rotary settings this version does not know: {', '.join(odd)}")
    if kind == "default":
        return said.get("rope_theta"), None
    if not isinstance(kind, str) or kind not in RopeScaling.READS:
        built = ", ".join(RopeScaling.READS)
        raise UserError(f"{where}: rotary positions scaled by {kind!r} are not supported (only {built})")
    if "original_context" in RopeScaling.READS[kind]:
        taken.setdefault("original_context", context)
    else:
        taken.pop("original_context", None)  # written along by some tools, read by none
    return said.get("rope_theta"), {**taken, "kind": kind}


def old_spelling(values: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """What `rope_scaling` says, its kind under the newer name: beside `rope_parameters` it must not be overlooked."""
    said = an_object(values, "rope_scaling", where)
    kind = said.get("rope_type") or said.get("type")
    return {**said, "rope_type": kind} if kind else said


def an_object(values: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """The settings under a key, none if it is absent. UserError for anything but an object."""
    said = values.get(key)
    if said is not None and not isinstance(said, Mapping):
        raise UserError(f"{where}: {key}={said!r} is not an object of settings")
    said = said or {}
    return {"rope_type": said["type"], **said} if "type" in said else said  # the old name of the kind
