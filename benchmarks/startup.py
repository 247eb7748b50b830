"""python -m benchmarks.startup: the seconds until `train.py --help` has answered, and until a run's first step."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parents[1]
FIRST_STEP = """
import os, runpy, sys, threading, time

def end_at_second_step():
    while not hasattr(sys.modules.get("vae.training.module"), "VAEModule"):
        time.sleep(0.01)
    module = sys.modules["vae.training.module"].VAEModule
    forward = module.forward
    module.forward = lambda self, *given: os._exit(0) if self.trainer.global_step else forward(self, *given)

threading.Thread(target=end_at_second_step, daemon=True).start()
sys.argv = ["train.py", *sys.argv[1:]]
runpy.run_path("train.py", run_name="__main__")
"""
"""A program that ends the process where its second step would begin, and imports nothing else itself."""


def seconds(*command: str) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, check=True, capture_output=True, env=dict(os.environ)
    )
    return time.perf_counter() - started


def measure(turns: int = 5) -> dict[str, float]:
    """Return the medians over the turns."""
    with tempfile.TemporaryDirectory() as folder:
        found = [
            (seconds("train.py", "--help"), seconds("-c", FIRST_STEP, f"hydra.run.dir={folder}/{turn}"))
            for turn in range(turns)
        ]
    return {"help": median(f for f, _ in found), "first_step": median(s for _, s in found)}


if __name__ == "__main__":
    print(measure())
