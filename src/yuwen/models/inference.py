"""The state in which a model is used rather than trained."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from yuwen.errors import UserError
from yuwen.nn import quick_products


@contextmanager
def inference(model: nn.Module, *, quick: bool = False) -> Iterator[None]:
    """No gradients, no dropout, no compiling; afterwards the model is as it was. `quick`: see `nn.quick_products`.

    A model that is being trained may hold compiled blocks: shapes change from call to call here, and each would compile
    anew. If the compiler was never imported (that takes a second) nothing can be compiled.
    """
    was_training = model.training
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if was_training:
            model.eval()
            stack.callback(model.train)
        if quick:
            stack.enter_context(quick_products())
        yield


def refuse_not_finite(what: str, values: Any) -> None:
    """UserError unless all of what a model gave is finite: `what` begins the line, such as "the loss is"."""
    if not bool(torch.as_tensor(values).isfinite().all()):
        raise UserError(f"{what} not finite: the model's weights are damaged or its training diverged")
