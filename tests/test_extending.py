"""Parts of one's own, in a folder outside the repository: those of docs/extending.md, and the template's."""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.distributions import kl_divergence

from commands import REPOSITORY, TWO_RANKS, Ended, call_command, run_command, user_environment, weights_of
from sweep.small_sweep import installed
from vae import load_model
from vae.checks import ConfigError
from vae.command.override import override
from vae.new.__main__ import create
from vae.random import draw_key, set_draws
from vae.run.directory import RunDirectory
from vae.sweep.directory import SweepDirectory
from vae.training.build import build_module, build_trainer
from vae.training.module import VAEModule

Composed = Callable[..., DictConfig]
Fitted = tuple[VAEModule, list[nn.Module], list[Any]]

PAGE = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
QUICK = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "logger=csv", "metric.test.nll.k=2"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with every file of the page, in which Python looks for packages."""
    folder = tmp_path_factory.mktemp("a researcher's")
    for path, content in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.S):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    (folder / "my_parts" / "__init__.py").touch()
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def documented() -> list[str]:
    """The arguments of the page's last command."""
    line = re.findall(r"```\nPYTHONPATH=\. vae-train (.*?)\n```", PAGE, re.S)[-1]
    return shlex.split(line)


def train(project: Path, *arguments: str) -> Ended:
    return call_command("vae.train", *arguments, *QUICK, folder=project)


def test_every_part_of_the_page_is_trained_read_and_shown(project: Path) -> None:
    arguments, run = documented(), project / "run"
    assert "trust=[my_parts]" in arguments
    done = train(project, *arguments, override("hydra.run.dir", run))
    assert done.returncode == 0, done.stderr
    assert "1 epochs were counted" in done.stdout
    assert json.loads((run / "metrics.json").read_text())["test/absolute_error"] > 0
    assert RunDirectory(run).arguments()[0] == f"--config-dir={project / 'conf'}"
    with pytest.raises(ConfigError, match=r"trust=\[my_parts\] does"):
        load_model(run)
    model = load_model(run, trust=["my_parts"])
    assert type(model.model.likelihood).__name__ == "LaplaceLikelihood"
    assert model.sample(3).shape == (3, 1, 8, 8)
    assert torch.isfinite(model.log_marginal(torch.zeros(2, 1, 8, 8), k=3).log_px).all()
    refused = call_command("vae.sample", f"run={run}", folder=project)
    assert refused.returncode == 1
    assert "trust=[my_parts]" in refused.stderr
    sampled = call_command("vae.sample", f"run={run}", "trust=[my_parts]", "n=4", folder=project)
    assert sampled.returncode == 0, sampled.stderr


def test_a_network_that_is_told_labels_is_trained_evaluated_and_shown(project: Path) -> None:
    (line,) = re.findall(r"vae-train (.*network=conditional)", PAGE)
    run = project / "conditional"
    done = train(project, *shlex.split(line), override("hydra.run.dir", run))
    assert done.returncode == 0, done.stderr
    assert {file.stem for file in (run / "images").glob("*.png")} == {"reconstructions", "samples"}
    model = load_model(run, trust=["my_parts"])
    x, label = torch.rand(4, 1, 8, 8), [1, 2, 3, 4]
    assert not torch.equal(model.reconstruct(x, label), model.reconstruct(x, [2, 2, 3, 4]))
    torch.testing.assert_close(
        model.decode(torch.zeros(6), 3).mean, model.images_of(torch.zeros(2, 6), label=3)[1]
    )
    assert torch.isfinite(model.log_marginal(x, k=3, label=label).log_px).all()
    torch.testing.assert_close(model.sample(20, seed=1), model.sample(20, seed=1, label=range(10)))
    assert not torch.equal(model.sample(20, seed=1), model.sample(20, seed=1, label=7))
    for wrong, why in ((None, "label=null"), (10, "label=10: must be"), ([1, 2], "one for all, or 4 of them")):
        with pytest.raises(ConfigError, match=why):
            model.reconstruct(x, wrong)
    given = [f"run={run}", "trust=[my_parts]"]
    evaluated = call_command("vae.evaluate", *given, "k=20", "log=false", folder=project)
    assert evaluated.returncode == 0, evaluated.stderr
    again = json.loads((run / "evaluation.json").read_text())["metrics"]
    before = json.loads((run / "metrics.json").read_text())
    assert again["test/elbo"] == pytest.approx(before["test/elbo"], rel=1e-5)
    assert again["test/nll"] < before["test/nll"]  # from 20 draws and from 2
    sampled = call_command("vae.sample", *given, "picture=[samples,reconstructions]", "label=3", folder=project)
    assert sampled.returncode == 0, sampled.stderr
    refused = call_command("vae.sample", *given, "picture=interpolation", folder=project)
    assert refused.returncode == 1
    assert "label=null: ConditionalEncoder is told the class of each image" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    graph = call_command("vae.export.__main__", *given, "to=onnx", folder=project)
    assert "cannot be of a model that is told labels" in graph.stderr


