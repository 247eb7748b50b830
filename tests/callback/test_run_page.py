"""When run.html is written while a run trains."""

import itertools
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from lightning import LightningModule, Trainer

from vae.callback import run_page
from vae.callback.run_page import SECONDS, SHARE, RunPage


def test_the_pages_of_a_process_take_a_small_share_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a stack's members together: each by itself would be due every ten seconds."""
    clock = SimpleNamespace(now=1000.0)
    written = list[float]()

    def write(self: RunPage, *_: object) -> None:
        written.append(clock.now)
        self._tried = clock.now
        clock.now += 1

    monkeypatch.setattr(run_page.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(RunPage, "_free_at", 0.0)
    monkeypatch.setattr(RunPage, "_write", write)
    trainer, module = Mock(spec=Trainer, is_global_zero=True, current_epoch=0), Mock(spec=LightningModule)
    pages = [RunPage("somewhere") for _ in range(6)]
    for page in itertools.islice(itertools.cycle(pages), 6 * 300):
        clock.now += 0.5
        page.on_train_epoch_end(trainer, module)
    apart = [after - before for before, after in itertools.pairwise(written)]
    assert min(apart) >= 1 / SHARE > SECONDS
    assert len(written) >= 0.9 * SHARE * (clock.now - 1000)
