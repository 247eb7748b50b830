"""TensorBoard's event files: the numbers, pictures and config of a run, its resume and its evaluation."""

from pathlib import Path

import pytest

from commands import QUICK, call_command, metrics_of

pytest.importorskip("tensorboard")
GIVEN = [*QUICK, "logger=[csv,tensorboard]", "metric.test.nll.k=2", "hydra.run.dir=run"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, of which a third was trained afterwards, and that was evaluated."""
    folder = tmp_path_factory.mktemp("logged")
    done = call_command("vae.train", *GIVEN, folder=folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    done = call_command("vae.train", "resume=run", "trainer.max_epochs=3", folder=folder)
    assert done.returncode == 0, done.stderr
    given = ["run=run", "k=3", "metric=default", "trainer.accelerator=cpu"]
    done = call_command("vae.evaluate", *given, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_it_has_the_numbers_pictures_and_config_of_the_run(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    numbers = metrics_of(run)
    assert found.Scalars("test/elbo")[-1].value == pytest.approx(numbers["test/elbo"])
    steps = [event.step for event in found.Scalars("val/elbo")]
    assert steps == sorted(steps)
    assert steps[-1] == numbers["steps"]
    assert {"val/samples", "test/samples", "test/reconstructions"} <= set(found.Tags()["images"])
    assert found.Images("test/samples")[-1].width > 50
    assert "config/text_summary" in found.Tags()["tensors"]
    evaluated = (run / "evaluation.json").read_text()
    assert f"{found.Scalars('evaluation/nll_k')[0].value:g}" == "3"
    assert "test/nll_k" in evaluated
    assert not (run / "tensorboard" / "hparams.yaml").exists()
