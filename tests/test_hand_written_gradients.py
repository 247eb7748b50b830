"""Gradients that are written by hand: right to the second derivative and under torch.func, or an error."""

import importlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from training.test_combination import CODED, OVER_CODES, build, names
from vae.bound.ranks import _MeanOverRanks
from vae.bound.terms import Terms, _Scalable
from vae.checks import ConfigError
from vae.likelihood.bernoulli import Bernoulli, _LogProbability
from vae.model import LatentModel
from vae.paths import ROOT

# Its rules for forward mode are TorchScript, which torch deprecates.
pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.filterwarnings("ignore:`torch.jit.script` is")]


class Written(NamedTuple):
    """A Function, within an expression that is a number for each of the first axis, and the same without it."""

    by_hand: Callable[..., Tensor]
    plain: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]


def scaled(z: Tensor) -> Tensor:
    """Its gradient is to be twice that of z³."""
    z, scale = _Scalable.apply(z)
    return (z.pow(3).sum(-1) + 2 * scale[0] + scale[1]).sum(-1)


WRITTEN: dict[type[Function], Written] = {
    _LogProbability: Written(
        _LogProbability.apply,
        lambda logits, x: (x * logits.sigmoid().log() + (1 - x) * (-logits).sigmoid().log()).sum((-3, -2, -1)),
        ((2, 1, 1, 3), (2, 1, 1, 3)),
    ),
    _MeanOverRanks: Written(
        lambda x: _MeanOverRanks.apply(x.square()).exp().sum(-1), lambda x: x.square().exp().sum(-1), ((2, 3),)
    ),
    _Scalable: Written(scaled, lambda z: 2 * z.pow(3).sum((-2, -1)), ((2, 2, 3),)),
}
FIRST_ORDER = {_Scalable}
"""Those that have no second derivatives, and say so."""
WITH_SECOND = [function for function in WRITTEN if function not in FIRST_ORDER]


@pytest.fixture(autouse=True)
def _two_ranks_that_have_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce", lambda value: value.mul_(2))


def inputs(function: type[Function]) -> list[Tensor]:
    return [torch.rand(shape).requires_grad_() for shape in WRITTEN[function].shapes]


def test_every_function_of_the_package_is_here() -> None:
    source = ROOT / "src"
    for file in (source / "vae").rglob("*.py"):
        if "autograd" in file.read_text(encoding="utf-8"):
            importlib.import_module(".".join(file.relative_to(source).with_suffix("").parts))

    def below(kind: type) -> Iterator[type]:
        for child in kind.__subclasses__():
            yield from (child, *below(child))

    assert {kind for kind in below(Function) if kind.__module__.split(".")[0] == "vae"} == set(WRITTEN)


@pytest.mark.parametrize("function", WRITTEN)
def test_gradients_are_those_of_the_plain_expression(function: type[Function]) -> None:
    by_hand, plain, _ = WRITTEN[function]
    given = inputs(function)
    torch.testing.assert_close(
        torch.autograd.grad(by_hand(*given).sum(), given), torch.autograd.grad(plain(*given).sum(), given)
    )
    some = [t.detach() for t in given]
    for at in range(len(some)):
        each = vmap(grad(by_hand, at))(*some)
        torch.testing.assert_close(each, vmap(grad(plain, at))(*some))
        torch.testing.assert_close(each, torch.stack([grad(by_hand, at)(*one) for one in zip(*some, strict=True)]))


@pytest.mark.parametrize("function", WITH_SECOND)
def test_second_derivatives_are_those_of_the_plain_expression(function: type[Function]) -> None:
    by_hand, plain, _ = WRITTEN[function]
    given = inputs(function)
    assert torch.autograd.gradcheck(by_hand, given)
    assert torch.autograd.gradgradcheck(by_hand, given)
    some = [t.detach() for t in given]
    for at in range(len(some)):
        second = vmap(jacrev(jacrev(by_hand, at), at))(*some)
        torch.testing.assert_close(second, vmap(hessian(plain, at))(*some))


@pytest.mark.parametrize("function", FIRST_ORDER)
def test_without_second_derivatives_it_raises(function: type[Function]) -> None:
    by_hand, given = WRITTEN[function].by_hand, inputs(function)
    gradient = torch.autograd.grad(by_hand(*given).sum(), given, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(gradient[0].sum(), given)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        jacrev(jacrev(by_hand))(*[t.detach() for t in given])


@pytest.mark.parametrize("function", WRITTEN)
def test_forward_mode_is_refused_by_torch(function: type[Function]) -> None:
    """With a rule for it, torch (2.14) would take the second derivative of two passes forward for zero."""
    given = [t.detach() for t in inputs(function)]
    with pytest.raises(NotImplementedError, match="jvp"):
        jacfwd(WRITTEN[function].by_hand)(*given)


def test_the_bernoulli_density_has_its_hessian_in_every_mode() -> None:
    logits, x = torch.randn(3, 1, 1, 4), torch.rand(1, 1, 4)
    log_p = lambda logits: Bernoulli((1, 1, 4))(logits).log_prob(x)  # noqa: E731
    p = logits.sigmoid().flatten(1)
    expected = torch.diag_embed(-p * (1 - p))
    for outer in (jacfwd, jacrev):
        for inner in (jacfwd, jacrev):
            found = vmap(outer(inner(log_p)))(logits)
            torch.testing.assert_close(found.reshape(3, 4, 4), expected)


class OfWeights(nn.Module):
    """A quantity of the terms of fixed images and noise, as a function of a model's weights."""

    def __init__(self, model: LatentModel, quantity: Callable[[Terms], Tensor]):
        super().__init__()
        self.model, self.quantity = model, quantity
        self.x = torch.rand(2, 1, 4, 4).round()
        self.noise = model.noise(3, 2)

    def forward(self) -> Tensor:
        return self.quantity(self.model.terms(self.x, self.model.encode(self.x), self.noise))


QUANTITIES: dict[str, Callable[[Terms], Tensor]] = {
    "log_w": lambda terms: terms.log_w.sum(),
    "iwae": lambda terms: terms.iwae_bound.sum(),
    "kl": lambda terms: terms.kl.sum(),
}


@pytest.mark.parametrize("prior", [name for name in names("prior") if name not in OVER_CODES])
@pytest.mark.parametrize("posterior", [name for name in names("posterior") if name not in (*CODED, "delta")])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_second_derivatives_of_whole_models(quantity: str, posterior: str, prior: str) -> None:
    """Hessian times a vector, forwards over backwards and backwards twice, against differences of gradients."""
    of_weights = OfWeights(build(posterior, prior, "bernoulli"), QUANTITIES[quantity])
    weights = {name: p.detach() + 0.1 * torch.randn_like(p) for name, p in of_weights.named_parameters()}
    along = {name: torch.randn_like(p) for name, p in weights.items()}
    gradient = grad(lambda weights: functional_call(of_weights, weights, ()))
    try:
        gradient(weights)
    except ConfigError:
        assert quantity == "kl"
        return
    step = 1e-5
    after, before = (
        gradient({name: p + sign * step * along[name] for name, p in weights.items()}) for sign in (1, -1)
    )
    by_differences = {name: (after[name] - before[name]) / (2 * step) for name in weights}
    forwards = jvp(gradient, (weights,), (along,))[1]
    dot = lambda weights: sum((g * along[name]).sum() for name, g in gradient(weights).items())  # noqa: E731
    for found in (forwards, grad(dot)(weights)):
        for name, expected in by_differences.items():
            torch.testing.assert_close(found[name], expected, atol=1e-5, rtol=1e-5)
