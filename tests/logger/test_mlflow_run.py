"""MLflow against its own server on this machine: one run a run, through resume and evaluation."""

import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import QUICK, metrics_of, run_command, run_train
from vae.checks import ConfigError

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server, which keeps runs in a database and pictures in a folder."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    places = [f"--backend-store-uri=sqlite:///{folder}/runs.db", f"--artifacts-destination={folder}/artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", *places]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, "--workers=1"], stdout=log, stderr=log, cwd=folder)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/health").close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def run(server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, of which a third was trained afterwards, and that was evaluated."""
    folder = tmp_path_factory.mktemp("logged") / "run"
    given = [*QUICK, "logger=[csv,mlflow]", "metric.test.nll.k=2", "name=mine", f"hydra.run.dir={folder}"]
    for arguments in (given, [f"resume={folder}", "trainer.max_epochs=3"]):
        done = run_train(*arguments, MLFLOW_TRACKING_URI=server)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    given = [f"run={folder}", "k=3", "metric=default", "trainer.accelerator=cpu"]
    done = run_command("-m", "vae.evaluate", *given, folder=folder.parent, MLFLOW_TRACKING_URI=server)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return folder


def test_there_is_one_run_with_numbers_config_pictures_and_evaluation(run: Path, server: str) -> None:
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("vae")
    (found,) = client.search_runs([experiment.experiment_id], filter_string="attributes.run_name LIKE 'mine %'")
    assert found.info.status == "FINISHED"
    numbers = metrics_of(run)
    assert found.data.metrics["test/elbo"] == pytest.approx(numbers["test/elbo"])
    assert found.data.metrics["evaluation/nll_k"] == 3
    assert found.data.params["latent_size"] == "2"
    assert found.data.params["network.encoder._target_"] == "vae.network.mlp.MLPEncoder"
    history = client.get_metric_history(found.info.run_id, "val/elbo")
    assert [each.step for each in history][-1] == numbers["steps"]
    assert len(history) == 3
    pictures = [each.path for each in client.list_artifacts(found.info.run_id, "images")]
    assert any(re.search(r"\btest[#~]samples\b", path) for path in pictures), pictures


def test_a_database_is_made_without_a_word(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/mlflow.db"
    done = run_train(*QUICK, "logger=mlflow", f"hydra.run.dir={tmp_path / 'run'}", MLFLOW_TRACKING_URI=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "mlflow.db").exists()


def test_jobs_of_a_sweep_are_runs_with_its_tag(server: str, tmp_path: Path) -> None:
    given = ["-m", *QUICK, "logger=[csv,mlflow]", "callback=none", "seed=0,1", "trainer.max_epochs=1"]
    done = run_train(*given[:-1], f"hydra.sweep.dir={tmp_path / 'sweep'}", MLFLOW_TRACKING_URI=server)
    assert done.returncode == 0, done.stdout + done.stderr
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("vae")
    runs = client.search_runs([experiment.experiment_id], filter_string="tags.sweep LIKE 'digits-%'")
    assert {each.info.run_name for each in runs} == {"seed=0", "seed=1"}


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from vae.logger.mlflow_run import MLflowRun

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ConfigError, match=rf"logger\.mlflow\.tracking_uri={address}: cannot be used"):
        MLflowRun("vae", "one", "a1", address).experiment  # noqa: B018
