"""The wheel, installed where there is no repository: its commands train, measure and draw from any folder."""

import shlex
import subprocess
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import QUICK, REPOSITORY, TWO_RANKS, run_command, user_environment

pytestmark = pytest.mark.slow
FAST = [*QUICK[1:], "trainer.max_epochs=1", "logger=csv", "callback.pictures=null"]
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    # Without isolation, so that nothing is downloaded.
    done = run_command("-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY), folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def call(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Run a command of the wheel, which is all that its environment has beside what this one has installed."""
    root = tmp_path_factory.mktemp("installed")
    venv.create(root / "venv", symlinks=True)
    scripts = root / "venv" / "bin"
    site = next((root / "venv" / "lib").glob("python*")) / "site-packages"
    # The libraries of the environment that tests; of this project the wheel comes first.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    options = ["--no-deps", "--no-index", "--ignore-installed", str(next(built.glob("*.whl")))]
    done = run_command("-m", "pip", "--python", str(scripts / "python"), "install", *options, folder=root)
    assert done.returncode == 0, done.stderr
    folder = root / "it's any földer"
    folder.mkdir()
    environment = user_environment()
    del environment["PYTHONPATH"]

    def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(scripts / command), *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    where = run("python", "-c", "import vae; print(vae.__file__)").stdout
    assert where.startswith(str(site)), where
    return run


def test_it_holds_the_package_and_its_configs_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = set()
    for sources, prefix in ((REPOSITORY / "src", ""), (REPOSITORY / "conf", "vae/conf/")):
        files = [file for file in sources.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        expected |= {f"{prefix}{file.relative_to(sources)}" for file in files}
    assert names == expected
    assert {"vae/conf/train.yaml", "vae/page/assets/charts.js", "hydra_plugins/vae_sweep.py"} <= names
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        packed = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"conf/train.yaml", "train.py", "tests/conftest.py", "README.md", "LICENSE"} <= packed


def test_every_script_starts(call: Call) -> None:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        scripts = tomllib.load(file)["project"]["scripts"]
    assert {"vae-train", "vae-evaluate", "vae-sample", "vae-sweep-report", "vae-reproduce"} <= scripts.keys()
    for script in scripts:
        done = call(script, *([] if script == "vae-sweep-report" else ["--help"]))
        assert done.returncode == (1 if script == "vae-sweep-report" else 0), done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "ranks"),
    [(["vae-train"], []), (["vae-train"], TWO_RANKS), (["python", "-m", "vae.train"], TWO_RANKS)],
    ids=["script", "script of two ranks", "module of two ranks"],
)
def test_a_run_is_trained_resumed_measured_and_drawn(command: list[str], ranks: list[str], call: Call) -> None:
    done = call(*command, *FAST, *ranks, "name=wheel")
    assert (done.returncode, done.stderr) == (0, "")
    model = next(line for line in done.stdout.splitlines() if line.lstrip().startswith("model"))
    run = model.split(maxsplit=1)[1]
    assert "it's any földer/runs/wheel/" in run
    again = call(*command, f"resume={run}", "trainer.max_epochs=2")
    assert (again.returncode, again.stderr) == (0, "")
    for measured in (["vae-evaluate", f"run={run}", "k=2", "metric=default"], ["vae-sample", f"run={run}", "n=4"]):
        done = call(*measured)
        assert done.returncode == 0, done.stderr


def test_a_sweep_goes_on_by_the_command_that_it_prints(call: Call) -> None:
    done = call("vae-train", "-m", "data.val_size=200,5000", *FAST, "name=swept")
    assert (done.returncode, done.stderr) == (1, "")
    (line,) = [line for line in done.stdout.splitlines() if line.lstrip().startswith("go on")]
    _, _, script, resume = shlex.split(line)
    assert call(script, resume).returncode == 1
    folder = resume.removeprefix("resume=")
    report = call("vae-sweep-report", f"dir={folder}")
    assert (report.returncode, report.stderr) == (0, "")
