"""Options of the training step change its speed or memory, not what is computed."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from commands import run_command
from vae.checks import ConfigError
from vae.metric.aggregate_posterior import AggregatePosterior
from vae.metric.evaluated_batch import EvaluatedBatch, Sizes
from vae.objective.elbo import ELBO
from vae.training.build import build_model, build_module, build_trainer
from vae.training.execution import Execution, compile_mode, set_matmul_precision, terms_of

Composed = Callable[..., DictConfig]
ALL = ["vae", "stl", "dreg", "conv", "chunked", "annealed", "vq", "gumbel"]
QUICK = ["trainer.accelerator=cpu", "latent_size=2", "logger=none", "callback=none"]


@pytest.mark.parametrize(
    ("backend", "models"),
    [
        # With inductor's decompositions, as compile=true has them. Without them torch 2.14 (not 2.11, not 2.15)
        # takes GroupNorm's result for NCHW where the CPU's kernel leaves it NHWC, and conv's backward pass fails.
        pytest.param("aot_eager_decomp_partition", ["vae", "conv"], id="graphs only"),
        pytest.param("aot_eager_decomp_partition", ALL, id="graphs only, all", marks=pytest.mark.slow),
        pytest.param("inductor", ALL, id="machine code", marks=pytest.mark.slow),
    ],
)
def test_compiled_training_is_one_graph_and_gives_the_same_weights(backend: str, models: list[str]) -> None:
    """Not compiled anew for the evaluation of each epoch, its shorter last batch, or the second epoch."""
    done = run_command("tests/training/compiled_training.py", backend, *models)
    assert done.returncode == 0, done.stderr
    for found in json.loads(done.stdout.splitlines()[-1]).values():
        assert found["graphs"] == 1
        assert found["breaks"] == 0
        assert found["whole"]
        assert found["difference"] < 1e-5


def test_recomputed_activations_are_not_kept_and_give_the_same_gradients(composed: Composed) -> None:
    config = composed(*QUICK, "network.hidden_sizes=[64,64]")
    x = torch.rand(16, 1, 8, 8)
    kept, gradients = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = build_model(config, (1, 8, 8))
        terms = terms_of(model, ELBO(k=5), Execution(recompute_decoder=recompute))
        sizes: list[int] = []
        keep: Callable[[list[int], Tensor], Tensor] = lambda sizes, t: (sizes.append(t.numel()), t)[1]  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(partial(keep, sizes), lambda t: t):
            loss = ELBO()(terms(x, model.encode(x), model.noise(5, len(x))), 0)
        loss.backward()
        kept.append(sum(sizes))
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    # Of five draws of 16 images, the decoder's two hidden layers and output.
    assert kept[1] < kept[0] - 5 * 16 * (64 + 64)


def test_recomputed_batch_normalisation_counts_a_step_once(composed: Composed) -> None:
    config = composed(*QUICK, "network=conv", "network.norm=batch", "network.base_width=4")
    x, states, gradients = torch.rand(8, 1, 8, 8), [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = build_model(config, (1, 8, 8))
        terms = terms_of(model, ELBO(), Execution(recompute_decoder=recompute))
        ELBO()(terms(x, model.encode(x), model.noise(1, len(x))), 0).backward()
        states.append(model.state_dict())
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize(
    ("option", "mode"),
    [
        (False, None),
        (None, None),
        (True, "default"),
        ({"mode": None}, None),
        ({"mode": "reduce-overhead"}, "reduce-overhead"),
    ],
)
def test_ways_to_ask_for_compilation(option: Any, mode: str | None) -> None:
    assert compile_mode(option) == mode


@pytest.mark.parametrize("option", ["yes", 1, {"mode": "fast"}])
def test_no_such_compilation(option: Any) -> None:
    with pytest.raises(ConfigError, match="compile"):
        compile_mode(option)


def test_no_truth_value(composed: Composed) -> None:
    config = composed(*QUICK, "recompute_decoder=maybe")
    with pytest.raises(ConfigError, match="recompute_decoder=maybe: must be true or false"):
        build_module(config, instantiate(config.data))


@pytest.fixture
def _matmul_precision_afterwards() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("_matmul_precision_afterwards")
def test_every_run_of_a_process_has_its_own_matmul_precision(composed: Composed, tmp_path: Path) -> None:
    """As the jobs of a sweep are: `train.py`'s own function, one after the other."""
    from vae.train import train

    seen = []
    for override in (["matmul_precision=medium"], ["matmul_precision=high"], []):
        short = ["trainer.max_epochs=1", "network.hidden_sizes=[8]", "callback.pictures=null"]
        config = composed(*QUICK[:3], *short, *override)
        config.paths.run = str(tmp_path / f"{len(seen)}")
        train.__wrapped__(config)  # type: ignore[attr-defined]
        seen.append(torch.get_float32_matmul_precision())
    assert seen == ["medium", "high", "highest"]


@pytest.mark.usefixtures("_matmul_precision_afterwards")
def test_no_such_matmul_precision() -> None:
    set_matmul_precision("medium")
    with pytest.raises(ConfigError, match="matmul_precision=low: must be one of highest, high, medium"):
        set_matmul_precision("low")
    assert torch.get_float32_matmul_precision() == "medium"


def test_posterior_means_and_the_aggregate_posterior_are_float32_beside_bfloat16(composed: Composed) -> None:
    """What the test loop measures is what is worked out from q(z|x) outside of it, to the last bit."""
    seen: list[EvaluatedBatch] = []

    class Keep(AggregatePosterior):
        def update(self, batch: EvaluatedBatch) -> None:
            seen.append(batch)
            super().update(batch)

    overrides = ("posterior=flow", "objective.kl=monte_carlo", "network.hidden_sizes=[8]", "metric=default")
    config = composed(*QUICK, *overrides, "trainer.precision=bf16-mixed")
    data, trainer = instantiate(config.data), build_trainer(config)
    module = build_module(config, data, trainer)
    module.replace_test_metrics({"aggregate_posterior": Keep(Sizes((1, 8, 8), 2, discrete=False))})
    trainer.test(module, data, verbose=False)
    again = AggregatePosterior(Sizes((1, 8, 8), 2, discrete=False))
    with torch.no_grad():
        for batch in seen:
            assert batch.posterior_mean.dtype == batch.q.sample().dtype == torch.float32
            assert torch.equal(batch.posterior_mean, batch.q.mean)
            again.update(batch)
    for name, value in again.compute().items():
        assert float(value) == module.latest[f"test/{name}"]
    # And these would be others in bfloat16.
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(seen[0].posterior_mean, seen[0].q.mean)
