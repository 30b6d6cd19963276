"""Downstream use with no training: each task is `task(loaded, inputs, **settings) -> Iterator[dict]`.

complete chat translate summarise    a decoder writes                            write
extract                              … within a JSON schema                      extract
classify                             label log-likelihoods, or class centroids   classify, calibrate, centroids
                                     … or the head a model was trained with      trained
tag answer                           a decoder copies out of the text            tag, answer, copying
embed similar                        pooled token states, cosines                embed, similar
fill                                 masked words                                fill

Inputs are strings or documents (`files.read_inputs`); results come in their order, batch by batch. A faulty input is
raised as UserError with its place once the results of those before it have been handed on.
"""

from __future__ import annotations

from yuwen.tasks.answer import answer
from yuwen.tasks.classify import classify
from yuwen.tasks.embed import embed
from yuwen.tasks.extract import extract
from yuwen.tasks.files import ResultFile, read_inputs
from yuwen.tasks.fill import fill
from yuwen.tasks.registry import TASKS, settings_of, task
from yuwen.tasks.show import readable
from yuwen.tasks.similar import similar
from yuwen.tasks.tag import tag
from yuwen.tasks.write import chat, complete, summarise, translate

__all__ = [
    "TASKS",
    "ResultFile",
    "answer",
    "chat",
    "classify",
    "complete",
    "embed",
    "extract",
    "fill",
    "read_inputs",
    "readable",
    "settings_of",
    "similar",
    "summarise",
    "tag",
    "task",
    "translate",
]
