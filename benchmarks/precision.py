"""python -m benchmarks precision: the NLL that trainer.precision=bf16-mixed costs, in training and in evaluation.

The model is the default model of the digits, but with torch's weights and a start from the mean image. It is
trained once in each precision, from the same seed. Both models are then evaluated in each precision, on the test
images and with the same draws.
"""

import tempfile
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import seed_everything

from benchmarks.workload import composed_step
from vae.command.command import quiet_libraries
from vae.model import LatentModel
from vae.training.build import build_module, build_trainer, hide_unused_gpus

PRECISIONS = ("32-true", "bf16-mixed")
EPOCHS, DRAWS = 60, 500


def trained(precision: str) -> tuple[LatentModel, torch.Tensor]:
    """Return the trained model, and the images of the test set."""
    with tempfile.TemporaryDirectory() as folder:
        config = composed_step(
            "init=torch",
            "start_from_mean=true",
            f"paths.run={folder}",
            f"trainer.max_epochs={EPOCHS}",
            f"trainer.precision={precision}",
        )
        seed_everything(0, verbose=False)
        data = instantiate(config.data)
        trainer = build_trainer(config)
        module = build_module(config, data, trainer)
        hide_unused_gpus(trainer)
        trainer.fit(module, data)
        return module.model.eval(), data.images("test", len(data.subsets["test"]))[0]


def nll(model: LatentModel, x: torch.Tensor, precision: str) -> float:
    """Return the NLL in nats per image, from the same draws at every call."""
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        return -model.log_marginal(x, DRAWS).log_px.double().mean().item()


def measure() -> dict[str, Any]:
    """Return the NLL by the precision of training, then by that of evaluation."""
    torch.set_num_threads(1)
    quiet_libraries()
    found, images = {}, 0
    for precision in PRECISIONS:
        model, x = trained(precision)
        images = len(x)
        found[precision] = {evaluated: nll(model, x, evaluated) for evaluated in PRECISIONS}
    return {"images": images, "k": DRAWS, "epochs": EPOCHS, "nll": found}
