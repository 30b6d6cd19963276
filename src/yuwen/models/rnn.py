"""Finding Structure in Time (Elman 1990), as a language model (Mikolov et al. 2010).

    h_t = tanh(W x_t + U h_{t-1} + b),   p(x_{t+1}) = softmax(E h_t + c)

The state is all that is known of what was read; its gradient passes U and tanh' once for every token, and so fades.
Learnt by truncated back-propagation: the state is carried from window to window (`data.order: stream`), gradients stop
where a window begins (Mikolov et al. 2010, section 2: after one step). Differences here: tanh for the logistic
function, several layers, embedding and output tied (Press & Wolf 2017), the dropouts of `RecurrentConfig`. transformers
has no such family: `config.json` is our own (`model_type` "rnn"), weights have the names and layout of
`torch.nn.RNNCell`.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from yuwen.models import recurrent
from yuwen.models.recurrent import Recurrent, RecurrentConfig
from yuwen.models.weights import Entry
from yuwen.nn import ElmanRNN


class RnnConfig(RecurrentConfig):
    """Shape of a recurrent network with Elman's layers."""

    ARCHITECTURE: ClassVar[str] = "RnnForCausalLM"
    MODEL_TYPE: ClassVar[str] = "rnn"


def build(config: RnnConfig, generator: torch.Generator | None = None) -> Recurrent:
    """Elman's network with fresh weights."""
    return recurrent.build(config, ElmanRNN, generator)


def weights(config: RnnConfig) -> list[Entry]:
    """Our names and those we publish."""
    return recurrent.weights(config)
