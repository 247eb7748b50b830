"""python -m benchmarks.training [WORKLOAD …] [--turns 5] [--threads N]: images per second against what others do.

The contenders of a workload (`benchmarks.contender`) are processes that take turns, an epoch each, while the
others wait. pythae is one of them where it is installed (the extra `bench`).
"""

import argparse
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.spread import spread
from benchmarks.workload import WORKLOADS, composed, write_images


class Process:
    """A contender in its own process.

    Args:
        workload: the name of the workload.
        contender: the name of the contender.
        folder: the folder of the images.
        threads: the number of threads of its operations.
    """

    def __init__(self, workload: str, contender: str, folder: str, threads: int):
        self.name = f"{contender} of {workload}"
        command = [sys.executable, "-m", "benchmarks.contender", workload, contender, folder, str(threads)]
        self.log = Path(folder, f"{contender}.log").open("w+", encoding="utf-8")  # noqa: SIM115 (it lives as long as the process)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1
        )
        self.hear()

    def hear(self) -> list[str]:
        """Return the words of its next line."""
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        if not words:
            self.log.seek(0)
            raise RuntimeError(f"{self.name} ended:\n{self.log.read()[-3000:]}")
        return words

    def epoch(self) -> tuple[float, int]:
        """Train for one more epoch, and return its seconds and steps."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        seconds, steps = self.hear()
        return float(seconds), int(steps)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(name: str, turns: int, threads: int) -> dict[str, Any]:
    """Return each contender's images per second (medians), and how many times as fast the framework is.

    The ratios are taken turn by turn.
    """
    workload = WORKLOADS[name]
    others = [other for other in workload.contenders if other != "pythae" or find_spec("pythae")]
    contenders = ["framework", *others]
    with tempfile.TemporaryDirectory() as folder:
        write_images(workload, Path(folder))
        batch = composed(workload, Path(folder)).data.batch_size
        processes: dict[str, Process] = {}
        try:
            for contender in contenders:
                processes[contender] = Process(name, contender, folder, threads)
            speed: dict[str, list[float]] = {contender: [] for contender in contenders}
            for turn in range(turns + 1):
                for contender, process in processes.items():
                    seconds, steps = process.epoch()
                    if turn:  # the first turn is a warm-up
                        speed[contender].append(steps * batch / seconds)
        finally:
            for process in processes.values():
                process.end()
    images = {contender: round(median(values)) for contender, values in speed.items()}
    found = {
        "threads": threads,
        "turns": turns,
        "images_per_second": images,
        "framework_over": {other: ratio(speed["framework"], speed[other]) for other in others},
    }
    if "compiled" in others:
        found["compiled_over"] = {"bare": ratio(speed["compiled"], speed["bare"])}
    return found


def ratio(speeds: list[float], others: list[float]) -> dict[str, float]:
    """Return the median, the least and the most of the ratios within the turns."""
    return spread([own / other for own, other in zip(speeds, others, strict=True)])


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", nargs="*", choices=[*WORKLOADS, []], default=list(WORKLOADS))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    for name in arguments.workload:
        print(name, measure(name, arguments.turns, arguments.threads), flush=True)


if __name__ == "__main__":
    main()
