"""Models with codes and pixels one by one, as runs: resumed bit by bit, in two ranks, loaded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf

from commands import TWO_RANKS, call_command, run_train, weights_of
from vae import load_model
from vae.checks import ConfigError
from vae.trained.trained_model import TrainedModel
from vae.training.build import build_module, build_trainer
from vae.training.module import VAEModule

Composed = Callable[..., DictConfig]
QUICK = ["trainer.accelerator=cpu", "logger=csv", "callback.pictures=null", "callback.progress=null"]
GRID = ["network=spatial", "network.grid=[2,2]", "network.width=8", "latent_size=4"]
PRIOR = ["prior=autoregressive", "prior.channels=8", "prior.layers=2"]
VQ = [*GRID, *PRIOR, "posterior=vector_quantized", "posterior.codes=16", "posterior.code_size=4"]
MODELS = {
    "vq": VQ,
    "vq_by_gradient": [*VQ, "posterior.decay=null"],
    "fsq": [*GRID, *PRIOR, "posterior=finite_scalar", "posterior.levels=[3,3]", "prior.network=transformer"],
    "gumbel": ["posterior=categorical", "prior=uniform", "posterior.gradient=gumbel", "network.hidden_sizes=[8]"],
    "mixture": ["posterior=exact", "prior=categorical", "latent_size=1", "network.hidden_sizes=[]"],
}

# It is the run that goes on.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


def fitted(
    composed: Composed, folder: Path, epochs: int, *overrides: str, resume: Path | None = None
) -> VAEModule:
    config = composed(*QUICK, f"trainer.max_epochs={epochs}", "data.batch_size=128", *overrides)
    config.paths.run = str(folder)
    OmegaConf.resolve(config)
    seed_everything(0, verbose=False)
    data = instantiate(config.data)
    trainer = build_trainer(config)
    module = build_module(config, data, trainer)
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return module


@pytest.mark.parametrize("name", MODELS)
def test_a_resumed_run_is_the_uninterrupted_one_to_the_last_bit(
    name: str, composed: Composed, tmp_path: Path
) -> None:
    whole = fitted(composed, tmp_path / "whole", 2, *MODELS[name])
    fitted(composed, tmp_path / "parts", 1, *MODELS[name])
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    resumed = fitted(composed, tmp_path / "parts", 2, *MODELS[name], resume=last)
    states = whole.state_dict(), resumed.state_dict()
    assert states[0].keys() == states[1].keys()
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []
    if name == "vq":
        assert {"model.posterior.codebook", "model.posterior.share", "model.posterior.total"} <= states[0].keys()


OF_LABELS = [*GRID, *VQ[-3:], "prior=categorical", "prior.condition=label"]


def test_a_prior_of_labels_learns_log_p_of_x_and_y_and_reports_log_p_of_x(
    composed: Composed, tmp_path: Path
) -> None:
    config = composed(*QUICK, "trainer.max_epochs=1", *OF_LABELS)
    OmegaConf.resolve(config)
    data, trainer = instantiate(config.data), build_trainer(config)
    module = build_module(config, data, trainer)
    losses, given = module.losses, list[tuple[Any, ...]]()

    def noted(*arguments: Any) -> tuple[torch.Tensor, ...]:
        given.append(arguments)
        return losses(*arguments)

    module.losses = noted  # type: ignore[assignment]
    trainer.fit(module, data)
    x, label = data.images("train", 2000)
    labels = {image.numpy().tobytes(): y for image, y in zip(x, label.tolist(), strict=True)}
    for seen, _, _, _, those in given:
        assert [labels[image.numpy().tobytes()] for image in seen] == those.tolist()
    model = module.model.eval()
    x, label = data.images("val", 100)
    with torch.no_grad():
        q, noise = model.encode(x), model.noise(1, len(x))
        joint = torch.stack([model.terms(x, q, noise, label=torch.full_like(label, y)).elbo for y in range(10)])
        torch.testing.assert_close(model.terms(x, q, noise).elbo, joint.logsumexp(0))
        of_labels = joint.gather(0, label[None])[0]
        torch.testing.assert_close(losses(x, x, noise, 0, label)[0], -of_labels.mean())
    trained = TrainedModel(model, data)
    assert trained.sample(4, label=[3, 5], seed=1).shape == (4, 1, 8, 8)
    with pytest.raises(ConfigError, match=r"label=10: must be"):
        trained.sample(4, label=10)
    with pytest.raises(ConfigError, match=r"temperature=0\.5: must be 1"):
        trained.sample(4, temperature=0.5, label=3)


def test_images_without_labels_or_with_more_are_one_line(composed: Composed, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prior\.classes=7: must be at least 10"):
        fitted(composed, tmp_path, 1, *OF_LABELS, "prior.classes=7")
    config = composed("data=celeba", "prior=categorical", "prior.condition=label")
    with pytest.raises(ConfigError, match=r"prior\.condition=label: these images have no labels"):
        instantiate(config.prior)(4, (3, 64, 64))


def test_more_codes_than_training_images_are_one_line(composed: Composed, tmp_path: Path) -> None:
    message = r"posterior\.codes=2000: must be at most the 1257 training images"
    with pytest.raises(ConfigError, match=message):
        fitted(composed, tmp_path, 1, *VQ, "posterior.codes=2000")


@pytest.mark.slow
def test_a_sweep_over_codes_is_evaluated_and_sampled_as_any(tmp_path: Path) -> None:
    arguments = [*VQ, "posterior.codes=4,8", *QUICK, "trainer.max_epochs=1", f"hydra.sweep.dir={tmp_path}/sweep"]
    arguments.remove("posterior.codes=16")
    done = call_command("vae.train", "-m", *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    usage = {}
    for codes in (4, 8):
        run = tmp_path / "sweep" / f"posterior.codes={codes}"
        few = ["k=1", "~metric.test.probe", "~metric.test.aggregate_posterior", "trainer.accelerator=cpu"]
        measured = call_command("vae.evaluate", f"run={run}", *few, folder=tmp_path)
        assert measured.returncode == 0, measured.stderr
        numbers = json.loads((run / "evaluation.json").read_text())["metrics"]
        assert "test/nll" not in numbers  # all draws of an image are one
        assert numbers["test/elbo"] == pytest.approx(-(numbers["test/distortion"] + numbers["test/rate"]))
        usage[codes] = numbers["test/code_perplexity"]
        drawn = call_command("vae.sample", f"run={run}", "n=4", "picture=codes", "save=[npz]", folder=tmp_path)
        assert drawn.returncode == 0, drawn.stderr
        assert sorted(path.name for path in (run / "samples").iterdir()) == ["codes.npz", "samples_uniform.npz"]
    assert 1 <= usage[4] <= 4
    assert 1 <= usage[8] <= 8
    refused = call_command("vae.sample", f"run={run}", "n=4", "label=3", folder=tmp_path)
    assert refused.stderr.startswith("error: label=3: the prior of this model knows no classes")


@pytest.mark.slow
def test_two_ranks_make_the_codebook_that_one_makes(tmp_path: Path) -> None:
    """To rounding, as the sums of two halves are those of the whole; and the run can be loaded."""
    common = [
        *VQ,
        *QUICK,
        "posterior.restart_below=0",
        "trainer.max_epochs=1",
        "metric.test={}",
        "optimizer.lr=1e-4",
    ]
    weights = []
    for name, ranks in (("one", []), ("two", TWO_RANKS)):
        done = run_train(*common, *ranks, f"hydra.run.dir={tmp_path / name}")
        assert done.returncode == 0, done.stderr
        weights.append(weights_of(tmp_path / name))
    for key in ("codebook", "share", "total"):
        one, two = (each[f"model.posterior.{key}"] for each in weights)
        torch.testing.assert_close(one, two, atol=2e-3, rtol=2e-2)
    model = load_model(tmp_path / "two")
    x = torch.rand(3, 1, 8, 8)
    assert model.sample(5, seed=1).shape == (5, 1, 8, 8)
    assert (model.sample(5, seed=1) == model.sample(5, seed=1)).all()
    assert model.reconstruct(x).shape == x.shape
    assert model.elbo(x).isfinite().all()
    with pytest.raises(ConfigError, match="log_marginal: an image has one code in this model"):
        model.log_marginal(x)
    with pytest.raises(ConfigError, match=r"temperature=0\.5: must be 1 for a prior over codes"):
        model.sample(5, temperature=0.5)
    assert "val/code_usage" in json.loads((tmp_path / "two" / "metrics.json").read_text())
