"""Shape annotations are checked while testing, and every test starts from the same draws."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Set before torch is imported, and inherited by the processes that tests start: the models are tiny, and where
# test processes outnumber the cores, OpenMP's threads would spend their time waiting for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
install_import_hook("vae", "typechecking.typechecked")

import torch  # noqa: E402  the hook must come before anything that imports vae
from hydra import compose, initialize_config_dir  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

import vae.command.command  # noqa: E402, F401  the resolvers that conf/ asks for
from vae.paths import CONF  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    torch.manual_seed(0)


@pytest.fixture
def float64() -> Iterator[None]:
    """Identities are checked in double precision, so that a tolerance can be small."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def composed(tmp_path: Path) -> Callable[..., DictConfig]:
    """Compose conf/train.yaml with overrides, as train.py would, into a run directory in tmp_path."""

    def compose_train(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("train", [*overrides, f"paths.run={tmp_path}", "name=test"])

    return compose_train
