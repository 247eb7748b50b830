"""python -m benchmarks.startup: seconds until `train.py --help` has answered, and until a run's first step."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parents[1]
FIRST_STEP = """
import os, runpy, sys, time
from lightning import LightningModule
from vae.module import VAEModule
loss = VAEModule._loss
def first(self, batch):
    if self.trainer.global_step:
        os._exit(0)
    return loss(self, batch)
VAEModule._loss = first
sys.argv = ["train.py", *sys.argv[1:]]
runpy.run_path("train.py", run_name="__main__")
"""
"""Ends the process where its second step would begin."""


def seconds(*command: str) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, check=True, capture_output=True, env=dict(os.environ)
    )
    return time.perf_counter() - started


def measure(turns: int = 5) -> dict[str, float]:
    """Medians over the turns."""
    with tempfile.TemporaryDirectory() as folder:
        found = [
            (seconds("train.py", "--help"), seconds("-c", FIRST_STEP, f"hydra.run.dir={folder}/{turn}"))
            for turn in range(turns)
        ]
    return {"help": median(f for f, _ in found), "first_step": median(s for _, s in found)}


if __name__ == "__main__":
    print(measure())
