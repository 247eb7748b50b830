"""The likelihood is a density, and its gradient reaches the decoder."""

import pytest
import torch
from my_project.likelihood import LaplaceLikelihood


@pytest.mark.parametrize("scale", [0.03, 0.1, 1.0])
def test_it_integrates_to_one(scale: float) -> None:
    x = torch.linspace(-40, 40, 800_001, dtype=torch.float64)
    p = LaplaceLikelihood((1, 1, 1), scale)(torch.full((1, 1, 1), 0.3, dtype=torch.float64))
    density = p.log_prob(x.view(-1, 1, 1, 1)).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-5)


def test_its_mean_is_what_the_decoder_gives() -> None:
    likelihood, mean = LaplaceLikelihood((3, 4, 5)), torch.rand(3, 4, 5)
    assert torch.equal(likelihood(likelihood.params_from_mean(mean)).mean, mean)


def test_the_gradient_reaches_the_decoder() -> None:
    params = torch.rand(2, 3, 4, 5, requires_grad=True)
    LaplaceLikelihood((3, 4, 5))(params).log_prob(torch.rand(3, 4, 5)).sum().backward()
    assert params.grad is not None
    assert (params.grad != 0).all()
