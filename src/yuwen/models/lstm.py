"""Regularizing and Optimizing LSTM Language Models (Merity, Keskar & Socher 2018): the AWD-LSTM.

    i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of the four parts of W x_t + U h_{t-1} + b     (section 2)
    c_t = f * c_{t-1} + i * g,   h_t = o * tanh(c_t),   p(x_{t+1}) = softmax(E h_t + c)

What holds such a model back from learning its text by heart, and where it stands here: weight-drop on U (section 2;
`weight_drop`), locked dropout between layers and dropped words (4.2, 4.3; `dropout`, `input_dropout`, `output_dropout`,
`word_dropout`), tied weights with a last layer as wide as the embedding (4.4, 4.5; `width`, `hidden`), penalties on
large and on fast-changing states (4.6; `objective.ar`, `objective.tar`), windows that are cut elsewhere in every epoch
(4.1; `data.order: stream`). Differences here: the forget gate's bias starts at 1 (Jozefowicz et al. 2015, section 4.2);
any optimiser in place of NT-ASGD; windows of one length. transformers has no such family: `config.json` is our own
(`model_type` "lstm"), weights have the names and layout of `torch.nn.LSTMCell`.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from yuwen.models import recurrent
from yuwen.models.recurrent import Recurrent, RecurrentConfig
from yuwen.models.weights import Entry
from yuwen.nn import LSTM


class LstmConfig(RecurrentConfig):
    """Shape of an LSTM."""

    ARCHITECTURE: ClassVar[str] = "LstmForCausalLM"
    MODEL_TYPE: ClassVar[str] = "lstm"


def build(config: LstmConfig, generator: torch.Generator | None = None) -> Recurrent:
    """An LSTM with fresh weights."""
    model = recurrent.build(config, LSTM, generator)
    with torch.no_grad():
        for layer in model.layers:
            if not layer.bias.is_meta:
                layer.bias[layer.hidden : 2 * layer.hidden] = 1.0  # the forget gate's
    return model


def weights(config: LstmConfig) -> list[Entry]:
    """Our names and those we publish."""
    return recurrent.weights(config)
