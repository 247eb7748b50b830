"""All measurements that need a GPU, in one script. Each section writes its results as soon as it has them.

python -m benchmarks.gpu [section …] out=DIR minutes=9     # all sections, in this order, until the time is over
python -m benchmarks.gpu device=cpu tiny=true              # all of it on the CPU, in a minute or two

A section is skipped, with a message, if the time left is too short for it. Each section writes DIR/<section>.json,
with the device, the driver and the versions beside the numbers. MNIST and faces64 (`make gpu-bundle`) are looked
for under DATA_DIR. If they are missing, random images of their sizes are used instead, and the result says so.
"""

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from benchmarks.workload import WORKLOADS, write_images
from vae.command.command import quiet_libraries
from vae.data.shared_images import share_images
from vae.model import LatentModel
from vae.paths import CONF, ROOT
from vae.training.build import build_model, build_module, build_trainer
from vae.training.meeting import Meeting
from vae.training.module import VAEModule
from vae.training.stack import Graph, Taken

BURDA = (
    "data=mnist",
    "data.binarize=dynamic",
    "likelihood=bernoulli",
    "network.hidden_sizes=[200,200]",
    "network.activation=tanh",
    "latent_size=50",
    "data.batch_size=100",
)
MLP = ("data=mnist", "likelihood=bernoulli", "network.hidden_sizes=[400]", "latent_size=20")
QUIET = ("logger=none", "callback=none", "trainer.max_epochs=3")


class Bench:
    """The settings of the measurements: the device, the sizes, the time and the folders.

    Args:
        device: `cuda` or `cpu`.
        tiny: whether sizes are reduced, for a rehearsal.
        minutes: the time for all sections together.
        out: the folder of the results.
        folder: the folder for the files of the runs, which are thrown away.
        epochs: the number of epochs of each job of the sweep.
        members: the numbers of members of the stacks.
    """

    def __init__(
        self, device: str, tiny: bool, minutes: float, out: Path, folder: Path, epochs: int, members: Sequence[int]
    ):
        self.epochs, self.members = epochs, members
        self.device, self.tiny, self.out, self.folder = torch.device(device), tiny, out, folder
        self.ends = time.monotonic() + 60 * minutes
        self.data = Path(os.environ.get("DATA_DIR", "data"))
        self.made_up = not (self.data / "MNIST" / "raw").is_dir() and not tiny
        if self.made_up:
            self.data = self._random_mnist()

    def left(self) -> float:
        """Return the seconds until the end."""
        return self.ends - time.monotonic()

    def _random_mnist(self) -> Path:
        """Write random images in MNIST's file format, and return their folder."""
        write_images(WORKLOADS["mlp_128"], self.folder)
        return self.folder

    def config(self, *overrides: str, run: str = "run") -> DictConfig:
        """Return the config that train.py would compose, for this device."""
        kind = "gpu" if self.device.type == "cuda" else "cpu"
        if self.tiny:
            smaller = {"data=mnist": "data=digits", "[200,200]": "[20]", "[400]": "[20]"}
            for size, less in smaller.items():
                overrides = tuple(override.replace(size, less) for override in overrides)
        given = [
            f"trainer.accelerator={kind}",
            f"paths.data={self.data}",
            f"paths.run={self.folder / run}",
            "name=x",
        ]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", [*given, *overrides])
        OmegaConf.resolve(config)
        return config

    def wait(self) -> None:
        """Wait until the device has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def median_seconds(self, work: Callable[[], object], repeats: int = 20, warm_up: int = 3) -> float:
        """Return the median time of some work.

        The clock is read only after the device has finished the work.
        """
        times = []
        for _ in range(warm_up + (3 if self.tiny else repeats)):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - started)
        return statistics.median(times[warm_up:])


class Steps(Callback):
    """A callback that measures the training part of each epoch."""

    def __init__(self, bench: Bench):
        self.bench, self.seconds, self.steps, self.started = bench, list[float](), 0, 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bench.wait()
        self.started, self.steps = time.perf_counter(), trainer.global_step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self.bench.wait()
            self.seconds.append(time.perf_counter() - self.started)
            self.steps = trainer.global_step - self.steps


class StopAfter(Callback):
    """A callback that ends the training after the epoch in which its time is over."""

    def __init__(self, seconds: float):
        self.ends = time.monotonic() + seconds

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = time.monotonic() > self.ends


def trained(config: DictConfig, *callbacks: Callback) -> VAEModule:
    """Train as a config says, with additional callbacks."""
    seed_everything(config.seed, verbose=False)
    data, trainer = instantiate(config.data), build_trainer(config)
    share_images(data, config.data)
    trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
    module = build_module(config, data, trainer)
    trainer.fit(module, data)
    return module


def step_seconds(bench: Bench, *overrides: str) -> float:
    """Return the time of a training step in the faster of the last two of three epochs, as train.py takes it."""
    steps = Steps(bench)
    trained(bench.config(*QUIET, *overrides), steps)
    return min(steps.seconds[1:]) / steps.steps


# 1. smoke


AGREEING: dict[str, tuple[tuple[str, ...], float]] = {
    "default": ((), 1e-4),
    "burda_iwae_50": ((*BURDA, "objective=iwae", "objective.k=50"), 1e-4),
    "flow_prior": (("prior=flow", "posterior=flow", "objective.kl=monte_carlo"), 1e-4),
    "conv_faces": (("network=conv", "latent_size=64", "likelihood.sigma=0.1"), 1e-3),
    "conv_faces_bf16": (("network=conv", "latent_size=64", "likelihood.sigma=0.1"), 5e-2),
}
"""The settings that are compared with the CPU.

