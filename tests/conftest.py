"""Shape annotations are checked while testing, and every test starts from the same draws."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

REPOSITORY = Path(__file__).resolve().parents[1]
# What a machine has set for its user would reach the tests, and the processes that they start.
DATA = os.environ.get("REAL_DATA") or os.environ.get("DATA_DIR")
OF_THE_USER = (
    *("DATA_DIR", "CACHE_DIR", "WEIGHTS_DIR", "WANDB_", "HYDRA_", "PL_", "RAY_", "MPL", "TORCH_"),
    *("SLURM_", "SBATCH_", "MASTER_", "WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK", "TORCHELASTIC_"),
    *("PYTHONWARNINGS", "PYTHONSAFEPATH", "PYTHONSTARTUP", "PYTHONINSPECT", "VAE_TRUST"),
)
for name in [name for name in os.environ if name.startswith(OF_THE_USER)]:
    del os.environ[name]
# Workers of pytest-xdist begin with what is left of the environment.
os.environ |= {"REAL_DATA": DATA} if DATA else {}
# Found by the processes too, wherever this is installed or not.
os.environ["PYTHONPATH"] = str(REPOSITORY / "src")
# Lines on progress come as time passes: which of them there are depends on the machine.
os.environ["VAE_PROGRESS"] = "off"
# Where it is noted which folders of configs the user has named.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp()
# Set before torch is imported: the models are tiny, and where test processes outnumber the cores, OpenMP's threads
# would spend their time waiting for one another.
os.environ["OMP_NUM_THREADS"] = "1"
install_import_hook("vae", "typechecking.typechecked")

import torch  # noqa: E402  the hook must come before anything that imports vae
from hydra import compose, initialize_config_dir  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

import vae.command.command  # noqa: E402, F401  the resolvers that conf/ asks for
from vae.paths import CONF  # noqa: E402


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_command_before() -> None:
    """What Hydra keeps of a command that an earlier test ran in this process, `train` would take for its own."""
    HydraConfig.instance().cfg = None


@pytest.fixture
def real_data() -> Path:
    """Where DATA_DIR says that there are real sets of images, for tests that need one."""
    if DATA is None:
        pytest.skip("DATA_DIR is not set")
    return Path(DATA)


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
