"""Every posterior with every prior, likelihood and objective that makes sense; what makes none is refused."""

from collections.abc import Callable

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from component_config import component_config
from drawn import loss_of, terms_for
from vae.checks import ConfigError
from vae.model import LatentModel
from vae.objective.elbo import ELBO
from vae.objective.iwae import IWAE
from vae.objective.objective import Objective
from vae.objective.reconstruction import Reconstruction
from vae.paths import CONF
from vae.training.build import _check_size, build_model, build_module, build_trainer, explained
from vae.training.combination import check_combination
from vae.training.execution import set_network_type

SHAPE, D = (1, 4, 4), 2
SMALL = {
    "posterior/vector_quantized": {"codes": 5, "code_size": 2},
    "posterior/finite_scalar": {"levels": [2, 3]},
    "prior/autoregressive": {"channels": 4, "layers": 2},
    "likelihood/pixelcnn": {"channels": 4, "layers": 2, "maps": 2},
    "posterior/spatial_gaussian": {"grid": [1, 2]},
    "posterior/flow": {"hidden_sizes": [4]},
    "prior/flow": {"hidden_sizes": [4]},
    "prior/vamp": {"components": 3},
    "prior/gaussian_mixture": {"components": 3},
}
DETERMINISTIC = ("finite_scalar", "vector_quantized")
CODED, OVER_CODES = ("categorical", "exact", *DETERMINISTIC), ("autoregressive", "categorical", "uniform")
OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "elbo": lambda: ELBO(kl="analytic"),
    "elbo_monte_carlo": lambda: ELBO(k=2, kl="monte_carlo"),
    "free_bits": lambda: ELBO(kl="analytic", free_bits=0.1),
    "iwae": lambda: IWAE(k=3),
    "iwae_stl": lambda: IWAE(k=3, gradient="stl"),
    "iwae_dreg_chunked": lambda: IWAE(k=3, gradient="dreg", chunk=2),
    "miwae_ciwae": lambda: IWAE(k=2, outer=2, elbo_weight=0.5),
    "reconstruction": Reconstruction,
}