Each has its overrides and the largest relative difference that the loss and the gradient may have.
"""
RUNS: dict[str, tuple[str, ...]] = {"digits": (), "burda_iwae_short": ("experiment=burda_iwae_short",)}
"""The runs that are trained for 300 steps."""


def smoke(bench: Bench) -> dict[str, Any]:
    """Compare loss and gradient with those of the CPU, run the tests marked gpu, and make short runs.

    The loss and the gradient on both devices are from the same noise.
    """
    found: dict[str, Any] = {"differences": {}}
    for name, (overrides, most) in AGREEING.items():
        shape = (3, 64, 64) if "faces" in name else (1, 28, 28) if "burda" in name else (1, 8, 8)
        if "burda" in name:
            overrides = tuple(override for override in overrides if override != "data=mnist")
        precision = "bf16-mixed" if name.endswith("bf16") and bench.device.type == "cuda" else "32-true"
        difference = largest_difference(bench, overrides, shape, precision)
        found["differences"][name] = {**difference, "may_be": most, "agrees": max(difference.values()) <= most}
    if bench.device.type == "cuda":
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
        tests = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        found["tests"] = (tests.stdout.strip().splitlines() or [tests.stderr[-300:]])[-1]
    for name, overrides in RUNS.items():
        if bench.tiny and overrides:
            continue
        steps = 40 if bench.tiny else 300
        module = trained(bench.config(f"trainer.max_steps={steps}", "logger=csv", "callback=none", *overrides))
        found[name] = {"steps": module.trainer.global_step, "val/elbo": module.latest["val/elbo"]}
    if bench.device.type == "cuda":
        eager = found["burda_iwae_short"]["val/elbo"]
        graphed = trained(
            bench.config("trainer.max_steps=300", "logger=csv", "callback=none", *RUNS["burda_iwae_short"],
                         "compile.mode=cuda-graph")
        ).latest["val/elbo"]  # fmt: skip
        found["cuda_graph"] = {"val/elbo": graphed, "difference": graphed - eager}
    return found


def largest_difference(
    bench: Bench, overrides: Sequence[str], shape: tuple[int, int, int], precision: str
) -> dict[str, float]:
    """Return ‖a − b‖ / ‖b‖ of the losses and of the gradients on this device (a) and on the CPU (b)."""
    from vae.training.execution import set_network_type

    config, x = bench.config(*overrides), torch.rand(16, *shape).mul(255).round().div(255)
    torch.manual_seed(0)
    model, objective = build_model(config, shape), instantiate(config.objective)
    x = x.round() if config.data.binarize == "dynamic" else x
    noise = model.noise(objective.draws, len(x))
    values = []
    for device in (torch.device("cpu"), bench.device):
        model.to(device)
        if device == bench.device:
            set_network_type(model, precision)
        model.zero_grad()
        given = x.to(device)
        terms = model.terms(given, model.encode(given), noise.to(device))
        loss = objective(terms, 0)
        loss.backward()
        gradient = torch.cat([p.grad.flatten().double().cpu() for p in model.parameters() if p.grad is not None])
        values.append((loss.detach().double().cpu(), gradient))
    (loss, gradient), (other, other_gradient) = values
    return {
        "loss": float((other - loss).abs() / loss.abs()),
        "gradient": float((other_gradient - gradient).norm() / gradient.norm()),
    }


# 2. step


def step(bench: Bench) -> dict[str, Any]:
    """Measure the microseconds of a step of Burda's network, in each way of executing it.

    A bare loop of graphs is measured too.
    """
    ways = {"eager": (), "compile": ("compile=true",), "reduce_overhead": ("compile.mode=reduce-overhead",)}
    if bench.device.type == "cuda":
        ways["cuda_graph"] = ("compile.mode=cuda-graph",)
    if bench.tiny:
        ways = {"eager": ()}
    found: dict[str, Any] = {}
    for k in (1, 50):
        objective = ("objective=iwae", "objective.k=50") if k == 50 else ()
        times = {}
        for name, overrides in ways.items():
            if name != "eager" and bench.left() < 60:
                continue
            times[name] = 1e6 * step_seconds(bench, *BURDA, *objective, *overrides)
        times["bare"] = 1e6 * bare_step_seconds(bench, *BURDA, *objective)
        found[f"k={k}"] = {name: round(value, 1) for name, value in times.items()}
    return found


def bare_step_seconds(bench: Bench, *overrides: str) -> float:
    """Return the time of a step of the same network in a loop of about a dozen lines.

    Each step is one graph. It includes the images, the noise and the binarisation.
    """
    config = bench.config(*overrides)
    model = build_model(config, (1, 28, 28)).to(bench.device)
    objective, batch = instantiate(config.objective), config.data.batch_size
    graphed = bench.device.type == "cuda"
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True, capturable=graphed)
    images = torch.randint(0, 256, (55_000, 1, 28, 28), dtype=torch.uint8, device=bench.device)

    def one(rows: Tensor) -> Taken:
        x = torch.bernoulli(images.index_select(0, rows).float().div_(255))
        optimizer.zero_grad()
        loss = objective(model.terms(x, model.encode(x), model.noise(objective.draws, batch)), 0)
        loss.backward()
        optimizer.step()
        return Taken(loss.detach(), loss.detach(), loss.detach(), loss.detach())

    order = torch.randperm(len(images), device=bench.device)
    if not graphed:
        return bench.median_seconds(partial(one, order[:batch]))
    graph = Graph(one, (order[:batch],), lambda: [*model.parameters()])
    steps = len(images) // batch

    def epoch() -> None:
        for rows in order.split(batch)[:steps]:
            graph.replay((rows,))

    return bench.median_seconds(epoch, repeats=5, warm_up=1) / steps


# 3. throughput


def throughput(bench: Bench) -> dict[str, Any]:
    """Measure the images per second of larger networks, and the share of time that no program could save."""
    peak, bandwidth = measured_peak(bench), measured_bandwidth(bench)
    found: dict[str, Any] = {"peak_tflops_bf16": peak / 1e12, "bandwidth_gb_per_s": bandwidth / 1e9}
    way = ("compile.mode=cuda-graph",) if bench.device.type == "cuda" else ()
    for batch in (128,) if bench.tiny else (128, 1024, 8192):
        seconds = step_seconds(bench, *MLP, f"data.batch_size={batch}", *way)
        found[f"mlp_{batch}"] = {"images_per_second": round(batch / seconds)}
    for network in ("conv", "resnet"):
        if bench.left() < 30:
            break
        found[network] = network_throughput(bench, network, peak, bandwidth)
    return found


def network_throughput(bench: Bench, network: str, peak: float, bandwidth: float) -> dict[str, Any]:
    """Measure a step of faces through a convolutional network in bfloat16, NHWC.

    The images are on the device. The floor is the larger of two times: the products at the measured peak, and the
    bytes at the measured bandwidth. For the bytes, what is kept for the gradients is written once and read twice,
    and its gradients are written and read once.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from vae.training.execution import set_network_type

    batch, shape = (4, (3, 64, 64)) if bench.tiny else (256, (3, 64, 64))
    config = bench.config(f"network={network}", "latent_size=64", "likelihood.sigma=0.1")
    model, objective = build_model(config, shape).to(bench.device), instantiate(config.objective)
    if bench.device.type == "cuda":
        set_network_type(model, "bf16-mixed")
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    x = torch.rand(batch, *shape, device=bench.device)

    def one() -> None:
        optimizer.zero_grad()
        objective(model.terms(x, model.encode(x), model.noise(1, batch)), 0).backward()
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        one()
    kept = list[int]()

    def keep(values: Tensor) -> Tensor:
        kept.append(values.nbytes)
        return values

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        objective(model.terms(x, model.encode(x), model.noise(1, batch)), 0)
    seconds = bench.median_seconds(one)
    floors = {"products": counter.get_total_flops() / peak, "bytes": 5 * sum(kept) / bandwidth}
    return {
        "batch": batch,
        "images_per_second": round(batch / seconds),
        "milliseconds": round(1e3 * seconds, 3),
        "floor_milliseconds": {name: round(1e3 * value, 3) for name, value in floors.items()},
        "share_of_floor": round(max(floors.values()) / seconds, 3),
    }


