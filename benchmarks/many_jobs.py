"""What sweeps of many jobs cost: python -m benchmarks.many_jobs [jobs=1000] [seconds=1] [kills=2] [key=value …].

Launches jobs that only sleep and leave what a run leaves, in a process of its own, which is killed (SIGKILL) at
random moments and resumed. Prints the time, what the sweep added to each job, the driver's memory, the number of
files, and the time and the size of summary and report. Other keys, such as
hydra/launcher=joblib hydra.launcher.n_jobs=16, are given on.
"""

import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from omegaconf import DictConfig, OmegaConf

from vae.command.command import command
from vae.run.files import to_json, write_atomically
from vae.sweep.directory import SweepDirectory
from vae.sweep.report.write import write_report

SLEEP = "BENCHMARK_SECONDS"


@command("train")
def stand_in(config: DictConfig) -> float:
    """In place of a training: sleeps, and leaves a config, a curve and the final numbers.

    Without the imports of a training, which each process of SLURM's would make: they are no part of the sweep.
    """
    run = Path(config.paths.run)
    (run / ".hydra").mkdir(exist_ok=True)
    OmegaConf.save(config, run / ".hydra" / "config.yaml", resolve=True)
    time.sleep(float(os.environ[SLEEP]))
    value = -100 - config.seed % 97 / 10
    numbers = {f"{split}/{name}": value for split in ("val", "test") for name in ("elbo", "mse")}
    rows = [f"{epoch},{epoch},{-200 + epoch}" for epoch in range(60)]
    (run / "metrics.csv").write_text("\n".join(["step,epoch,train/elbo", *rows]), encoding="utf-8")
    metrics = numbers | {"epochs": 60, "steps": 60, "seconds": 1.0}
    # Whole or not at all, as a killed job's would be.
    write_atomically(run / "metrics.json", to_json(metrics) + "\n")
    return value


def main(jobs: int, seconds: float, kills: int, overrides: list[str]) -> None:
    """Launch, kill, resume, and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = SweepDirectory(Path(folder, "sweep"))
        common = ["logger=csv", "callback.pictures=null", f"hydra.sweep.dir={sweep.path}", *overrides]
        line = [sys.executable, "-m", "benchmarks.many_jobs", "driver", "-m", f"seed=range({jobs})", *common]
        environment = os.environ | {SLEEP: str(seconds)}
        began, draw = time.monotonic(), random.Random(0)
        for attempt in range(kills + 1):
            with subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL) as driver:
                before = done(sweep)
                target = before + draw.uniform(0.2, 0.5) * (jobs - before)
                memory = 0.0
                while driver.poll() is None:
                    memory = max(memory, megabytes(driver.pid))
                    if attempt < kills and done(sweep) >= target:
                        driver.kill()
                    time.sleep(0.5)
        took = time.monotonic() - began
        states = [sweep.job(job.name).state() for job in sweep.jobs()]
        files = [len(list(sweep.job(job.name).path.rglob("*"))) for job in sweep.jobs()]
        began = time.monotonic()
        write_report(sweep.path)
        reported = time.monotonic() - began
        workers = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"{len(states)} jobs, {states.count('done')} done, {kills} kills: {took:.0f} s, "
            f"{took / jobs:.2f} s a job; driver {memory:.0f} MB; "
            f"{(workers.ru_utime + workers.ru_stime) / jobs:.2f} s of CPU a job of processes that have ended; "
            f"{max(files)} files and folders a job\n"
            f"summary and report {reported:.1f} s, "
            f"{(sweep.path / 'summary.csv').stat().st_size / 1e6:.2f} and "
            f"{(sweep.path / 'report.html').stat().st_size / 1e6:.2f} MB"
        )


def done(sweep: SweepDirectory) -> int:
    """How many jobs have ended."""
    return len(list(sweep.path.glob("*/metrics.json")))


def megabytes(process: int) -> float:
    """The memory of a process."""
    try:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text(encoding="utf-8"))
    except OSError:
        return 0.0
    return int(found[1]) / 1e3 if found else 0.0


if __name__ == "__main__":
    if sys.argv[1:2] == ["driver"]:
        del sys.argv[1]
        stand_in()
    else:
        pairs = [argument.partition("=")[::2] for argument in sys.argv[1:]]
        given = {key: value for key, value in pairs if key in ("jobs", "seconds", "kills")}
        rest = [f"{key}={value}" for key, value in pairs if key not in given]
        main(int(given.get("jobs", 1000)), float(given.get("seconds", 1)), int(given.get("kills", 2)), rest)
