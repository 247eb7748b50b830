"""Draws that are decoded in chunks give the same terms and gradients, in less memory."""

import pytest
import torch
from torch import Tensor

from drawn import loss_of, terms_for
from training.test_combination import build
from vae.model import LatentModel
from vae.objective.elbo import ELBO
from vae.objective.iwae import IWAE
from vae.objective.objective import Objective

K = 12


def gradients(model: LatentModel, objective: Objective, x: Tensor) -> list[Tensor]:
    torch.manual_seed(7)
    loss = loss_of(objective, model, x)
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


@pytest.mark.parametrize("chunk", [1, 5, 12, 100])
@pytest.mark.parametrize("style", ["standard", "stl", "dreg"])
@pytest.mark.parametrize(("posterior", "prior"), [("diagonal_gaussian", "vamp"), ("flow", "flow")])
def test_gradients_equal_those_of_all_draws_at_once(chunk: int, style: str, posterior: str, prior: str) -> None:
    model, x = build(posterior, prior, "gaussian_learned"), torch.rand(3, 1, 4, 4)
    whole = gradients(model, IWAE(K, style), x)
    for ours, expected in zip(gradients(model, IWAE(K, style, chunk=chunk), x), whole, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-5)


@pytest.mark.parametrize("kl", ["analytic", "monte_carlo"])
@pytest.mark.parametrize("free_bits", [0, 0.1])
def test_gradients_of_the_elbo_do_too(kl: str, free_bits: float) -> None:
    model, x = build("diagonal_gaussian", "standard_normal", "bernoulli"), torch.rand(3, 1, 4, 4)
    whole = gradients(model, ELBO(K, kl, free_bits=free_bits), x)
    chunked = gradients(model, ELBO(K, kl, free_bits=free_bits, chunk=5), x)
    for ours, expected in zip(chunked, whole, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-5)


def test_fewer_values_are_kept_for_the_backward_pass() -> None:
    model, x = build("diagonal_gaussian", "standard_normal", "bernoulli"), torch.rand(3, 1, 4, 4)

    def kept(chunk: int | None, k: int = 64, kl: str = "analytic") -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            terms_for(ELBO(k, kl, chunk=chunk), model, x)
        return sum(sizes)

    assert kept(8) < 0.3 * kept(None)
    # Of a draw outside its chunk only the noise.
    noise = len(x) * model.latent_size
    assert kept(8) - kept(8, k=32) == 32 * noise
    assert kept(8, kl="monte_carlo") - kept(8, k=32, kl="monte_carlo") == 32 * noise


def test_evaluation_in_chunks_is_the_same() -> None:
    model, x = build("diagonal_gaussian", "standard_normal", "bernoulli"), torch.rand(3, 1, 4, 4)
    with torch.no_grad():
        torch.manual_seed(1)
        whole = terms_for(IWAE(50), model, x)
        torch.manual_seed(1)
        parts = terms_for(IWAE(50, chunk=7), model, x)
    torch.testing.assert_close(parts.iwae_bound, whole.iwae_bound)