def measured_peak(bench: Bench) -> float:
    """Return the floating-point operations per second of a large product in bfloat16."""
    n = 256 if bench.tiny else 8192
    a, b = (torch.randn(n, n, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / bench.median_seconds(lambda: a @ b, repeats=10)


def measured_bandwidth(bench: Bench) -> float:
    """Return the bytes per second, read and written, of a large copy."""
    a = torch.randn(2**18 if bench.tiny else 2**29, device=bench.device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / bench.median_seconds(lambda: b.copy_(a), repeats=10)


# 4. likelihood


def likelihood(bench: Bench) -> dict[str, Any]:
    """Measure the NLL of Burda's model with 5,000 draws.

    Its time is compared with that of the decoder's products alone.
    """
    images, k = (20, 20) if bench.tiny else (10_000, 5000)
    model = build_model(bench.config(*BURDA), (1, 28, 28)).to(bench.device).eval()
    x = torch.rand(images, 1, 28, 28, device=bench.device).round()

    def nll() -> None:
        for part in x.split(512):
            model.log_marginal(part, k)

    layers = [layer for layer in model.decoder.modules() if isinstance(layer, torch.nn.Linear)]
    rows = 2**10 if bench.tiny else 2**17
    given = [torch.randn(rows, layer.in_features, device=bench.device) for layer in layers]

    @torch.no_grad()
    def products() -> None:
        for layer, values in zip(layers, given, strict=True):
            layer(values)

    part = x[:512]
    share = bench.median_seconds(lambda: model.log_marginal(part, k), repeats=3, warm_up=1) / (len(part) * k)
    alone = bench.median_seconds(products) / rows
    found = {"nanoseconds_per_draw": 1e9 * share, "products": 1e9 * alone, "ratio": share / alone}
    if bench.left() > 2 * share * images * k:
        bench.wait()
        started = time.perf_counter()
        nll()
        bench.wait()
        found["seconds"] = time.perf_counter() - started
    return {"images": images, "k": k, **found}


# 5. stacked


def stacked(bench: Bench) -> dict[str, Any]:
    """Measure the microseconds of a step of a stack, and the images per second of all members together."""
    found: dict[str, Any] = {}
    for members in (1, 2) if bench.tiny else bench.members:
        for seeds in (False, True) if members in (2, 8, 32) else (False,):
            if bench.left() < 20:
                return found
            seconds = stack_step_seconds(bench, members, seeds)
            name = f"{members} members, {'a seed each' if seeds else 'one seed'}"
            found[name] = {
                "microseconds": round(1e6 * seconds, 1),
                "images_per_second": round(members * 100 / seconds),
                "memory_mib": round(torch.cuda.max_memory_allocated() / 2**20)
                if bench.device.type == "cuda"
                else 0,
            }
            print(name, found[name], flush=True)
    return found


def stack_step_seconds(bench: Bench, members: int, seeds: bool) -> float:
    """Return the time of a step of this number of members of Burda's MLP.

    The members differ in β and, if `seeds` is true, also in the seed.
    """

    def member(n: int) -> VAEModule:
        own = (f"objective.beta={1 + n / 100}", f"seed={n if seeds else 0}", "trainer.limit_val_batches=1")
        compiled = () if bench.tiny else ("compile=true",)
        return trained(bench.config(*QUIET, *BURDA, *compiled, f"+{own[2]}", *own[:2], run=f"member{n}"))

    if bench.device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with timed_together(bench) as times:
        results = Meeting(["x"] * members, members).run([partial(member, n) for n in range(members)])
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return min(times[1:] or times)


@contextmanager
def timed_together(bench: Bench) -> Iterator[list[float]]:
    """Collect the seconds of a step in each group of steps that a meeting takes."""
    from vae.training import meeting

    together, times = meeting.steps_together, list[float]()

    def timed(runs: Any, requests: Sequence[Any]) -> Any:
        bench.wait()
        started = time.perf_counter()
        taken = together(runs, requests)
        bench.wait()
        times.append((time.perf_counter() - started) / requests[0].steps)
        return taken

    meeting.steps_together = timed
    try:
        yield times
    finally:
        meeting.steps_together = together


# 6. sweep


def sweep(bench: Bench) -> dict[str, Any]:
    """Measure the wall time of the grid latent size × k × σ under each launcher."""
    kind = "gpu" if bench.device.type == "cuda" else "cpu"
    epochs = 1 if bench.tiny else bench.epochs
    grid = ["latent_size=2,3", "likelihood.sigma=0.1,0.3"] if bench.tiny else [
        "latent_size=2,8,32", "objective.k=1,5,10", "likelihood.sigma=0.1,0.3,1",
    ]  # fmt: skip
    data = (
        ["data=digits"] if bench.tiny else ["data=mnist", f"paths.data={bench.data}", "network.hidden_sizes=[400]"]
    )
    found: dict[str, Any] = {"jobs": 4 if bench.tiny else 27, "epochs": epochs}
    for launcher in ("stacked",) if bench.tiny else ("stacked", "joblib", "basic"):
        more = ["hydra.launcher.n_jobs=4"] if launcher == "joblib" else []
        folder = bench.folder / f"sweep_{launcher}"
        command = [
            sys.executable, "train.py", "-m", *grid, *data, *more, f"hydra/launcher={launcher}",
            f"hydra.sweep.dir={folder}", f"trainer.max_epochs={epochs}", f"trainer.accelerator={kind}",
            "logger=csv", "callback.pictures=null", "metric.test.nll.k=10", "data.device=auto",
        ]  # fmt: skip
        started = time.monotonic()
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        limit = max(20.0, bench.left() - 10)
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=limit
            )
        except subprocess.TimeoutExpired:
            finished = len(list(folder.glob("*/metrics.json")))
            found[launcher] = f"{finished} jobs done after {limit:.0f} s, when the time was over"
            break
        found[launcher] = round(time.monotonic() - started, 1)
        if done.returncode:
            found[f"{launcher} failed"] = (done.stderr or done.stdout)[-500:]
    return found


# 7. burda and 8. celeba: until the time is over


def burda(bench: Bench) -> dict[str, Any]:
    """Train Burda's one-layer models, k = 1 for the VAE and k = 5, 50 for the IWAE, and estimate their NLL.

    Each model trains for its share of the time.
    """
    share = 3 if bench.tiny else min(120.0, bench.left() - 90)
    found: dict[str, Any] = {"schedule": "lr 1e-3 throughout, as many epochs as the time allows"}
    rows = [("elbo", 1), ("iwae", 5), ("iwae", 50)]
    for objective, k in rows:
        sizes = ("data=digits", "network.hidden_sizes=[20]") if bench.tiny else BURDA
        monte_carlo = ("objective.kl=monte_carlo",) if objective == "elbo" else ()
        overrides = (*sizes, f"objective={objective}", f"objective.k={k}", "trainer.max_epochs=100000")
        config = bench.config(
            *overrides, *monte_carlo, "logger=none", "callback=none", "init=glorot_uniform",
            "start_from_mean=true",
            *(("compile.mode=cuda-graph",) if bench.device.type == "cuda" else ()), run=f"burda_{objective}_{k}",
        )  # fmt: skip
        module = trained(config, StopAfter(share / len(rows)))
        x = module.data.images("test", 100 if bench.tiny else 2000)[0].to(bench.device)
        model: LatentModel = module.model.to(bench.device).eval()
        estimate = torch.cat(
            [model.log_marginal(part, 10 if bench.tiny else 5000).log_px for part in x.split(500)]
        )
        found[f"{objective} k={k}"] = {
            "epochs": module.epochs,
            "nll": round(-float(estimate.mean()), 2),
            "images": len(x),
        }
    return found


def celeba(bench: Bench) -> dict[str, Any]:
    """Train `conv` in bfloat16 on faces for a grid of σ, and save pictures.

    Each model trains for its share of the time.
    """
    from torchvision.utils import save_image

    faces, real = bench.data / "faces64", (bench.data / "faces64").is_dir() and not bench.tiny
    if not real:
        write_images(replace(WORKLOADS["conv_64"], images=60), bench.folder)
        faces = bench.folder / "faces"
    source = ("data=image_folder", f"data.path={faces}", "data.size=64")
    seconds = 2 if bench.tiny else max(5, int((bench.left() - 30) / 3))
    found: dict[str, Any] = {"real": real}
    for sigma in (0.1,) if bench.tiny else (0.05, 0.1, 0.3):
        config = bench.config(
            *source, f"paths.cache={bench.folder / 'cache'}", "network=conv", "latent_size=64",
            f"likelihood.sigma={sigma}", "data.batch_size=16" if bench.tiny else "data.batch_size=64",
             "trainer.max_epochs=100000", "logger=none", "callback=none",
            *(() if bench.device.type == "cpu" else ("trainer.precision=bf16-mixed", "compile.mode=cuda-graph")),
            run=f"celeba_{sigma}",
        )  # fmt: skip
        module = trained(config, StopAfter(seconds))
        model = module.model.to(bench.device).eval()
        x = module.data.images("test", 16)[0].to(bench.device)
        with torch.no_grad():
            pictures = torch.cat([x[:8], model.reconstruct(x[:8]), model.sample(16)]).float().cpu()
        save_image(pictures.clamp(0, 1), bench.out / f"celeba_sigma_{sigma}.png", nrow=8)
        found[f"sigma={sigma}"] = {
            "steps": module.trainer.global_step,
            "val/elbo": module.latest.get("val/elbo"),
            "mse": float((model.reconstruct(x) - x).square().mean()),
        }
    return found


SECTIONS: dict[str, tuple[Callable[[Bench], dict[str, Any]], float]] = {
    "smoke": (smoke, 30),
    "step": (step, 45),
    "throughput": (throughput, 40),
    "likelihood": (likelihood, 20),
    "stacked": (stacked, 40),
    "sweep": (sweep, 60),
    "burda": (burda, 150),
    "celeba": (celeba, 60),
}
"""Each section, and the seconds that must be left for it to begin."""


OPTIONS = {"device", "tiny", "minutes", "out", "epochs", "members"}


def circumstances(bench: Bench) -> dict[str, Any]:
    """Return the device, the driver, the versions and the commit of a measurement."""
    cuda = bench.device.type == "cuda"
    driver = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    commit = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    versions = {package: version(package) for package in ("torch", "lightning", "hydra-core")}
    here = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return {
        "device": torch.cuda.get_device_name() if cuda else here,
        "driver": printed(driver) if cuda else None,
        "versions": {"python": platform.python_version(), **versions},
        "commit": os.environ.get("COMMIT") or printed(commit),
        "images": "random" if bench.made_up else "real",
        "tiny": bench.tiny,
    }


def printed(command: Sequence[str]) -> str:
    """Return what a command prints, or nothing if it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def main(arguments: Sequence[str]) -> None:
    """Measure the requested sections, until the time is over."""
    options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    asked = [argument for argument in arguments if "=" not in argument] or list(SECTIONS)
    unknown = [name for name in asked if name not in SECTIONS] + sorted(set(options) - OPTIONS)
    if unknown:
        allowed = ", ".join([*SECTIONS, *(f"{option}=" for option in sorted(OPTIONS))])
        raise SystemExit(f"error: {', '.join(unknown)}: must be of {allowed}")
    device = options.get("device", "cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: device=cuda: torch sees no GPU; device=cpu tiny=true rehearses")
    quiet_libraries()
    out = Path(options.get("out", "gpu_results"))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        tiny = options.get("tiny") == "true"
        minutes, epochs = float(options.get("minutes", 9)), int(options.get("epochs", 10))
        members = [int(number) for number in options.get("members", "1,2,4,8,16,32,64").split(",")]
        bench = Bench(device, tiny, minutes, out, Path(folder), epochs, members)
        for name in asked:
            section, needed = SECTIONS[name]
            if bench.left() < (0 if tiny else needed):
                print(f"{name}: skipped, {bench.left():.0f} s are left and it needs {needed}", flush=True)
                continue
            started = time.monotonic()
            try:
                found = section(bench)
            except Exception as error:  # a section that fails must not stop the others
                found = {"failed": f"{type(error).__name__}: {error}"}
                import traceback

                traceback.print_exc()
            result = {**circumstances(bench), "seconds": round(time.monotonic() - started, 1), "found": found}
            (out / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            print(name, json.dumps(found), f"({result['seconds']} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