def names(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def component(group: str, name: str) -> Callable[..., torch.nn.Module]:
    return instantiate(component_config(group, name), **SMALL.get(f"{group}/{name}", {}))


def build(posterior: str, prior: str, likelihood: str) -> LatentModel:
    network = component_config("network", "mlp")
    network.hidden_sizes = [] if posterior in ("exact", "independent") else [8]
    return LatentModel(
        SHAPE,
        1 if posterior == "exact" else D,
        instantiate(network.encoder),
        instantiate(network.decoder),
        component("posterior", posterior),
        component("prior", prior),
        component("likelihood", likelihood),
    )


def refusal(posterior: str, prior: str, likelihood: str, objective: str) -> str | None:
    """Why this combination makes no sense, in part of a line."""
    chunked = objective == "iwae_dreg_chunked"
    if likelihood == "gaussian_optimal" and chunked:
        return "objective.gradient=dreg: needs draws that do not depend on one another"
    if posterior == "delta" and objective != "reconstruction":
        return "posterior=delta has no density"
    if posterior == "independent" and prior == "vamp":
        return "prior=Vamp is a mixture of posteriors, and those of posterior=IndependentOfImage are all the same"
    if objective == "reconstruction" and prior not in ("standard_normal", "uniform"):
        return "objective=reconstruction does not train the prior"
    if posterior in DETERMINISTIC and ("iwae" in objective):
        return "objective=iwae compares draws of z"
    if posterior in DETERMINISTIC and objective == "elbo_monte_carlo":
        return "objective.k=2: must be 1"
    if posterior in CODED and posterior not in DETERMINISTIC and prior == "autoregressive":
        return "prior=Autoregressive: posterior=Categorical draws codes"
    if posterior in CODED and objective in ("iwae_stl", "iwae_dreg_chunked"):
        return "objective.gradient: must be standard"
    if objective == "free_bits" and (
        posterior not in ("diagonal_gaussian", "independent", "spatial_gaussian") or prior != "standard_normal"
    ):
        return "objective.free_bits: needs latents that are independent"
    gaussian = ("diagonal_gaussian", "full_gaussian", "independent", "spatial_gaussian")
    closed = posterior in gaussian and prior == "standard_normal"
    closed = closed or posterior in CODED
    if objective == "elbo" and not closed:
        return "objective.kl=analytic: this posterior and prior have no closed-form KL"
    return None


@pytest.mark.parametrize("prior", names("prior"))
@pytest.mark.parametrize("posterior", names("posterior"))
@pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_parameter_gets_a_finite_gradient_or_the_reason(posterior: str, prior: str, bf16: bool) -> None:
    if posterior == "exact" and prior == "autoregressive":
        with pytest.raises(ConfigError, match="prior=autoregressive: an image has a single code here"):
            build(posterior, prior, "bernoulli")
        return
    if (posterior in CODED) != (prior in OVER_CODES):
        with pytest.raises(ConfigError, match=r"is over (codes|vectors)"):
            build(posterior, prior, "bernoulli")
        return
    x = torch.randint(0, 2, (3, *SHAPE)).float()
    for likelihood in names("likelihood"):
        for name, make in OBJECTIVES.items():
            model, objective = build(posterior, prior, likelihood), make()
            reason = refusal(posterior, prior, likelihood, name)
            if reason is not None:
                with pytest.raises(ConfigError) as error:
                    check_combination(model, objective, "bytes")
                assert reason in str(error.value)
                assert "\n" not in str(error.value)
                continue
            check_combination(model, objective, "bytes")
            set_network_type(model, "bf16-mixed" if bf16 else "32-true")
            terms = terms_for(objective, model, x)
            assert {terms.log_px_z.dtype, *(values.dtype for values in terms.known.values())} == {torch.float32}
            loss = objective(terms, 0)
            if model.posterior.has_penalty:
                loss = loss + model.posterior.penalty(terms.q).mean()
            loss.backward()
            for parameter, value in model.named_parameters():
                where = f"{likelihood} {name} {parameter}"
                assert value.grad is not None, where
                assert value.grad.isfinite().all(), where


@pytest.mark.parametrize(
    "likelihood", [n for n in names("likelihood") if component("likelihood", n)(SHAPE).support == "bytes"]
)
def test_likelihood_over_256_levels_is_refused_on_binary_images(likelihood: str) -> None:
    model = build("diagonal_gaussian", "standard_normal", likelihood)
    with pytest.raises(ConfigError, match="over the 256 levels of a byte, and the images are binarised"):
        check_combination(model, ELBO(), "binary")


@pytest.mark.parametrize("likelihood", [n for n in names("likelihood") if "gaussian" not in n])
def test_values_outside_zero_and_one_are_refused(likelihood: str) -> None:
    model, x = build("diagonal_gaussian", "standard_normal", likelihood), torch.rand(3, *SHAPE)
    model.elbo(x)
    for score in (model.elbo, model.log_marginal):
        with pytest.raises(ConfigError, match=r"x: \w+ has no probability for values outside \[0, 1\]"):
            score(2 * x + 1)


LINES = [
    [
        "prior=vamp",
        "posterior=flow",
        "objective=iwae",
        "objective.gradient=dreg",
        "likelihood=discretized_logistic",
    ],
    ["prior=flow", "posterior=full_gaussian", "objective=iwae", "objective.outer=3", "objective.elbo_weight=0.5"],
    ["prior=gaussian_mixture", "objective.kl=monte_carlo", "objective/beta=target_rate", "corruption=box"],
    ["posterior=delta", "objective=reconstruction", "likelihood=gaussian_optimal", "corruption=mask"],
    ["posterior=flow", "posterior.kind=coupling", "objective.kl=monte_carlo", "objective/beta=cyclical"],
    ["objective.free_bits=0.5", "objective.k=4", "objective.chunk=3", "optimizer=adagrad", "scheduler=burda"],
    ["likelihood=bernoulli", "data.binarize=dynamic", "optimizer=adamax", "scheduler=cosine", "callback=ema"],
]


@pytest.mark.parametrize("overrides", LINES, ids=" ".join)
def test_the_product_composes_from_the_command_line(
    overrides: list[str], composed: Callable[..., DictConfig]
) -> None:
    config = composed(*overrides, "network.hidden_sizes=[16]")
    data = instantiate(config.data)
    module = build_module(config, data)
    data.setup()
    x = data.images("train", 4)[0]
    loss = loss_of(module.objective, module.model, x)
    loss.backward()
    assert loss.isfinite()


def test_clipping_a_fused_optimizer_with_float16_is_one_line(
    composed: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["trainer.precision=16-mixed", "trainer.gradient_clip_val=1", "logger=csv"]
    with pytest.raises(ConfigError, match=r"trainer\.precision=16-mixed: needs a GPU"):
        build_trainer(composed(*overrides))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(ConfigError, match=r"trainer\.gradient_clip_val=1: .*needs optimizer\.fused=false"):
        build_trainer(composed(*overrides))
    monkeypatch.undo()
    clipped = build_trainer(composed("trainer.precision=bf16-mixed", *overrides[1:]))
    assert clipped.gradient_clip_val == 1


@pytest.mark.parametrize(
    ("overrides", "kl"),
    [
        ([], "analytic"),
        (["prior=vamp"], "monte_carlo"),
        (["posterior=flow", "objective.k=2"], "monte_carlo"),
        (["posterior=full_gaussian"], "analytic"),
        (["posterior=vector_quantized", "prior=uniform"], "analytic"),
        (["objective.kl=monte_carlo"], "monte_carlo"),
    ],
)
def test_the_form_of_the_kl_is_chosen_where_the_user_does_not(
    overrides: list[str], kl: str, composed: Callable[..., DictConfig]
) -> None:
    config = composed(*overrides)
    objective = build_module(config, instantiate(config.data)).objective
    assert isinstance(objective, ELBO)
    assert (objective.kl, objective.uses_log_densities) == (kl, kl == "monte_carlo")


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true", "8"])
def test_other_precisions_are_one_line(precision: str, composed: Callable[..., DictConfig]) -> None:
    config = composed(f"trainer.precision={precision}")
    with pytest.raises(ConfigError, match=rf"trainer\.precision={precision}: must be one of 32-true, bf16-mixed"):
        build_module(config, instantiate(config.data))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prior=vamp", "objective.kl=analytic"], r"objective\.kl=analytic: .*use objective\.kl=monte_carlo"),
        (["posterior=delta"], r"posterior=delta has no density.*use objective=reconstruction"),
        (["likelihood=discretized_gaussian", "data.binarize=dynamic"], r"256 levels of a byte.*binarised"),
        (["likelihood=categorical", "data.binarize=threshold"], r"256 levels of a byte.*binarised"),
        (["prior=uniform"], r"prior=Uniform is over codes, and posterior=DiagonalGaussian gives vectors"),
        (
            ["posterior=categorical"],
            r"posterior=Categorical gives codes, and prior=StandardNormal is over vectors",
        ),
        (
            ["posterior=exact", "prior=uniform", "latent_size=1"],
            r"posterior=Exact uses no encoder, and this one has weights",
        ),
        (["likelihood.sigma=0"], r"likelihood\.sigma=0: must be a number above 0"),
        (["prior=gaussian_mixture", "prior.components=0"], r"prior\.components=0"),
        (["posterior=flow", "objective.kl=monte_carlo", "objective.free_bits=1"], r"objective\.free_bits: needs"),
    ],
)
def test_bad_combinations_are_one_line(
    overrides: list[str], message: str, composed: Callable[..., DictConfig]
) -> None:
    config = composed(*overrides)
    with pytest.raises(Exception, match=message):
        build_module(config, instantiate(config.data))


