"""The number formats of a GGUF file: how many weights share a block, and how many bytes a block takes."""

from __future__ import annotations

from dataclasses import dataclass

from yuwen.errors import UserError


@dataclass(frozen=True, slots=True)
class Type:
    """A format: `weights` in a row share one block of `bytes` bytes."""

    name: str
    weights: int
    bytes: int

    @property
    def is_float(self) -> bool:
        return self.weights == 1

    def size(self, weights: int) -> int:
        """Bytes of that many weights, a multiple of the block."""
        return weights // self.weights * self.bytes


# By their number in the file (ggml.h, `enum ggml_type`).
TYPES: dict[int, Type] = {
    0: Type("F32", 1, 4),
    1: Type("F16", 1, 2),
    2: Type("Q4_0", 32, 18),
    3: Type("Q4_1", 32, 20),
    6: Type("Q5_0", 32, 22),
    7: Type("Q5_1", 32, 24),
    8: Type("Q8_0", 32, 34),
    10: Type("Q2_K", 256, 84),
    11: Type("Q3_K", 256, 110),
    12: Type("Q4_K", 256, 144),
    13: Type("Q5_K", 256, 176),
    14: Type("Q6_K", 256, 210),
    20: Type("IQ4_NL", 32, 18),
    30: Type("BF16", 1, 2),
}


def type_named(name: str) -> Type:
    """The format of that name."""
    return next(type for type in TYPES.values() if type.name == name)


def type_of(number: int, name: str) -> Type:
    """The format with that number. UserError names the weight whose format is none of ours."""
    if number in TYPES:
        return TYPES[number]
    from gguf.constants import GGMLQuantizationType

    known = {kind.value: kind.name for kind in GGMLQuantizationType}
    kind = known.get(number, f"number {number}")
    usable = ", ".join(type.name for type in TYPES.values())
    raise UserError(f"weight {name} is of type {kind}, which cannot be loaded: take a file of {usable}")
