"""Runs that are trained as one program equal the runs that they would be alone."""

import copy
import csv
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.nn.functional import pad

from vae.command.interruption import Interrupted
from vae.data import Batch
from vae.posterior.spatial_gaussian import SpatialGaussian
from vae.training.build import build_module, build_trainer
from vae.training.meeting import Meeting
from vae.training.module import VAEModule
from vae.training.stack import Feed, StackedRuns, may_be_padded, obstacle

Composed = Callable[..., DictConfig]
QUICK = ["trainer.accelerator=cpu", "logger=none", "callback=none"]
TRAINED = ["network.hidden_sizes=[16]", "trainer.accelerator=cpu", "logger=csv", "callback.pictures=null",
           "callback.progress=null"]  # fmt: skip
SEEDS = [["seed=2"], ["seed=6"]]
ALIKE = {
    "σ": [["likelihood.sigma=0.1"], ["likelihood.sigma=0.3", "seed=1"], ["likelihood.sigma=1"]],
    "latent sizes": [["latent_size=2"], ["latent_size=8"], ["latent_size=5"]],
    "latent sizes, sampled KL": [["objective=iwae", "objective.k=5", f"latent_size={d}"] for d in (6, 2)],
    "learning rates": [["optimizer.lr=0.01"], ["optimizer.lr=0.001"], ["optimizer.lr=0.001", "seed=2"]],
    "weight decay": [["optimizer=adamw", "optimizer.weight_decay=0.1"], ["optimizer=adamw"]],
    "β": [["objective.beta=0.5"], ["objective.beta=4"], []],
    "free bits": [["objective.free_bits=0.05"], ["objective.free_bits=0.5"]],
    "least σ": [[f"likelihood=gaussian_learned likelihood.min_sigma={m}"] for m in (0.01, 0.1)],
    "σ at the start": [["posterior.init_sigma=0.5"], ["posterior.init_sigma=0.1"], ["posterior.init_sigma=1"]],
    "σ at the start, 1 first": [["posterior.init_sigma=1"], ["posterior.init_sigma=0.1"]],
    "a least σ that is a whole number": [
        [f"likelihood=gaussian_learned likelihood.init_sigma=2 likelihood.min_sigma={m}"] for m in (1, 0.01)
    ],
    "weight of the elbo": [["objective=iwae", "objective.k=3", f"objective.elbo_weight={w}"] for w in (0.2, 0.5)],
    "target rate": [["objective/beta=target_rate", "objective.beta.target_rate=3", *s] for s in SEEDS],
    "schedule": [["objective/beta=linear", "objective.beta.steps=9", *s] for s in SEEDS],
}
for group, options in {
    "likelihood": ["bernoulli", "categorical", "continuous_bernoulli", "discretized_gaussian",
                   "discretized_logistic", "gaussian_optimal", "gaussian_per_pixel"],
    "posterior": ["flow", "full_gaussian"],
    "prior": ["flow", "gaussian_mixture", "vamp"],
    "optimizer": ["adagrad", "adamax", "sgd"],
    "network": ["gated_mlp"],
}.items():  # fmt: skip
    sampled = ["objective.kl=monte_carlo"] if group in ("posterior", "prior") else []
    ALIKE |= {f"{group}={name}": [[f"{group}={name}", *sampled, *s] for s in SEEDS] for name in options}
ALIKE["objective=iwae stl"] = [["objective=iwae", "objective.k=3", "objective.gradient=stl", *s] for s in SEEDS]
ALIKE["objective=iwae dreg"] = [["objective=iwae", "objective.k=3", "objective.gradient=dreg", *s] for s in SEEDS]
ALIKE["network=conv"] = [["network=conv", "network.base_width=32", "network.max_width=32", *s] for s in SEEDS]


def modules(composed: Composed, members: list[list[str]]) -> list[VAEModule]:
    made = []
    for overrides in members:
        words = [word for override in overrides for word in override.split()]
        mlp = [] if "network=conv" in words else ["network.hidden_sizes=[16]"]
        config = composed(*QUICK, *mlp, *words)
        seed_everything(config.seed, verbose=False)
        made.append(build_module(config, instantiate(config.data)))
    return made


