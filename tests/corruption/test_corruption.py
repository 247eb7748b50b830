"""Corruptions change what they say they change, and nothing else."""

import pytest
import torch

from vae.checks import ConfigError
from vae.corruption.corruption import Box, GaussianNoise, Mask, SaltAndPepper

SHAPE = (500, 3, 8, 8)


@pytest.fixture
def x() -> torch.Tensor:
    return 0.1 + 0.8 * torch.rand(SHAPE)


def test_gaussian_noise_has_its_moments(x: torch.Tensor) -> None:
    noise = GaussianNoise(0.3)(x) - x
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(0.3, abs=0.01)


def test_salt_and_pepper_sets_whole_pixels_to_black_or_white(x: torch.Tensor) -> None:
    seen = SaltAndPepper(0.2)(x)
    hit = seen != x
    assert (hit.all(1) == hit.any(1)).all()
    assert hit.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert set(seen[hit].unique().tolist()) == {0.0, 1.0}
    assert seen[hit].mean().item() == pytest.approx(0.5, abs=0.02)


def test_mask_hides_its_part_of_the_pixels(x: torch.Tensor) -> None:
    seen = Mask(0.5, fill=1.0)(x)
    hidden = (seen == 1).all(1)
    assert hidden.float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert (seen[(~hidden)[:, None].expand_as(x)] == x[(~hidden)[:, None].expand_as(x)]).all()


def test_box_hides_one_square_in_each_image_everywhere_equally_often(x: torch.Tensor) -> None:
    hidden = (Box(0.5, fill=0.0)(x) == 0).all(1)
    assert (hidden.sum((1, 2)) == 16).all()
    assert ((hidden.any(1).sum(1) == 4) & (hidden.any(2).sum(1) == 4)).all()
    first_row = hidden.any(2).float().argmax(1)
    assert set(first_row.tolist()) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("corruption", [GaussianNoise(), SaltAndPepper(), Mask(), Box()])
def test_draws_come_from_the_default_generator(corruption: torch.nn.Module, x: torch.Tensor) -> None:
    torch.manual_seed(4)
    first = corruption(x)
    torch.manual_seed(4)
    assert (corruption(x) == first).all()
    assert (corruption(x) != first).any()


def test_impossible_corruptions_are_refused() -> None:
    for build, key in (
        (lambda: GaussianNoise(0), "sigma=0"),
        (lambda: SaltAndPepper(1.2), "rate=1.2"),
        (lambda: Mask(-0.1), "rate=-0.1"),
        (lambda: Box(0), "size=0"),
    ):
        with pytest.raises(ConfigError, match=rf"corruption\.{key}"):
            build()
    with pytest.raises(ConfigError, match=r"corruption\.size=0\.01: the box has no pixel"):
        Box(0.01)(torch.rand(1, 1, 8, 8))