@pytest.mark.parametrize(
    ("library", "choice", "latent_shape"),
    [
        ("timm", ["network=timm", "network.encoder.model=test_resnet"], (6,)),
        (
            "diffusers",
            ["network=autoencoder_kl", "network.widths=[8,16]", "posterior=spatial_gaussian", "latent_size=32"],
            (2, 4, 4),
        ),
    ],
)
def test_a_librarys_network_is_trained_and_used(
    library: str, choice: list[str], latent_shape: tuple[int, ...], project: Path
) -> None:
    pytest.importorskip(library)
    run = project / library
    given = ["--config-dir=conf", "trust=[my_parts]", *choice, "callback=none", *QUICK]
    search = os.pathsep.join([str(REPOSITORY / "src"), str(project), os.environ.get("PYTHONPATH", "")])
    command = ["-m", "vae.train", *given, override("hydra.run.dir", run)]
    done = run_command(*command, folder=project, PYTHONPATH=search)
    assert done.returncode == 0, done.stderr
    model, x = load_model(run, trust=["my_parts"]), torch.rand(3, 1, 8, 8)
    assert model.latent_shape == latent_shape
    z = model.encode(x).mean
    if library == "diffusers":
        maps = model.maps(z)
        assert maps.shape == (3, *latent_shape)
        assert torch.equal(model.decode(maps).mean, model.reconstruct(x))
    for part in (model.model.encoder, model.model.decoder):
        part.train().requires_grad_(True)
    terms = model.model.terms(x, model.model.encode(x), model.model.noise(1, 3))
    terms.elbo.sum().backward()
    assert all(parameter.grad is not None for parameter in model.model.parameters())


FACTOR = {"_target_": "my_parts.factor.FactorVAE", "latent_size": 6, "gamma": 2.0, "lr": 1e-3}


def fit_factor(
    composed: Composed, folder: Path, epochs: int, *overrides: str, resume: Path | None = None
) -> Fitted:
    """A FactorVAE, and what each step was given: x, what is seen of it, noise; and the batch's key."""
    small = ["network.hidden_sizes=[16]", "callback.pictures=null", f"trainer.max_epochs={epochs}"]
    config = composed(*QUICK, *small, "data.batch_size=128", *overrides)
    config.objective, config.paths.run = FACTOR, str(folder)
    OmegaConf.resolve(config)
    torch.manual_seed(0)
    data, trainer = instantiate(config.data), build_trainer(config)
    module = build_module(config, data, trainer)
    losses, take = module.losses, module.own_step.take
    steps, keys, start = list[Any](), list[int](), list[Any]()

    def noted(*arguments: Any) -> Any:
        start.extend([] if start else [deepcopy(module.model), deepcopy(module.objective.log_odds)])
        steps.append(arguments[:3])
        return losses(*arguments)

    def taken(key: int) -> None:
        keys.append(key)
        take(key)

    module.losses, module.own_step.take = noted, taken
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return module, start, list(zip(steps, keys, strict=True))