def noises(runs: list[VAEModule], step: int, images: int) -> list[Tensor]:
    drawn = []
    for run in runs:
        torch.manual_seed(1000 * step + run.model.latent_size)
        drawn.append(run.model.noise(run.objective.draws, images))
    return drawn


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented the batching")
def test_steps_together_are_those_of_each_alone(name: str, composed: Composed, float64: None) -> None:
    """After ten steps, the weights, what the optimisers hold, and what was logged."""
    together = modules(composed, ALIKE[name])
    alone = copy.deepcopy(together)
    own = [run.optimizer(run.parameters()) for run in alone]
    joint = [run.optimizer(run.parameters()) for run in together]
    assert all(obstacle(run.model, run.objective) is None for run in together)
    stack, widest = StackedRuns(together, joint), max(run.model.latent_size for run in together)
    for step in range(10):
        x, drawn = torch.rand(6, 1, 8, 8).mul(255).round().div(255), noises(alone, step, 6)
        if "bernoulli" in name:
            x = x.round()
        losses = []
        for run, optimizer, noise in zip(alone, own, drawn, strict=True):
            loss, _, rate = run.forward(x, x, noise, step)
            losses.append(loss.detach())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if run.objective.adapts:
                run.objective.after_step(rate)
        padded = torch.stack([pad(noise, (0, widest - noise.shape[-1])) for noise in drawn])
        taken = stack.step(x, x, padded, torch.tensor(step))
        torch.testing.assert_close(taken.loss, torch.stack(losses), rtol=1e-9, atol=1e-9)
    stack.write_back()
    for run, other, optimizer, other_optimizer in zip(alone, together, own, joint, strict=True):
        torch.testing.assert_close(other.state_dict(), run.state_dict(), rtol=1e-9, atol=1e-10)
        for p, q in zip(run.parameters(), other.parameters(), strict=True):
            state, other_state = optimizer.state[p], other_optimizer.state[q]
            assert state.keys() == other_state.keys()
            for key, value in state.items():
                torch.testing.assert_close(other_state[key], value, rtol=1e-8, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize("captured", [False, True])
def test_a_feed_draws_what_each_run_draws_alone(captured: bool, composed: Composed) -> None:
    """Two keys and two numbers of latents: three streams, in two turns."""
    dynamic = ["likelihood=bernoulli", "data.binarize=dynamic", "corruption=mask"]
    runs = modules(composed, [[*dynamic, f"latent_size={d}"] for d in (3, 2, 3, 2)])
    for run in runs:
        run.cuda()
    feed = Feed(3, captured)
    for turn in range(2):
        image = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8, device="cuda")
        keys = [7 + turn, 7 + turn, 2**62 + turn, 7 + turn]
        x, seen, noise = feed(
            [(run, Batch(image, image[:, 0, 0, 0].long(), key, True)) for run, key in zip(runs, keys, strict=True)]
        )
        for n, (run, key) in enumerate(zip(runs, keys, strict=True)):
            torch.cuda.manual_seed(key)
            own = run.data.to_x(image)
            torch.testing.assert_close(x[n], own, rtol=0, atol=0)
            torch.testing.assert_close(seen[n], run.corruption(own), rtol=0, atol=0)
            latents = run.model.latent_size
            torch.testing.assert_close(noise[n][..., :latents], run.model.noise(1, 5), rtol=0, atol=0)
            assert not noise[n][..., latents:].any()


