"""What a run leaves behind holds nothing of the environment, and escapes what its user typed."""

from pathlib import Path

import pytest

from commands import run_train

MARKER = "s3cr3t-0123456789abcdef0123456789abcdef0123"
TINY = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "network.hidden_sizes=[8]", "latent_size=2"]


def train_with_secrets(*arguments: str) -> None:
    secrets = dict.fromkeys(("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "SOME_TOKEN"), MARKER)
    done = run_train(*TINY, *arguments, **secrets)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_no_secret_is_written_into_a_run_or_a_sweep(tmp_path: Path) -> None:
    train_with_secrets(f"hydra.run.dir={tmp_path / 'run'}")
    train_with_secrets("-m", "seed=1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.suffix == ".wandb" for file in files)
    for file in files:
        assert MARKER.encode() not in file.read_bytes(), file


@pytest.mark.slow
def test_a_report_escapes_what_was_typed(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><!--<script>{{CHARTS}}"
    train_with_secrets("-m", "seed=1,2", "logger=csv", f"name='{evil}'", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    page = (tmp_path / "sweep" / "report.html").read_text()
    assert "alert(1)" in page, "the name is shown"
    assert "<script>alert" not in page
    # The browser must see as many scripts as the page has by itself.
    assert page.count("<!--<script") == 0
    assert page.count("</script>") == 3
