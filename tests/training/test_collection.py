"""Libraries are imported without a search for garbage, which goes on afterwards, and only for what comes then."""

import gc
import json

import pytest

from commands import run_command
from vae.training.collection import without_search

PROCESS = """
import gc, json, sys
from vae.training.collection import without_search
states = [gc.isenabled()]
try:
    with without_search():
        states.append(gc.isenabled())
        sys.modules["torch"] = sys
        raise ImportError
except ImportError:
    states.append(gc.isenabled())
frozen = gc.get_freeze_count()
with without_search():
    states.append(gc.isenabled())

class Ring:
    alive = 0
    def __init__(self):
        self.ring = self
        Ring.alive += 1
    def __del__(self):
        Ring.alive -= 1

for _ in range(100_000):
    Ring()
print(json.dumps({"states": states, "frozen": frozen, "again": gc.get_freeze_count(), "alive": Ring.alive}))
"""


def test_searching_stops_for_the_first_imports_only() -> None:
    done = run_command("-c", PROCESS)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["states"] == [True, False, True, True]
    assert found["frozen"] == found["again"] > 1000
    assert found["alive"] < 10_000  # garbage made afterwards is found


def test_where_torch_is_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: pytest.fail("froze"))
    with without_search():
        assert gc.isenabled()