@pytest.mark.parametrize("at_once", ["1", "auto"])
def test_an_objective_with_an_optimiser_of_its_own_makes_the_steps_of_a_plain_loop(
    at_once: str, project: Path, composed: Composed, tmp_path: Path
) -> None:
    module, (model, log_odds), steps = fit_factor(composed, tmp_path, 2, f"steps_at_once={at_once}")
    model.requires_grad_(True)
    log_odds.requires_grad_(True)
    first, second = module.optimizer(model.parameters()), torch.optim.Adam(log_odds.parameters(), 1e-3, (0.5, 0.9))
    for (x, seen, noise), key in steps:
        q = model.encode(seen)
        z = model.draw(q, noise)[0]
        rate, log_px = kl_divergence(q, model.p_z()), model.decode(z).log_prob(x)
        first.zero_grad()
        (rate - log_px + 2.0 * log_odds(z).squeeze(1)).mean().backward()
        first.step()
        set_draws(draw_key("own step", key), x.device)
        z = z.detach()
        permuted = torch.stack([z[torch.randperm(len(z)), d] for d in range(z.shape[1])], 1)
        true, false = log_odds(z).sigmoid(), log_odds(permuted).sigmoid()
        second.zero_grad()
        (-0.5 * (true.log().mean() + (1 - false).log().mean())).backward()
        second.step()
    assert len(steps) == 18
    for ours, expected in ((module.model, model), (module.objective.log_odds, log_odds)):
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(parameter, expected.get_parameter(name), atol=1e-5, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in module.objective.parameters())
    assert math.isfinite(module.latest["val/loss"])


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")  # it is resumed
def test_a_resumed_run_goes_on_with_the_second_optimiser_to_the_last_bit(
    project: Path, composed: Composed, tmp_path: Path
) -> None:
    whole = fit_factor(composed, tmp_path / "whole", 2)[0]
    fit_factor(composed, tmp_path / "parts", 1)
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    resumed = fit_factor(composed, tmp_path / "parts", 2, resume=last)[0]
    states = whole.state_dict(), resumed.state_dict()
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []
    optimizers = whole.own_step.state_dict()["state"], resumed.own_step.state_dict()["state"]
    for ours, expected in zip(*(state.values() for state in optimizers), strict=True):
        assert all(torch.equal(ours[key], expected[key]) for key in expected)
        assert ours["step"] == 18


def test_two_ranks_train_both_as_one_does(project: Path) -> None:
    given = ["--config-dir=conf", "objective=factor", "trust=[my_parts]", "callback=none", *QUICK]
    weights = []
    for ranks in (["trainer.devices=1"], TWO_RANKS):
        run = project / f"factor_{len(weights)}"
        command = ["-m", "vae.train", *given, *ranks, override("hydra.run.dir", run)]
        done = run_command(*command, folder=project, PYTHONPATH=f"{REPOSITORY / 'src'}:{project}")
        assert done.returncode == 0, done.stderr
        weights.append(weights_of(run))
    assert any(key.startswith("objective.log_odds") for key in weights[0])
    for key, expected in weights[0].items():
        torch.testing.assert_close(weights[1][key], expected, atol=2e-4, rtol=1e-3, msg=key)


def test_a_package_that_is_not_trusted_is_refused_before_anything_is_trained(project: Path) -> None:
    arguments = [argument for argument in documented() if not argument.startswith("trust")]
    done = train(project, *arguments, override("hydra.run.dir", project / "refused"))
    assert done.returncode == 1
    assert "is code of the package my_parts" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (project / "refused" / ".hydra").exists()


def test_a_sweep_remembers_the_folder_of_its_configs_and_asks_who_never_named_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sweep = project / "sweep"
    given = ["--config-dir", "conf", "likelihood=laplace", "trust=[my_parts]", "latent_size=2,3", *QUICK]
    command = [*given, "callback=none", override("hydra.sweep.dir", sweep)]
    done = call_command("vae.train", "-m", *command, folder=project)
    assert done.returncode == 0, done.stderr + done.stdout
    conf = f"--config-dir={project / 'conf'}"
    assert "--config-dir=" in (sweep / "report.html").read_text()
    again = call_command("vae.train", f"resume={sweep}", "trust=[my_parts]", "sweep.dry_run=true", folder=project)
    assert again.returncode == 0, again.stderr
    assert "2 done" in again.stdout
    untrusted = call_command("vae.train", f"resume={sweep}", "seed=0,1", folder=project)
    assert untrusted.returncode == 1
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    stranger = call_command("vae.train", f"resume={sweep}", "trust=[my_parts]", folder=project)
    assert stranger.returncode == 1
    assert f"type {conf}" in stranger.stderr
    typed = ["--config-dir", str(project / "conf"), "trust=[my_parts]", "sweep.dry_run=true"]
    named = call_command("vae.train", f"resume={sweep}", *typed, folder=project)
    assert named.returncode == 0, named.stderr


def test_a_stack_has_parts_of_ones_own(project: Path) -> None:
    stacked = ["hydra/launcher=stacked", "hydra.launcher.processes=1", "callback=none"]
    given = ["--config-dir", "conf", "likelihood=laplace", "trust=[my_parts]", "seed=0,1", *QUICK, *stacked]
    done = call_command("vae.train", "-m", *given, override("hydra.sweep.dir", project / "stacks"), folder=project)
    assert done.returncode == 0, done.stderr + done.stdout