@pytest.mark.parametrize(
    "members",
    [
        ALIKE["latent sizes"],
        [["likelihood=gaussian_learned", "optimizer=adagrad", "latent_size=8", *s] for s in SEEDS],
        [["likelihood=gaussian_learned", "latent_size=8", *s] for s in SEEDS],
        [["objective/beta=target_rate", "objective.beta.target_rate=3", "latent_size=8", *s] for s in SEEDS],
    ],
    ids=["latent sizes", "adagrad", "a number for a parameter", "target rate"],
)
@pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented the batching")
def test_a_stack_goes_on_from_the_states_of_its_members(
    members: list[list[str]], composed: Composed, float64: None
) -> None:
    """Three steps together, three apart, and three together again are nine steps."""
    once, twice = (modules(composed, members) for _ in range(2))
    optimizers = [[run.optimizer(run.parameters()) for run in runs] for runs in (once, twice)]
    whole = StackedRuns(once, optimizers[0])
    for part in range(3):
        stack = StackedRuns(twice, optimizers[1])
        for step in range(3 * part, 3 * part + 3):
            x = torch.rand(4, 1, 8, 8)
            noise = torch.stack([pad(n, (0, 8 - n.shape[-1])) for n in noises(once, step, 4)])
            for each in (whole, stack):
                each.read()
                each.step(x, x, noise, torch.tensor(step))
        stack.write_back()
    whole.write_back()
    for one, other in zip(once, twice, strict=True):
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=1e-12, atol=1e-12)


def test_gradients_are_clipped_run_by_run(composed: Composed, float64: None) -> None:
    together = modules(composed, ALIKE["σ"])
    alone = copy.deepcopy(together)
    for run in together:
        run.clip = 0.5
    stack = StackedRuns(together, [run.optimizer(run.parameters()) for run in together])
    x, drawn = torch.rand(4, 1, 8, 8), noises(alone, 0, 4)
    norms = []
    for run, noise in zip(alone, drawn, strict=True):
        optimizer = run.optimizer(run.parameters())
        run.forward(x, x, noise, 0)[0].backward()
        norms.append(torch.nn.utils.clip_grad_norm_(run.parameters(), 0.5))
        optimizer.step()
    taken = stack.step(x, x, torch.stack(drawn), torch.tensor(0))
    torch.testing.assert_close(taken.norm, torch.stack(norms))
    stack.write_back()
    for run, other in zip(alone, together, strict=True):
        torch.testing.assert_close(other.state_dict(), run.state_dict(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["network=conv", "network.norm=batch"], "batch normalisation"),
        (["objective=iwae", "objective.k=4", "objective.chunk=2"], "objective.chunk"),
    ],
)
def test_what_cannot_be_stacked_says_why(overrides: list[str], why: str, composed: Composed) -> None:
    (run,) = modules(composed, [overrides])
    assert why in str(obstacle(run.model, run.objective))


def test_what_is_not_compiled_in_a_stack_says_why(composed: Composed) -> None:
    (run,) = modules(composed, [["objective=iwae", "objective.gradient=dreg"]])
    assert obstacle(run.model, run.objective) is None
    assert "compile=false" in str(obstacle(run.model, run.objective, compiled=True))


def test_only_independent_latents_without_free_bits_are_padded(composed: Composed) -> None:
    plain, bits, full = modules(composed, [[], ["objective.free_bits=0.1"], ["posterior=full_gaussian"]])
    assert [may_be_padded(run.model, run.objective) for run in (plain, bits, full)] == [True, False, False]


def test_maps_are_not_padded(composed: Composed) -> None:
    (run,) = modules(composed, [[]])
    assert may_be_padded(run.model, run.objective)
    run.model.posterior = SpatialGaussian(16, 16, (4, 4))
    assert not may_be_padded(run.model, run.objective)


def fitted(composed: Composed, folder: Path, *overrides: str) -> VAEModule:
    """A whole training, by itself or, in a meeting, together."""
    config = composed(*TRAINED, *overrides)
    config.paths.run = str(folder)
    OmegaConf.resolve(config)
    seed_everything(config.seed, verbose=False)
    data, trainer = instantiate(config.data), build_trainer(config)
    module, last = build_module(config, data, trainer), folder / "checkpoints" / "last.ckpt"
    trainer.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=True)
    return module


