"""What every key of every command's config may be, in one place.

Groups mirror conf/. Of an object that Hydra makes (`_target_`) the arguments stand under its class, so that they
are known wherever it is put. Tests hold this against conf/ in both directions, against the signatures of the
classes, and against the checks that the components make themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vae.checks import NULL, TRUE_OR_FALSE, Kind, ListOf, Number, Several, Text, Whole, one_of


@dataclass(frozen=True)
class Place(Kind):
    """A path. A `~` at its beginning stands for a home."""

    allowed: str = "a path"

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and value != "" and "\0" not in value


@dataclass(frozen=True)
class Group(Kind):
    """Keys that must all be there, keys that may, and whether there may be others."""

    keys: Mapping[str, Kind]
    further: Mapping[str, Kind] | None = None
    open: bool = False

    @property
    def allowed(self) -> str:
        return f"a group of {', '.join(self.keys)}" if self.keys else "nothing"

    def accepts(self, value: object) -> bool:
        return isinstance(value, dict)


@dataclass(frozen=True)
class Members(Kind):
    """Things of one kind, each under a name that one may choose."""

    kind: Kind

    @property
    def allowed(self) -> str:
        return f"a group in which each is {self.kind.allowed}"

    def accepts(self, value: object) -> bool:
        return isinstance(value, dict)


@dataclass(frozen=True)
class Component(Kind):
    """An object that Hydra makes of a class and its arguments.

    group: whose classes it may be of (vae.run.trust).
    given: arguments that it gets from the program.
    is_partial: whether they come later.
    target: its class, if the config does not name one.
    required: arguments that the program reads itself.
    may_be_empty: whether nothing at all may stand there.
    filled: arguments for whose null the program has a value.
    what: it is called, if not as its group is.
    """

    group: str
    given: tuple[str, ...] = ()
    is_partial: bool = False
    target: str | None = None
    required: tuple[str, ...] = ()
    may_be_empty: bool = False
    filled: tuple[str, ...] = ()
    what: str = ""

    @property
    def allowed(self) -> str:
        what = self.what or self.group
        article = "an" if what[0] in "aeio" else "a"
        return f"{article} {what}, with its class as {{_target_: …}} and its arguments"

    def accepts(self, value: object) -> bool:
        return isinstance(value, dict)


@dataclass(frozen=True)
class Network(Kind):
    """An encoder and a decoder, and beside them arguments that both take from there."""

    encoder: Component
    decoder: Component
    allowed: str = "a network, of an encoder and a decoder"

    def accepts(self, value: object) -> bool:
        return isinstance(value, dict)


def _later(group: str, *given: str, may_be_empty: bool = False) -> Component:
    return Component(group, given, is_partial=True, may_be_empty=may_be_empty)


AUTO = one_of("auto")
WORDS = Text()
PLACE = Place()
ID = Text("letters, digits and any of . _ -", r"[\w.-]{1,64}")
NUMBERS = Text("their numbers, as in '0,1'", r"\d+(,\d+)*")
SEED = Whole(0)
POSITIVE = Number(above=0)
AT_LEAST_0 = Number(minimum=0)
SHARE = Number(minimum=0, maximum=1)
SIZES = ListOf(Whole())
GRID = ListOf(Whole(), length=2)
BUDGETS = ("short", "normal", "long")
EPOCHS = Whole(-1)
K = AUTO | Whole()
FEATURES = NULL | Text("inception, a file or <module>:<name>")
DRAWN_FROM = one_of("posterior", "defensive")
SPLIT = one_of("train", "val", "test")
CHECKPOINT = one_of("best", "last")
TRUST = ListOf(Text("the name of a package, as in trust=[my_project]"))

PICTURE = one_of(
    *("samples", "reconstructions", "interpolation", "traversal", "manifold", "codes", "neighbors", "progress"),
    *("attribute", "all"),
)
FORM = one_of("grid", "single", "npz")

TRAINER = "lightning.pytorch.Trainer"
DATA = Component("data", what="set of images")
METRICS = Members(NULL | _later("metric", "sizes"))
TRAIN = Group(
    {
        "name": Text("text; a number in quotes, as in name='\"3\"'"),
        "seed": SEED,
        "steps_at_once": AUTO | Whole(),
        "threads": AUTO | Whole(),
        "compile": NULL
        | TRUE_OR_FALSE
        | Group(
            {
                "mode": NULL
                | one_of(
                    *("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", "cuda-graph")
                )
            }
        ),
        "recompute_decoder": TRUE_OR_FALSE,
        "matmul_precision": one_of("highest", "high", "medium"),
        "init": one_of("torch", "glorot_uniform", "glorot_weights"),
        "start_from_mean": one_of("auto", True, "grey", False),
        "latent_size": Whole(1, 2**20),
        "budget": one_of(*BUDGETS),
        "suits": Group(
            {
                "latent_size": Whole(1, 2**20),
                "classes": NULL | Whole(2),
                "sigma": POSITIVE,
                "hidden_sizes": SIZES,
                "epochs": Group(dict.fromkeys(BUDGETS, EPOCHS)),
                "sweep_epochs": Group(dict.fromkeys(BUDGETS, EPOCHS)),
            },
            further={"train_images": Group(dict.fromkeys(BUDGETS, NULL | Whole()))},
            open=True,
        ),
        "fit_prior_to": NULL | Place("a run directory"),
        "monitor": Group({"metric": WORDS, "mode": one_of("max", "min")}),
        "on_nan": one_of("stop", "skip"),
        "on_nan_limit": Whole(0),
        "sweep_metric": WORDS,
        "resume": NULL | PLACE,
        "overwrite": TRUE_OR_FALSE,
        "trust": TRUST,
        "open": TRUE_OR_FALSE,
        "paths": Group({"data": PLACE, "cache": PLACE, "weights": PLACE, "run": PLACE}),
        "sweep": Group(
            {"dry_run": TRUE_OR_FALSE, "jobs": ListOf(Text("overrides with spaces in between"))},
            further={"members": NULL | AUTO | Whole()},
        ),
        "data": DATA,
        "corruption": Component("corruption"),
        "network": Network(
            encoder=_later("network", "image_shape"), decoder=_later("network", "latent_size", "param_shape")
        ),
        "posterior": _later("posterior", "features", "latent_size"),
        "prior": _later("prior", "latent_size", "image_shape"),
        "likelihood": _later("likelihood", "image_shape"),
        "objective": Component("objective"),
        "metric": Group({"val": METRICS, "test": METRICS}, further={"fid": Group({"features": FEATURES})}),
        "callback": Members(NULL | Component("callback")),
        "optimizer": _later("optimizer", "params"),
        "scheduler": _later("scheduler", "optimizer", may_be_empty=True),
        "trainer": Component(
            "trainer",
            target=TRAINER,
            given=("callbacks", "logger", "plugins", "enable_progress_bar"),
            required=(
                *("max_epochs", "max_steps", "devices", "strategy", "precision"),
                *("log_every_n_steps", "gradient_clip_val", "default_root_dir"),
            ),
        ),
        "logger": Members(NULL | Component("logger")),
    },
    # What conf/metric reads from the top, where vae.evaluate has it.
    further={"k": K, "chunk": K, "proposal": DRAWN_FROM, "features": FEATURES},
)
EVALUATE = Group(
    {
        "run": Text("a run directory, or a glob in quotes"),
        "trust": TRUST,
        "checkpoint": CHECKPOINT,
        "split": SPLIT,
        "k": Whole(),
        "chunk": K,
        "proposal": DRAWN_FROM,
        "batch_size": Whole(),
        "seed": SEED,
        "features": FEATURES,
        "log": TRUE_OR_FALSE,
        "out": NULL | PLACE,
        "metric": TRAIN.keys["metric"],
        "trainer": Component(
            "trainer",
            target=TRAINER,
            given=(
                *("callbacks", "logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"),
                "use_distributed_sampler",
            ),
        ),
        "paths": Group({"data": NULL | PLACE, "cache": PLACE, "weights": PLACE}),
    },
    further={"data": NULL | Component("data", filled=("path",), what="set of images")},
)
SAMPLE = Group(
    {
        "run": Place("a run directory"),
        "trust": TRUST,
        "checkpoint": CHECKPOINT,
        "picture": NULL | Several(PICTURE),
        "n": Whole(),
        "seed": SEED,
        "source": one_of("prior", "density"),
        "components": Whole(),
        "temperature": AT_LEAST_0,
        "label": NULL | Several(Whole(0)),
        "show": one_of("means", "samples"),
        "images": NULL | Several(PLACE),
        "interpolation": one_of("linear", "spherical"),
        "steps": Whole(2),
        "animation": NULL | one_of("gif", "mp4"),
        "attribute": NULL | WORDS,
        "format": one_of("png", "pdf", "svg"),
        "save": Several(FORM),
        "out": NULL | PLACE,
        "paths": Group({"data": NULL | PLACE, "cache": PLACE}),
    }
)
FEATURES_COMMAND = Group(
    {
        "data": DATA,
        "steps": Whole(),
        "lr": POSITIVE,
        "seed": SEED,
        "paths": Group({"data": PLACE, "cache": PLACE, "weights": PLACE}),
    }
)
BASELINES = Group(
    {
        "data": DATA,
        "split": SPLIT,
        "latent_size": Whole(),
        "components": Whole(),
        "sigma": POSITIVE,
        "out": NULL | PLACE,
        "seed": SEED,
        "paths": Group({"data": PLACE, "cache": PLACE}),
    }
)
REPRODUCE = Group(
    {
        "table": Text("the name of a table under conf/reproduce, or a YAML file"),
        "schedule": one_of("short", "full"),
        "seeds": ListOf(SEED, least=1),
        "rows": NULL | ListOf(WORDS),
        "folder": NULL | PLACE,
        "results": PLACE,
        "train": ListOf(WORDS),
        "evaluate": ListOf(WORDS),
    }
)
TABLE = Group(
    {
        "runs": Several(Place("a directory of a sweep or of a run, or a pattern of such")),
        "measure": Several(WORDS),
        "over": WORDS,
        "level": Number(minimum=0.5, maximum=0.9999),
        "format": one_of("markdown", "latex", "csv"),
        "out": NULL | PLACE,
    }
)
EXPORT = Group(
    {
        "run": Place("a run directory"),
        "trust": TRUST,
        "checkpoint": CHECKPOINT,
        "to": one_of("hub", "safetensors", "onnx", "torch"),
        "out": NULL | PLACE,
        "push": NULL | Text("a repository of the hub, as in owner/name", r"[\w.-]+/[\w.-]+"),
    }
)
COMMANDS = {
    "train": TRAIN,
    "evaluate": EVALUATE,
    "sample": SAMPLE,
    "features": FEATURES_COMMAND,
    "baselines": BASELINES,
    "reproduce": REPRODUCE,
    "table": TABLE,
    "export": EXPORT,
}

# Of classes: what their arguments may be.

ACTIVATION = one_of("relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "tanh", "identity")
NORM = one_of("group", "batch", "none")
CONV = {
    "base_width": Whole(),
    "max_width": Whole(),
    "norm": NORM,
    "activation": ACTIVATION,
    "channels_last": TRUE_OR_FALSE,
}
UPSAMPLE = {"upsample": one_of("resize", "transposed")}
DEPTH = {"depth": NULL | Whole()}
BLOCKS = {"blocks": Whole(1, 1000)}
MLP = {"hidden_sizes": SIZES, "activation": ACTIVATION}
SPATIAL = {"grid": GRID, "width": Whole(), "blocks": Whole(0)}
INIT_SIGMA = {"init_sigma": POSITIVE}
FLOW = {"kind": one_of("autoregressive", "coupling"), "transforms": Whole(1, 1000), "hidden_sizes": SIZES}
KERNEL = Whole(3, 99)
LAYERS = Whole(1, 1000)
OF_DRAWS = {"k": Whole(), "chunk": NULL | Whole()}
RISE = {"steps": Whole(), "start": AT_LEAST_0, "end": AT_LEAST_0}
IMAGES = {
    "batch_size": AUTO | Whole(),
    "eval_batch_size": Whole(),
    "binarize": one_of("none", "threshold", "dynamic"),
    "seed": SEED,
    "split_seed": SEED,
    "train_images": NULL | Whole(),
    "device": one_of("auto", "cpu", "gpu"),
}
SPLIT_OFF = {"val_size": Whole()}
FILES = {"cache": PLACE, "on_bad": one_of("error", "skip")}
LR = {"lr": AT_LEAST_0}
ADAM = {**LR, "betas": ListOf(Number(minimum=0, below=1), length=2), "eps": AT_LEAST_0}
DECAY = {"weight_decay": AT_LEAST_0}
FUSED = {"fused": NULL | TRUE_OR_FALSE}
BEST = {"monitor": NULL | WORDS, "mode": one_of("min", "max")}
SAVES = {
    "dirpath": PLACE,
    "filename": WORDS,
    "save_on_train_epoch_end": TRUE_OR_FALSE,
    "enable_version_counter": TRUE_OR_FALSE,
}
OFTEN = {"every_n_epochs": Whole(0)}
NOTHING: dict[str, Kind] = {}
OF_LABELS: dict[str, Kind] = {"condition": NULL | one_of("label"), "classes": NULL | Whole(2)}

ARGUMENTS: dict[str, Mapping[str, Kind]] = {
    TRAINER: {
        "max_epochs": EPOCHS,
        "max_steps": EPOCHS,
        "accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps"),
        "devices": AUTO | Whole() | one_of(-1) | ListOf(Whole(0), least=1) | NUMBERS,
        "num_nodes": Whole(),
        "strategy": one_of(
            *("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true"),
            note="FSDP and DeepSpeed are for models that do not fit on one device, docs/sweeps.md",
        )
        | Component("trainer", what="strategy"),
        "precision": one_of(
            "32-true", "bf16-mixed", "16-mixed", note="densities are in float32 with each of them"
        ),
        "log_every_n_steps": Whole(),
        "check_val_every_n_epoch": Whole(),
        "gradient_clip_val": NULL | AT_LEAST_0,
        "num_sanity_val_steps": Whole(-1),
        "use_distributed_sampler": one_of(False, note="the data module's batches know their rank"),
        "enable_model_summary": TRUE_OR_FALSE,
        "deterministic": one_of(True, False, "warn"),
        "default_root_dir": PLACE,
        "profiler": NULL | one_of("simple", "advanced", "pytorch") | Component("trainer", what="profiler"),
    },
    "vae.metric.bound.Bound": NOTHING,
    "vae.metric.reconstruction_error.ReconstructionError": {"ssim": TRUE_OR_FALSE},
    "vae.metric.active_units.ActiveUnits": {"threshold": AT_LEAST_0},
    "vae.metric.code_usage.CodeUsage": NOTHING,
    "vae.metric.nll.NLL": {"k": K, "chunk": K, "proposal": DRAWN_FROM},
    "vae.metric.rate_per_latent.RatePerLatent": NOTHING,
    "vae.metric.aggregate_posterior.AggregatePosterior": {"exact_below": Whole(0)},
    "vae.metric.probe.Probe": {"neighbors": Whole(), "folds": Whole(2)},
    "vae.metric.feature_distance.Generation": {
        "weights": PLACE,
        "features": FEATURES,
        "neighbors": Whole(),
        "components": Whole(0),
    },
    "torch.optim.Adagrad": {**LR, "eps": AT_LEAST_0, **DECAY},
    "torch.optim.Adam": {**ADAM, **FUSED},
    "torch.optim.Adamax": {**ADAM, **DECAY},
    "torch.optim.AdamW": {**ADAM, **DECAY, **FUSED},
    "torch.optim.SGD": {**LR, "momentum": AT_LEAST_0, "nesterov": TRUE_OR_FALSE, **DECAY},
    "torch.optim.lr_scheduler.MultiStepLR": {"milestones": ListOf(Whole(0)), "gamma": POSITIVE},
    "torch.optim.lr_scheduler.CosineAnnealingLR": {"T_max": Whole(), "eta_min": AT_LEAST_0},
    "torch.optim.lr_scheduler.StepLR": {"step_size": Whole(), "gamma": POSITIVE},
    "torch.optim.lr_scheduler.LinearLR": {
        "start_factor": Number(above=0, maximum=1),
        "end_factor": SHARE,
        "total_iters": Whole(),
    },
    "vae.network.conv.ConvEncoder": {**CONV, **DEPTH},
    "vae.network.conv.ConvDecoder": {**CONV, **DEPTH, **UPSAMPLE},
    "vae.network.resnet.ResNetEncoder": {**CONV, **BLOCKS},
    "vae.network.resnet.ResNetDecoder": {**CONV, **BLOCKS, **UPSAMPLE},
    "vae.network.mlp.MLPEncoder": MLP,
    "vae.network.mlp.MLPDecoder": MLP,
    "vae.network.spatial.SpatialEncoder": SPATIAL,
    "vae.network.spatial.SpatialDecoder": SPATIAL,
    "vae.network.unconditional.UnconditionalEncoder": NOTHING,
    "vae.network.unconditional.UnconditionalDecoder": NOTHING,
    "lightning.pytorch.callbacks.ModelCheckpoint": SAVES,
    "vae.callback.top.Top": {**SAVES, **BEST, "save_top_k": Whole(-1)},
    "vae.callback.ema.EMA": {"decay": SHARE},
    "vae.callback.finite.Finite": {"monitor": WORDS},
    "vae.callback.pictures.Pictures": {"folder": PLACE, **OFTEN, "seed": SEED},
    "vae.callback.run_page.RunPage": {"run": PLACE, **OFTEN, "open": TRUE_OR_FALSE},
    "vae.callback.training_progress.TrainingProgress": {"monitor": WORDS, "mode": one_of("max", "min")},
    "vae.callback.model_summary.ModelSummary": NOTHING,
    "vae.callback.watch.Watch": {**OFTEN, "images": Whole(), "nll_k": Whole(0)},
    "vae.logger.metrics_csv.MetricsCSV": {"path": PLACE},
    "vae.logger.tensorboard_run.TensorBoardRun": {"folder": PLACE},
    "vae.logger.mlflow_run.MLflowRun": {
        "experiment_name": WORDS,
        "run_name": WORDS,
        "id": ID,
        "tracking_uri": Text("a server or a database, as in http://127.0.0.1:5000 or sqlite:///mlflow.db"),
    },
    "vae.logger.wandb_run.WandbRun": {
        "project": Text("text without any of / \\ # ? % :", r"[^/\\#?%:]{1,128}"),
        "name": WORDS,
        "save_dir": PLACE,
        "mode": one_of("offline", "online", "disabled", "shared"),
        "id": NULL | ID,
        "resume": NULL | TRUE_OR_FALSE | one_of("allow", "must", "never", "auto"),
        "settings": NULL
        | Component("logger", target="wandb.sdk.wandb_settings.Settings", what="group of settings"),
    },
    "vae.objective.elbo.ELBO": {
        **OF_DRAWS,
        "kl": one_of("auto", "analytic", "monte_carlo"),
        "beta": AT_LEAST_0 | Component("objective"),
        "free_bits": AT_LEAST_0,
    },
    "vae.objective.iwae.IWAE": {
        **OF_DRAWS,
        "gradient": one_of("standard", "stl", "dreg"),
        "outer": Whole(),
        "elbo_weight": SHARE,
    },
    "vae.objective.reconstruction.Reconstruction": OF_DRAWS,
    "vae.objective.schedule.Cyclical": {**RISE, "rise": Number(above=0, maximum=1)},
    "vae.objective.schedule.Linear": RISE,
    "vae.objective.target_rate.TargetRate": dict.fromkeys(
        ("target_rate", "speed", "start", "min_beta", "max_beta"), POSITIVE
    ),
    "vae.data.celeba.CelebA": {**IMAGES, **FILES, "path": PLACE, "size": Whole(), "crop": Whole()},
    "vae.data.cifar10.CIFAR10": {**IMAGES, **SPLIT_OFF, "path": PLACE},
    "vae.data.digits.Digits": {**IMAGES, **SPLIT_OFF},
    "vae.data.mnist.MNIST": {
        **IMAGES,
        **SPLIT_OFF,
        "path": PLACE,
        "name": one_of("MNIST", "FashionMNIST"),
        "size": one_of(28, 32),
    },
    "vae.data.omniglot.Omniglot": {**IMAGES, **SPLIT_OFF, **FILES, "path": PLACE, "size": Whole()},
    "vae.data.image_folder.ImageFolder": {
        **IMAGES,
        **FILES,
        "path": Place("a folder or a zip of images"),
        "size": Whole() | ListOf(Whole(), length=2),
        "crop": NULL | Whole(),
        "channels": one_of(3, 1),
        "background": Text("a colour as HTML writes it, white or '#202020'"),
        "val_fraction": Number(above=0, below=1),
        "test_fraction": Number(above=0, below=1),
    },
    "vae.prior.autoregressive.Autoregressive": {
        "network": one_of("pixelcnn", "transformer"),
        "channels": Whole(),
        "layers": LAYERS,
        "kernel": KERNEL,
        "heads": Whole(),
        **OF_LABELS,
    },
    "vae.prior.categorical.Categorical": OF_LABELS,
    "vae.prior.flow.FlowPrior": FLOW,
    "vae.prior.gaussian_mixture.GaussianMixture": {"components": Whole()},
    "vae.prior.standard_normal.StandardNormal": NOTHING,
    "vae.prior.uniform.Uniform": NOTHING,
    "vae.prior.vamp.Vamp": {"components": Whole()},
    "vae.posterior.categorical.Categorical": {
        "classes": Whole(2),
        "gradient": one_of("straight_through", "gumbel"),
        "temperature": POSITIVE,
    },
    "vae.posterior.delta.Delta": NOTHING,
    "vae.posterior.diagonal_gaussian.DiagonalGaussian": INIT_SIGMA,
    "vae.posterior.exact.Exact": {"classes": Whole(2)},
    "vae.posterior.finite_scalar.FiniteScalar": {"levels": ListOf(Whole(2), least=1), "grid": NULL | GRID},
    "vae.posterior.flow.FlowPosterior": {**FLOW, **INIT_SIGMA},
    "vae.posterior.full_gaussian.FullGaussian": INIT_SIGMA,
    "vae.posterior.independent.IndependentOfImage": NOTHING,
    "vae.posterior.spatial_gaussian.SpatialGaussian": {"grid": NULL | GRID, **INIT_SIGMA},
    "vae.posterior.vector_quantized.VectorQuantized": {
        "codes": Whole(2),
        "code_size": Whole(),
        "commitment": AT_LEAST_0,
        "decay": NULL | Number(minimum=0, maximum=1 - 1e-6),
        "kmeans": TRUE_OR_FALSE,
        "restart_below": SHARE,
        "grid": NULL | GRID,
    },
    "vae.likelihood.bernoulli.Bernoulli": NOTHING,
    "vae.likelihood.categorical.Categorical": NOTHING,
    "vae.likelihood.continuous_bernoulli.ContinuousBernoulli": NOTHING,
    "vae.likelihood.discretized.DiscretizedGaussian": {"sigma": POSITIVE},
    "vae.likelihood.discretized.DiscretizedLogistic": {
        "components": Whole(),
        "init_scale": POSITIVE,
        "min_scale": POSITIVE,
    },
    "vae.likelihood.gaussian.Gaussian": {"sigma": POSITIVE},
    "vae.likelihood.gaussian.GaussianLearned": {**INIT_SIGMA, "min_sigma": POSITIVE},
    "vae.likelihood.gaussian.GaussianPerPixel": {**INIT_SIGMA, "min_sigma": POSITIVE},
    "vae.likelihood.gaussian_optimal.GaussianOptimal": {"min_sigma": POSITIVE},
    "vae.likelihood.pixelcnn.PixelCNN": {
        "pixels": one_of("bernoulli", "categorical", "discretized_logistic"),
        "channels": Whole(),
        "layers": LAYERS,
        "kernel": KERNEL,
        "maps": Whole(),
    },
    "vae.corruption.corruption.Box": {"size": Number(above=0, maximum=1), "fill": SHARE},
    "vae.corruption.corruption.GaussianNoise": {"sigma": POSITIVE},
    "vae.corruption.corruption.Mask": {"rate": SHARE, "fill": SHARE},
    "vae.corruption.corruption.SaltAndPepper": {"rate": SHARE},
    "torch.nn.Identity": NOTHING,
}
"""Of each class that stands in conf/, the arguments that conf/ gives it."""

BATCHES = NULL | Whole(0) | SHARE
FURTHER: dict[str, Mapping[str, Kind]] = {
    TRAINER: {
        "accumulate_grad_batches": Whole(),
        "fast_dev_run": TRUE_OR_FALSE | Whole(),
        "gradient_clip_algorithm": NULL | one_of("norm", "value"),
        "limit_train_batches": BATCHES,
        "limit_val_batches": BATCHES,
        "limit_test_batches": BATCHES,
        "max_time": NULL
        | Text("DD:HH:MM:SS")
        | Group({}, further=dict.fromkeys(("weeks", "days", "hours", "minutes", "seconds"), AT_LEAST_0)),
        "min_epochs": NULL | Whole(0),
        "min_steps": NULL | Whole(0),
        "overfit_batches": BATCHES,
        "val_check_interval": NULL | Whole() | Number(above=0, maximum=1),
    },
    "lightning.pytorch.callbacks.ModelCheckpoint": {
        **BEST,
        "every_n_epochs": NULL | Whole(0),
        "every_n_train_steps": NULL | Whole(0),
        "save_top_k": Whole(-1),
    },
    "lightning.pytorch.callbacks.EarlyStopping": {**BEST, "monitor": WORDS, "patience": Whole(0)},
    "vae.network.mlp.MLPEncoder": {"gated": TRUE_OR_FALSE},
    "vae.network.mlp.MLPDecoder": {"gated": TRUE_OR_FALSE},
    "vae.data.celeba.CelebA": SPLIT_OFF,
    "vae.data.image_folder.ImageFolder": SPLIT_OFF,
}
"""Further arguments, to be added with a +. Of any other only the type is checked, as the signature has it."""

REFUSED = {
    "torch.optim.lr_scheduler.ReduceLROnPlateau": "a class whose learning rate follows from the epoch alone, so"
    " that a resumed run has that of an uninterrupted one: StepLR, MultiStepLR, CosineAnnealingLR, LinearLR, …"
}
"""Classes that one might think of, and what must stand in their place."""
