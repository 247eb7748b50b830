"""A step is the same on any number of ranks, also where the loss is no mean over images."""

import json

import pytest

from commands import run_command


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_have_the_loss_and_the_gradient_of_one(ranks: int) -> None:
    done = run_command("tests/training/step_of_ranks.py", str(ranks))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 8
    for name, differences in found.items():
        for what, difference in differences.items():
            assert difference < 3e-6, (name, what)