def test_more_draws_than_the_memory_holds_are_refused_before_one_is_made(
    composed: Callable[..., DictConfig],
) -> None:
    config = composed("objective=iwae", "objective.k=1000000000", "objective.chunk=999999999")
    line = r"objective\.k=1000000000, objective\.chunk=999999999: must be fewer draws, or fewer"
    with pytest.raises(ConfigError, match=line):
        build_module(config, instantiate(config.data))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["optimizer=sgd", "optimizer.nesterov=true", "optimizer.momentum=0"],
            "optimizer.momentum=0, optimizer.nester",
        ),
        (["+scheduler._target_=torch.optim.lr_scheduler.CyclicLR", "+scheduler._partial_=true"], "scheduler"),
    ],
)
def test_what_the_optimizer_refuses_is_named_by_its_keys(
    overrides: list[str], line: str, composed: Callable[..., DictConfig]
) -> None:
    config = composed(*overrides)
    with pytest.raises(ConfigError) as refused:
        build_module(config, instantiate(config.data))
    assert str(refused.value).startswith(line)


def test_a_librarys_error_is_explained_by_the_keys_that_it_is_about(composed: Callable[..., DictConfig]) -> None:
    config = composed("monitor.metric=val/nothing", "trainer.accelerator=cpu", "logger=none", "callback=none")
    trainer = build_trainer(config)
    memory = explained(config, trainer, RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"))
    assert str(memory).startswith(
        "objective.k=1, data.batch_size=64: must be smaller, or objective.chunk=null a num"
    )
    name = "`ModelCheckpoint(monitor='val/nothing')` could not find the monitored key"
    assert str(explained(config, trainer, ValueError(name))).startswith(
        "monitor.metric=val/nothing: must be one of"
    )
    other = RuntimeError("something else")
    assert explained(config, trainer, other) is other


# The other components are those of an experiment.
OPTIONS = [
    *(f"experiment={name}" for name in names("experiment")),
    *(f"network={name}" for name in names("network") if name != "spatial"),
    *(f"posterior={name}" for name in names("posterior") if name not in (*CODED, "flow", "spatial_gaussian")),
    *(f"prior={name}" for name in names("prior") if name not in (*OVER_CODES, "flow")),
    *(f"likelihood={name}" for name in names("likelihood")),
]


@pytest.mark.parametrize("option", OPTIONS)
def test_the_size_of_every_model_is_found_without_making_it(
    option: str, composed: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of tensors on the device `meta`, which have no values: what asks for one raises."""
    asked: list[int] = []
    monkeypatch.setattr("vae.training.build.ORDINARY", 0)
    monkeypatch.setattr("vae.training.build.check_memory", lambda what, size: asked.append(size))
    config, shape = composed(option), (1, 28, 28) if option.startswith("experiment") else (1, 8, 8)
    _check_size(config, shape)
    assert asked == [16 * sum(p.numel() for p in build_model(config, shape).parameters())]


@pytest.mark.parametrize("option", ["posterior=flow", "prior=flow"])
def test_a_model_whose_size_is_not_found_is_made_all_the_same(
    option: str, composed: Callable[..., DictConfig]
) -> None:
    config = composed(option, f"{option.partition('=')[0]}.hidden_sizes=[2049]", "latent_size=2")
    _check_size(config, (1, 8, 8))
    assert build_model(config, (1, 8, 8)).latent_size == 2