def test_further_folders_of_configs_are_remembered_as_well(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    further, sweep = tmp_path / "more, conf", tmp_path / "sweep"
    (further / "likelihood").mkdir(parents=True)
    text = (project / "conf" / "likelihood" / "laplace.yaml").read_text()
    (further / "likelihood" / "narrow.yaml").write_text(text.replace("0.1", "0.05"))
    given = ["--config-dir", "conf", f"hydra.searchpath=['file://{further}']", "likelihood=laplace,narrow"]
    command = [*given, "trust=[my_parts]", *QUICK, "callback=none", override("hydra.sweep.dir", sweep)]
    done = call_command("vae.train", "-m", *command, folder=project)
    assert done.returncode == 0, done.stderr + done.stdout
    saved = json.loads((sweep / "sweep.json").read_text())["arguments"]
    assert saved[:2] == [f"--config-dir={project / 'conf'}", f"hydra.searchpath=['file://{further}']"]
    assert "hydra.searchpath=" in (sweep / "report.html").read_text()
    resume = [f"resume={sweep}", "trust=[my_parts]", "sweep.dry_run=true"]
    again = call_command("vae.train", *resume, folder=project)
    assert again.returncode == 0, again.stderr
    assert "2 done" in again.stdout
    job = OmegaConf.load(sweep / "likelihood=narrow" / ".hydra" / "config.yaml")
    assert job.likelihood.scale == 0.05
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "nobody"))
    stranger = call_command("vae.train", *resume, f"--config-dir={project / 'conf'}", folder=project)
    assert stranger.returncode == 1
    assert "type 'hydra.searchpath=[…]' if you trust it" in stranger.stderr


def test_the_template_is_a_project_that_passes_its_own_test_and_trains(tmp_path: Path) -> None:
    project = create("her_idea", tmp_path)
    names = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    assert {"pyproject.toml", "her_idea/likelihood.py", "conf/likelihood/laplace.yaml"} < names
    assert not any("my_project" in path.read_text() for path in project.rglob("*") if path.is_file())
    search = f"{REPOSITORY / 'src'}:{project}"
    tested = run_command("-m", "pytest", "-q", "-p", "no:cacheprovider", folder=project, PYTHONPATH=search)
    assert tested.returncode == 0, tested.stdout
    sys.path.insert(0, str(project))
    try:
        arguments = ["--config-dir=conf", "experiment=laplace", "trust=[her_idea]", "callback=none"]
        done = train(project, *arguments, override("hydra.run.dir", project / "run"))
        assert done.returncode == 0, done.stderr
        assert load_model(project / "run", trust=["her_idea"]).latent_size == 8
    finally:
        sys.path.remove(str(project))


@pytest.mark.slow
def test_from_the_template_to_a_table_as_the_page_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sweep that is interrupted before it is moved."""
    if not installed("joblib"):
        pytest.skip("hydra/launcher=joblib is not installed")
    project = create("my_project", tmp_path)
    # In place of an installation of the package.
    search = {"PYTHONPATH": f"{REPOSITORY / 'src'}:{project}", "VAE_TRUST": "my_project"}
    block = re.search(r"^```\n(vae-train -m .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert block is not None
    sweep, move, *later = [shlex.split(line) for line in block[1].splitlines()]
    quick = ["trainer.max_epochs=4", "network.hidden_sizes=[16]", "logger=csv", "callback=none"]
    with subprocess.Popen(
        [sys.executable, "-m", sweep[0].replace("-", "."), *sweep[1:], *quick, "hydra.launcher.n_jobs=1"],
        cwd=project,
        env=user_environment(**search),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not list(project.glob("runs/sweep/*/metrics.json")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, ""), out + err
    assert move == ["mv", "runs/sweep", "runs/moved"]
    (project / move[1]).rename(project / move[2])
    for program, *arguments in later:
        done = run_command("-m", program.replace("-", "."), *arguments, folder=project, **search)
        assert (done.returncode, done.stderr) == (0, ""), (program, done.stdout + done.stderr)
    moved = SweepDirectory(project / move[2])
    assert [*moved.states(moved.jobs()).values()] == 4 * ["done"]
    table = (project / "table.tex").read_text()
    assert table.count(r"\\") >= 3
    assert "evaluation/nll" in table
    monkeypatch.syspath_prepend(str(project))
    (exported,) = project.glob("runs/moved/*/export/hub")
    assert load_model(exported, trust=["my_project"]).sample(2).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("name", "why"), [("a-b", "a package's name"), ("class", "a package's name"), ("torch", "is installed")]
)
def test_a_project_needs_a_name_of_its_own(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=why):
        create(name, tmp_path)
    assert list(tmp_path.iterdir()) == []
    create("mine", tmp_path)
    with pytest.raises(ConfigError, match="already"):
        create("mine", tmp_path)
