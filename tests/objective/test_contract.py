"""An objective of one's own is given the same while training, in validation and in the test."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from vae.bound.terms import Terms
from vae.checks import ConfigError
from vae.data.image_data import ImageSet, ImageSubset
from vae.objective.objective import Objective
from vae.training.build import build_module, build_trainer
from vae.training.combination import check_combination
from vae.training.execution import Execution, losses_of, terms_of
from vae.training.initialization import check_labels
from vae.training.module import VAEModule

QUICK = ["trainer.accelerator=cpu", "logger=csv", "callback=none", "trainer.max_epochs=1"]


class Curious(Objective):
    """The negative ELBO, which asks for everything and notes it."""

    uses_draws = uses_labels = scales_paths = True

    def __init__(self, k: int = 3, chunk: int | None = None):
        super().__init__(k, chunk)
        self.given: list[tuple[bool, Terms]] = []

    def forward(self, terms: Terms, step: int | Tensor) -> Tensor:
        self.given.append((self.training, terms))
        unscaled = (terms.scale[0] + terms.scale[1]).sum()  # which is 0, and has each z's gradient multiplied by 1
        return (terms.distortion + terms.kl).mean() + unscaled


def module_with(composed: Callable[..., DictConfig], objective: Objective) -> tuple[VAEModule, Any, Any]:
    config = composed(*QUICK, "steps_at_once=1", "network.hidden_sizes=[8]")
    OmegaConf.resolve(config)
    data, trainer = instantiate(config.data), build_trainer(config)
    module = build_module(config, data, trainer)
    check_combination(module.model, objective, data.values)
    module.objective, module.terms = objective, terms_of(module.model, objective, Execution())
    module.losses = losses_of(module.forward, Execution())
    return module, data, trainer


@pytest.mark.parametrize("chunk", [None, 2])
def test_it_is_given_draws_distributions_and_labels_everywhere(
    chunk: int | None, composed: Callable[..., DictConfig]
) -> None:
    objective = Curious(chunk=chunk)
    module, data, trainer = module_with(composed, objective)
    seen, forward = list[tuple[Tensor, Tensor]](), module.terms

    def noted(x: Tensor, *arguments: Any, **options: Any) -> Terms:
        terms = forward(x, *arguments, **options)
        seen.append((x, terms.label))
        return terms

    module.terms = noted
    objective.given.clear()
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    known = {}
    for split in ("train", "val", "test"):
        x, label = data.images(split, 2000)
        known |= {image.numpy().tobytes(): y for image, y in zip(x, label.tolist(), strict=True)}
    stages = [training for training, _ in objective.given]
    assert True in stages
    assert stages.count(False) >= 2  # of validation and of the test
    for (x, label), (_, terms) in zip(seen, objective.given, strict=True):
        assert [known[image.numpy().tobytes()] for image in x] == label.tolist()
        assert terms.draws.shape == (3, len(x), module.model.latent_size)
        assert terms.q.batch_shape == (len(x),)
        assert terms.p.event_shape == (module.model.latent_size,)
        assert terms.scale.shape == (2, 3, len(x))
        torch.testing.assert_close(terms.log_pz, terms.p.log_prob(terms.draws))
        torch.testing.assert_close(terms.log_qz, terms.q.log_prob(terms.draws))


def test_draws_that_it_uses_without_saying_so_are_missed_before_any_step(
    composed: Callable[..., DictConfig],
) -> None:
    class Careless(Objective):
        uses_log_densities = False

        def forward(self, terms: Terms, step: int | Tensor) -> Tensor:
            return terms.distortion.mean() + terms.draws.square().mean()

    module_with(composed, Careless(3, None))
    with pytest.raises(ConfigError, match=r"objective\.chunk: .* says `uses_draws = True`"):
        module_with(composed, Careless(3, 2))


def test_labels_that_images_have_not_are_missed_before_any_step(composed: Callable[..., DictConfig]) -> None:
    module, data, _ = module_with(composed, Curious())
    data.prepare_data()
    data.setup()
    check_labels(data, module.model, module.objective)
    known = data.subsets["train"]
    source = ImageSet(known.source.images, torch.zeros_like(known.source.labels))
    data.subsets["train"] = ImageSubset(source, known.members)
    with pytest.raises(ConfigError, match="objective=Curious: uses the labels of images, and Digits has none"):
        check_labels(data, module.model, module.objective)
