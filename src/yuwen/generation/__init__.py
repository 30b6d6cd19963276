"""Tokens out: one loop for decoders and encoder–decoders, samplers as small functions, text that streams.

prompt     the user's words → ids, with the chat template or without, or as a source
decoding   model + cache: ids of a batch → scores of each row's next token
beam       scores → the likeliest whole text, several beginnings at a time
sampling   scores → the next token
constrained, schema, spelling   text that a JSON schema allows: the grammar, its faults, the bytes of each id
stop       text that never shows a stop string, nor a part of one
generate   the loop that joins them: `stream` and `generate`
"""

from __future__ import annotations

from yuwen.generation.generate import Generation, Piece, check_prompt, generate, stream
from yuwen.generation.prompt import end_ids, is_chat, prompt_ids, search_wanted, source_ids
from yuwen.generation.sampling import SamplingConfig

__all__ = [
    "Generation",
    "Piece",
    "SamplingConfig",
    "check_prompt",
    "end_ids",
    "generate",
    "is_chat",
    "prompt_ids",
    "search_wanted",
    "source_ids",
    "stream",
]
