"""python -m benchmarks.chunk: peak memory and time of a training step with and without `objective.chunk`.

network=conv on images of 3×64×64, IWAE with k draws. Each setting runs in a process of its own, as the peak
of a process never falls; what the process holds before the step is taken off.
"""

import argparse
import resource
import subprocess
import sys
import time

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from vae.paths import CONF
from vae.training.build import build_model
from vae.training.execution import Execution, terms_of


def peak_mebibytes() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_step(k: int, chunk: int | None, batch: int) -> str:
    """Return the memory of a step in MiB, above that before the step, and its seconds, as text."""
    overrides = ["network=conv", "latent_size=32", "objective=iwae", f"objective.k={k}", "paths.run=."]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*overrides, f"objective.chunk={'null' if chunk is None else chunk}", "name=x"])
    model, objective = build_model(config, (3, 64, 64)), instantiate(config.objective)
    x = torch.rand(batch, 3, 64, 64)
    model.elbo(x[:1]).sum().backward()  # memory that is allocated only once
    before, started = peak_mebibytes(), time.perf_counter()
    terms = terms_of(model, objective, Execution())
    objective(terms(x, model.encode(x), model.noise(objective.draws, len(x))), 0).backward()
    return f"{peak_mebibytes() - before:8,.0f} MiB {time.perf_counter() - started:6.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--chunk", type=int, help="measure this one setting (0: none)")
    arguments = parser.parse_args()
    if arguments.chunk is not None:
        print(one_step(arguments.k, arguments.chunk or None, arguments.batch))
        return
    for chunk in (0, 8):
        command = [sys.executable, "-m", "benchmarks.chunk", f"--k={arguments.k}", f"--batch={arguments.batch}"]
        printed = subprocess.run([*command, f"--chunk={chunk}"], check=True, capture_output=True, text=True).stdout
        print(f"k = {arguments.k}, batch {arguments.batch}, chunk {chunk or 'none':>4}: {printed.strip()}")


if __name__ == "__main__":
    main()
