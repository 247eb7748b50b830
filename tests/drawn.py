"""Terms and losses with draws from the default generator, as the training step has them."""

from torch import Tensor
from torch.distributions import Distribution

from vae.bound.terms import Terms
from vae.model import LatentModel
from vae.objective.objective import Objective
from vae.training.execution import Execution, terms_of


def drawn(model: LatentModel, x: Tensor, k: int = 1, q: Distribution | None = None) -> Terms:
    """The terms of k draws for each image."""
    return model.terms(x, model.encode(x) if q is None else q, model.noise(k, len(x)))


def terms_for(objective: Objective, model: LatentModel, x: Tensor) -> Terms:
    """The terms that an objective is given, in its chunks."""
    terms = terms_of(model, objective, Execution())
    return terms(x, model.encode(x), model.noise(objective.draws, len(x)))


def loss_of(objective: Objective, model: LatentModel, x: Tensor) -> Tensor:
    """The loss of one training step."""
    return objective(terms_for(objective, model, x), 0)