def rows(folder: Path) -> Iterator[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            yield {name: float(value) for name, value in row.items() if value}


MEMBERS = [
    ["likelihood.sigma=0.1", "scheduler=cosine"],
    ["likelihood.sigma=0.3", "seed=1", "scheduler=cosine"],
    ["latent_size=2", "optimizer.lr=0.01", "scheduler=cosine"],
]


def test_whole_trainings_leave_what_each_would_leave_alone(composed: Composed, tmp_path: Path) -> None:
    common = ["trainer.max_epochs=3", "trainer.log_every_n_steps=7", "callback.watch.every_n_epochs=1"]
    alone = [fitted(composed, tmp_path / f"alone{n}", *common, *own) for n, own in enumerate(MEMBERS)]
    tasks = [lambda n=n: fitted(composed, tmp_path / f"{n}", *common, *MEMBERS[n]) for n in range(len(MEMBERS))]
    together = Meeting([""] * len(tasks)).run(tasks)
    for n, (one, other) in enumerate(zip(alone, together, strict=True)):
        assert isinstance(other, VAEModule), other
        torch.testing.assert_close(other.state_dict(), one.state_dict(), rtol=1e-4, atol=1e-5)
        expected = list(rows(tmp_path / f"alone{n}"))
        assert list(rows(tmp_path / f"{n}")) == [pytest.approx(row, rel=1e-3, abs=1e-4) for row in expected]
        last = [
            torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
            for name in (f"alone{n}", f"{n}")
        ]
        assert last[0]["loops"] == last[1]["loops"]
        assert last[0].keys() == last[1].keys()


def test_one_that_diverges_or_stops_early_touches_no_other(composed: Composed, tmp_path: Path) -> None:
    common = ["trainer.max_epochs=3", "trainer.log_every_n_steps=5"]
    own = [["seed=3"], ["likelihood.sigma=1e-30"], ["trainer.max_epochs=1"]]
    alone = [fitted(composed, tmp_path / f"alone{n}", *common, *own[n]) for n in (0, 2)]
    tasks = [lambda n=n: fitted(composed, tmp_path / f"{n}", *common, *own[n]) for n in range(3)]
    first, diverged, short = Meeting([""] * len(tasks)).run(tasks)
    assert isinstance(diverged, FloatingPointError)
    assert "the training has diverged at step 1 (epoch 1, batch 0)" in str(diverged)
    assert "σ 1e-30" in str(diverged)
    for one, other in zip(alone, (first, short), strict=True):
        torch.testing.assert_close(other.state_dict(), one.state_dict(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_members_that_are_behind_catch_up(composed: Composed, tmp_path: Path) -> None:
    """As where a sweep was killed while some of its jobs had saved an epoch more."""
    whole = [fitted(composed, tmp_path / f"whole{n}", "trainer.max_epochs=3", f"seed={n}") for n in (0, 1)]
    fitted(composed, tmp_path / "0", "trainer.max_epochs=1", "seed=0")

    tasks = [lambda n=n: fitted(composed, tmp_path / f"{n}", "trainer.max_epochs=3", f"seed={n}") for n in (0, 1)]
    together = Meeting([""] * len(tasks)).run(tasks)
    for one, other in zip(whole, together, strict=True):
        assert isinstance(other, VAEModule), other
        torch.testing.assert_close(other.state_dict(), one.state_dict(), rtol=1e-4, atol=1e-5)


def test_an_interruption_ends_every_member(composed: Composed, tmp_path: Path) -> None:
    ended: list[str] = []

    def member(n: int) -> None:
        try:
            fitted(composed, tmp_path / str(n), "trainer.max_epochs=2", f"seed={n}")
        except Interrupted:
            ended.append(f"{n}")
            raise

    meeting = Meeting([""] * 3)

    def interrupted(*arguments: object) -> None:
        raise Interrupted(signal.SIGTERM)

    meeting._stacked = interrupted  # type: ignore[method-assign, assignment]
    with pytest.raises(Interrupted):
        meeting.run([lambda n=n: member(n) for n in range(3)])
    assert sorted(ended) == ["0", "1", "2"]
