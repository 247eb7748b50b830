"""A sweep over a Ray cluster of three nodes, of which one is lost."""

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands import TRAIN, run_command, run_train, user_environment
from sweep.small_sweep import SMALL, folders_of, installed, same, summary_of
from vae.sweep.directory import SweepDirectory

ray_cluster = pytest.importorskip("ray.cluster_utils")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not installed("ray"), reason="hydra/launcher=ray is not installed"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes on this machine, of two CPUs and one GPU each, as far as Ray knows."""
    node = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": 80 << 20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAE_PROGRESS", "on")  # for the jobs, whose environment is that of their node
        patch.setenv("RAY_worker_niceness", "0")  # by default 15, which on a busy machine is next to nothing
        cluster = ray_cluster.Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
        try:
            for _ in range(2):
                cluster.add_node(**node)
            yield cluster
        finally:
            cluster.shutdown()


def raylet_of(process: int) -> int:
    """The process of the node on which a job's process runs."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_stack_is_one_job_of_rays(cluster: Any, tmp_path: Path) -> None:
    path, basic = tmp_path / "sweep", tmp_path / "basic"
    grid = ["-m", "seed=0,1", "objective.k=1,2", *SMALL]
    on_ray = ["hydra/launcher=ray", f"hydra.launcher.ray.init.address={cluster.address}", "sweep.members=auto"]
    done = run_train(*grid, *on_ray, "hydra.launcher.ray.remote.num_gpus=1", f"hydra.sweep.dir={path}")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    workers = {name: SweepDirectory(path).job(name).record()["pid"] for name in folders_of(path)}
    for k in (1, 2):
        assert workers[f"objective.k={k},seed=0"] == workers[f"objective.k={k},seed=1"]
    assert len({*workers.values()}) == 2
    assert run_train(*grid, f"hydra.sweep.dir={basic}").returncode == 0
    same(summary_of(path), summary_of(basic))


def test_a_sweep_goes_over_all_nodes_and_does_without_one(cluster: Any, tmp_path: Path) -> None:
    path, basic = tmp_path / "sweep", tmp_path / "basic"
    grid = ["-m", "seed=range(6)", *SMALL, "trainer.max_epochs=90"]
    on_ray = ["hydra/launcher=ray", f"hydra.launcher.ray.init.address={cluster.address}"]
    half = "hydra.launcher.ray.remote.num_gpus=0.5"
    directory = SweepDirectory(path)
    with subprocess.Popen(
        [sys.executable, TRAIN, *grid, *on_ray, half, f"hydra.sweep.dir={path}"],
        env=user_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 900
        while len(list(path.glob("*/checkpoints/last.ckpt"))) < 6:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        workers = [directory.job(f"seed={seed}").record()["pid"] for seed in range(6)]
        nodes = [raylet_of(worker) for worker in workers]
        # Two halves of a GPU, and so two jobs, on each node.
        assert sorted(Counter(nodes).values()) == [2, 2, 2]
        environments = [Path(f"/proc/{worker}/environ").read_text().split("\0") for worker in workers]
        assert not [line for each in environments for line in each if line.startswith("CUDA_VISIBLE_DEVICES=1")]
        running = [seed for seed in range(6) if directory.job(f"seed={seed}").state() == "running"]
        busy = {nodes[seed] for seed in running}
        lost = next(node for node in cluster.worker_nodes if raylet_process(node) in busy)
        victims = [seed for seed in running if nodes[seed] == raylet_process(lost)]
        cluster.remove_node(lost, allow_graceful=False)
        out, err = process.communicate(timeout=900)
    assert (process.returncode, err) == (0, ""), out + err
    for seed in range(6):
        job = directory.job(f"seed={seed}")
        assert job.record()["attempts"] == (2 if seed in victims else 1)
        assert len(re.findall("^epoch 1/90 ", job.log.read_text(), re.MULTILINE)) == 1
    assert run_command(TRAIN, *grid, f"hydra.sweep.dir={basic}", timeout=1800).returncode == 0
    assert summary_of(path) == summary_of(basic)


def raylet_process(node: Any) -> int:
    return node.all_processes["raylet"][0].process.pid
