"""Ten short runs whose numbers a change of the code that is meant to change none must leave alone.

`python frozen_numbers.py write` runs them by the command line and writes frozen_numbers.json. `check` runs them
and compares to the last bit, which holds on one machine with one version of torch. The tests compare more loosely.
"""

import json
import math
import sys
import tempfile
from pathlib import Path

import torch

from commands import run_train

FILE = Path(__file__).with_suffix(".json")
QUICK = (
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "latent_size=3",
    "logger=csv",
    "callback.pictures=null",
    "callback.progress=null",
    "metric.test.nll.k=20",
)
SMALL = "network.hidden_sizes=[16]"
# Defaults of before some numbers were frozen, which those keep; the run `default` has those of now.
START, TRANSPOSED = "start_from_mean=false", "network.upsample=transposed"
RUNS: dict[str, list[tuple[str, ...]]] = {
    "default": [()],
    "iwae": [
        (
            "objective=iwae",
            "objective.k=3",
            "posterior=full_gaussian",
            "likelihood=bernoulli",
            "data.binarize=dynamic",
            SMALL,
            START,
        )
    ],
    "dreg": [("objective=iwae", "objective.k=4", "objective.gradient=dreg", "objective.chunk=2", SMALL, START)],
    "flows": [
        ("posterior=flow", "prior=flow", "objective.kl=monte_carlo", "likelihood=categorical", SMALL, START)
    ],
    "autoencoder": [("posterior=delta", "objective=reconstruction", "corruption=mask", SMALL, START)],
    "conv": [
        (
            "network=conv",
            "network.base_width=8",
            "likelihood=gaussian_learned",
            "corruption=gaussian_noise",
            START,
            TRANSPOSED,
        )
    ],
    "resnet": [
        (
            "network=resnet",
            "network.base_width=8",
            "likelihood=gaussian_optimal",
            "prior=vamp",
            "prior.components=5",
            "objective.kl=monte_carlo",
            START,
            TRANSPOSED,
        )
    ],
    "free_bits": [
        (
            "objective.free_bits=0.1",
            "objective/beta=linear",
            "objective.beta.steps=20",
            "network=gated_mlp",
            "network.hidden_sizes=[16]",
            "likelihood=discretized_logistic",
            "optimizer=adamax",
            "scheduler=cosine",
            START,
        )
    ],
    "two_ranks": [
        (
            "trainer.devices=2",
            "prior=gaussian_mixture",
            "objective.kl=monte_carlo",
            SMALL,
            START,
            "likelihood=continuous_bernoulli",
        )
    ],
    "resumed": [("objective.k=2", "likelihood=gaussian_per_pixel", SMALL, START), ("trainer.max_epochs=4",)],
}
"""Arguments of each run, and of its continuations."""


def numbers(name: str) -> dict[str, float]:
    """The final numbers of a run, and the sum, with alternating signs, of each of its weights."""
    with tempfile.TemporaryDirectory() as folder:
        first, *further = RUNS[name]
        commands = [(*QUICK, *first, f"hydra.run.dir={folder}/run")]
        commands += [(f"resume={folder}/run", *more) for more in further]
        for arguments in commands:
            done = run_train(*arguments, OMP_NUM_THREADS="1")
            assert done.returncode == 0, done.stderr
        run = Path(folder, "run")
        metrics = json.loads((run / "metrics.json").read_text())
        state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    sums = {f"weights/{key}": _fingerprint(value) for key, value in state.items() if key.startswith("model.")}
    # Which of two epochs is the best may hang on the last bit.
    left_out = ("seconds", "best_step")
    return {k: v for k, v in metrics.items() if k not in left_out and v is not None and math.isfinite(v)} | sums


def _fingerprint(values: torch.Tensor) -> float:
    signs = torch.ones(values.numel(), dtype=torch.float64)
    signs[1::2] = -1
    return float((values.double().flatten() * signs).sum())


def main(task: str) -> None:
    found = {name: numbers(name) for name in RUNS}
    if task == "write":
        FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        return
    frozen = json.loads(FILE.read_text())
    for name, values in found.items():
        different = {
            key: (frozen[name].get(key), value) for key, value in values.items() if frozen[name].get(key) != value
        }
        print(f"{name}: {different or 'the same'}")


if __name__ == "__main__":
    main(sys.argv[1])
