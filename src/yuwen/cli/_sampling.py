"""The options of sampling, the same on every verb that draws text."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from yuwen.cli._output import note
from yuwen.errors import UserError


def _option(name: str, help: str) -> Any:
    return typer.Option(name, help=help, show_default=False)


MaxTokens = Annotated[int | None, _option("--max-tokens", "New tokens at most (256).")]
Greedy = Annotated[bool, typer.Option("--greedy", help="Always take the likeliest token.")]
Temperature = Annotated[
    float | None, _option("--temperature", "Below 1 sharper, above 1 flatter (0.8; of encoder–decoders 0).")
]
TopK = Annotated[int | None, _option("--top-k", "Draw from the K likeliest tokens (off).")]
TopP = Annotated[float | None, _option("--top-p", "Draw from the likeliest tokens that make up P (0.95).")]
MinP = Annotated[float | None, _option("--min-p", "Draw from tokens at least P times as likely as the first (off).")]
RepetitionPenalty = Annotated[
    float | None, _option("--repetition-penalty", "Above 1, tokens seen before are less likely (off).")
]
Stop = Annotated[list[str] | None, _option("--stop", "End before this text; may be given several times.")]
Beams = Annotated[int | None, _option("--beams", "Search for the likeliest text, with so many at a time (off).")]
LengthPenalty = Annotated[
    float | None, _option("--length-penalty", "Of --beams: the higher, the longer the text (0.6).")
]
Seed = Annotated[int | None, _option("--seed", "Another seed, another text (0).")]


def note_search_wanted(loaded: Any, beams: int | None) -> None:
    """Says what the model's folder wants of a search and the command line does not ask for."""
    wanted = {key: value for key, value in loaded.search_wanted.items() if key != "num_beams" or value != beams}
    if wanted:
        said = ", ".join(f"{key}={value}" for key, value in wanted.items())
        more = f"; --beams {wanted['num_beams']} searches as widely" if "num_beams" in wanted else ""
        note(f"{loaded.path}: not taken over from its settings: {said}{more}")


def sampling_config(greedy: bool, **given: Any) -> Any:
    """The SamplingConfig of the options that were given (the others are None). UserError for one that means nothing."""
    from yuwen.generation.sampling import GREEDY_IGNORES, SamplingConfig

    values = {key: value for key, value in given.items() if value is not None and value != []}
    if greedy:
        if "beams" in values:
            raise UserError("--beams searches further than --greedy does: leave one of them out")
        ignored = sorted(f"--{key.replace('_', '-')}" for key in values.keys() & {"temperature", *GREEDY_IGNORES})
        if ignored:
            raise UserError(f"--greedy would ignore {', '.join(ignored)}: leave one of them out")
        values["temperature"] = 0.0
    return SamplingConfig.parse("", values)
