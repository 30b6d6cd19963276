"""What every format asks when a model's weights go out or come in: which, do they fit, and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from yuwen.errors import UserError
from yuwen.models import Classifier, Model, family
from yuwen.models.classifier import weights as classifier_weights
from yuwen.models.weights import Entry

if TYPE_CHECKING:
    from yuwen.tokens import Tokenizer


def entries_of(model: Model | Classifier) -> Sequence[Entry]:
    """The model's weights by our names and by the published ones."""
    if isinstance(model, Classifier):
        return classifier_weights(model.config)
    return family(model.config.MODEL_TYPE).weights(model.config)


def check_fit(tokenizer: Tokenizer | None, model: Model | Classifier, where: str) -> None:
    """Raises UserError if the tokenizer has ids that the model lacks; `where` begins its line."""
    if tokenizer is not None and tokenizer.size > model.config.vocabulary:
        raise UserError(
            f"{where}: the tokenizer has {tokenizer.size} ids, the model only {model.config.vocabulary}: "
            "they do not belong together"
        )


def assign(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Puts weights in place of the meta ones, and what is tied to them again by identity."""
    owners: dict[int, str] = {}
    tied = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner = owners.setdefault(id(parameter), name)
        if owner != name:
            tied[name] = owner
    model.load_state_dict({**weights, **{name: weights[owner] for name, owner in tied.items()}}, assign=True)
    for name, owner in tied.items():
        module, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(module), leaf, model.get_parameter(owner))
