"""Causal networks: what an output may depend on, and that values drawn place by place have the same outputs."""

import pytest
import torch

from vae.causal.causal import Causal
from vae.causal.pixelcnn import PixelCNN
from vae.causal.transformer import Transformer
from vae.checks import ConfigError

NETWORKS = {
    "pixelcnn": lambda *sizes: PixelCNN(*sizes, channels=6, layers=3, kernel=3),
    "pixelcnn_wide": lambda *sizes: PixelCNN(*sizes, channels=6, layers=2, kernel=7),
    "one_layer": lambda *sizes: PixelCNN(*sizes, channels=6, layers=1, kernel=5),
    "transformer": lambda *sizes: Transformer(*sizes, channels=8, layers=2, heads=2),
}


def network(name: str, *sizes: int) -> Causal:
    """With weights far from their start."""
    made = NETWORKS[name](*sizes)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("shape", [(4, 5), (1, 6), (6, 1), (1, 1)])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_output_depends_on_all_values_before_it_and_no_other(
    name: str, shape: tuple[int, int], float64: None
) -> None:
    height, width = shape
    net, values = network(name, 2, 3, height, width), torch.randn(1, 2, height, width)
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v)[0].flatten(1), values)  # (O, L, 1, C, H, W)
    depends = jacobian[:, :, 0].abs().amax((0, 2)).flatten(1) > 0  # (L outputs, L values)
    count = height * width
    assert not depends.triu().any()
    if name in ("transformer", "pixelcnn_wide"):  # which see as far as the maps reach
        assert depends.tril(-1).sum() == count * (count - 1) // 2


@pytest.mark.parametrize("condition", [0, 2])
@pytest.mark.parametrize("shape", [(4, 5), (1, 6), (6, 1), (1, 1)])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_drawn_place_by_place_has_the_outputs_of_one_pass(
    name: str, shape: tuple[int, int], condition: int, float64: None
) -> None:
    net = network(name, 2, 3, *shape, condition)
    given = torch.randn(4, condition, *shape) if condition else None
    seen = []

    def draw(outputs: torch.Tensor) -> torch.Tensor:
        seen.append(outputs)
        return outputs[:, :2] + torch.randn(4, 2)

    values = net.generate(draw, 4, given)
    assert values.shape == (4, 2, *shape)
    torch.testing.assert_close(torch.stack(seen, 2), net(values, given).flatten(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient_and_every_output_the_condition(name: str) -> None:
    net = network(name, 2, 3, 4, 5, 2)
    given = torch.randn(3, 2, 4, 5, requires_grad=True)
    net(torch.randn(3, 2, 4, 5), given).square().sum().backward()
    for parameter, value in net.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.abs().sum() > 0, parameter
    assert given.grad is not None
    assert (given.grad.abs().sum((0, 1)) > 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PixelCNN(1, 1, 4, 4, kernel=4), "kernel=4: must be odd"),
        (lambda: PixelCNN(1, 1, 4, 4, layers=0), "layers=0: must be a whole number from 1 to 1000"),
        (lambda: Transformer(1, 1, 4, 4, channels=10, heads=4), "channels=10: must be a multiple of heads=4"),
    ],
)
def test_bad_input_is_one_line(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]
