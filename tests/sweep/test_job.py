"""What one attempt at a job keeps and leaves, alone and beside another in the same process."""

import json
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from vae.command.interruption import Interrupted
from vae.sweep.directory import SweepDirectory
from vae.sweep.job import Attempt, JobError, TrialPruned
from vae.sweep.plan import make_job

NAMES = ("latent_size=2", "latent_size=3")


@pytest.fixture
def attempts(composed: Callable[..., DictConfig], tmp_path: Path) -> list[Attempt]:
    """Two jobs of one sweep, not begun."""
    directory = SweepDirectory(tmp_path / "sweep")
    jobs = [make_job({"latent_size": name[-1]}) for name in NAMES]
    directory.write(jobs, identity={}, metric="val/elbo", axes=["latent_size"], constants=[])
    return [Attempt(directory.path / name, composed(name), "basic", [name]) for name in NAMES]


def finish(attempt: Attempt, elbo: float | None) -> None:
    (attempt.job.path / "metrics.json").write_text(json.dumps({"val/elbo": elbo}))


def test_jobs_that_are_trained_together_keep_apart(attempts: list[Attempt]) -> None:
    first, second = attempts
    with ExitStack() as together:
        for attempt in attempts:
            together.enter_context(attempt)
            # Enough to train from, whatever becomes of Hydra's state.
            assert "${" not in OmegaConf.to_yaml(attempt.config)
            assert attempt.config.resume == str(attempt.job.path)
        assert [attempt.config.latent_size for attempt in attempts] == [2, 3]
        assert first.config.logger.wandb.id != second.config.logger.wandb.id
        assert first.config.logger.wandb.group == second.config.logger.wandb.group
        assert [attempt.job.state() for attempt in attempts] == ["running", "running"]
        first.fail(FloatingPointError("diverged"))
        assert (first.over, second.over) == (True, False)
        finish(second, -3.0)
    assert [attempt.job.state() for attempt in attempts] == ["failed", "done"]
    assert "FloatingPointError: diverged" in (first.job.path / "output.log").read_text()
    assert not (second.job.path / "output.log").exists()
    assert second.result() == -3.0
    with pytest.raises(JobError, match="latent_size=2: FloatingPointError: diverged"):
        first.result()


def test_a_signal_of_which_a_library_made_an_error_leaves_a_job_interrupted(attempts: list[Attempt]) -> None:
    with pytest.raises(Interrupted), attempts[0]:
        raise Interrupted(signal.SIGTERM) from OSError("broken data stream")
    assert attempts[0].job.state() == "interrupted"


def test_an_error_of_all_is_recorded_for_each(attempts: list[Attempt]) -> None:
    first, second = attempts
    with pytest.raises(MemoryError), first, second:
        raise MemoryError("no memory")
    assert [attempt.job.record()["reason"] for attempt in attempts] == ["MemoryError: no memory"] * 2


def test_how_an_attempt_ends(attempts: list[Attempt]) -> None:
    first, second = attempts
    with pytest.raises(KeyboardInterrupt), first:
        raise KeyboardInterrupt
    assert first.job.state() == "interrupted"
    with pytest.raises(TrialPruned), second:
        raise TrialPruned("val/elbo was -9 after epoch 3")
    assert second.job.state() == "pruned"
    assert "val/elbo was -9" in second.job.record()["reason"]


def test_what_was_wrong_in_a_rank_that_ends_its_process_is_recorded(attempts: list[Attempt]) -> None:
    first, second = attempts
    with pytest.raises(SystemExit), first:
        raise SystemExit(1) from TrialPruned("val/elbo was -9 after epoch 3")
    with pytest.raises(SystemExit), second:
        raise SystemExit(143)
    assert (first.job.state(), second.job.state()) == ("pruned", "interrupted")


def test_a_job_without_its_number_has_failed_and_one_that_is_done_is_left_alone(attempts: list[Attempt]) -> None:
    first, second = attempts
    with first:
        finish(first, None)
    assert first.job.state() == "failed"
    assert first.job.record()["reason"] == "FloatingPointError: val/elbo is not a finite number"
    with second:
        finish(second, -1.0)
    before = second.job.record()
    with second:
        assert second.over
    assert second.job.record() == before
