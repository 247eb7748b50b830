"""Encoder and decoder as graphs of ONNX or torch.export, which need nothing of this project.

The noise of a draw is an input, so that a graph is a function; the number of images is free.
"""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae.checks import ConfigError
from vae.model import LatentModel
from vae.run.directory import RunDirectory
from vae.trained.load import load_model

TOLERANCE = 1e-5
"""How far, at most, a graph's numbers may be from the model's, as a share of the largest where that is above 1."""
Graph = Callable[..., Sequence[Tensor]]
Inputs = Callable[[int], tuple[Tensor, ...]]
"""The number of images → an example of what a graph takes."""


class Encode(nn.Module):
    """Images and noise → a draw of z from q(z|x), and the mean of q(z|x)."""

    def __init__(self, model: LatentModel):
        super().__init__()
        self.model = model

    def forward(
        self, x: Float[Tensor, "B C H W"], noise: Float[Tensor, "B E"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        q = self.model.encode(x)
        return self.model.draw(q, noise[None])[0], q.mean


class Decode(nn.Module):
    """z → E[x|z]."""

    def __init__(self, model: LatentModel):
        super().__init__()
        self.model = model

    def forward(self, z: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B C H W"]]:
        return (self.model.decode(z).mean,)


def write_graphs(run: RunDirectory, checkpoint: str, folder: Path, form: str) -> Iterator[str]:
    """Write encoder and decoder into a folder. Yield a line for each, on how near it is to the model.

    Args:
        run: the run.
        checkpoint: `best` or `last`.
        folder: where to.
        form: `onnx` or `torch`.

    Raises:
        ConfigError: a package is not installed, or the model is none that can be a graph.
    """
    model = load_model(run.path, checkpoint).model
    if not model.likelihood.has_mean:
        raise ConfigError(f"to={form}: cannot be of {type(model.likelihood).__name__}, which has no mean E[x|z]")
    if model.classes:
        raise ConfigError(f"to={form}: cannot be of a model that is told labels; use to=hub")
    folder.mkdir(parents=True, exist_ok=True)
    for name, module, names, inputs in _parts(model):
        path = folder / f"{name}.{'onnx' if form == 'onnx' else 'pt2'}"
        try:
            with _without_remarks():
                graph = (_to_onnx if form == "onnx" else _to_torch)(module, names, inputs(3), path)
        except ModuleNotFoundError as error:
            raise ConfigError(f"to={form}: needs {error.name}; pip install -e '.[export]'") from error
        except Exception as error:  # an exporter's, of whatever it does not know
            why = " ".join(str(error).split())[:300]
            raise ConfigError(f"to={form}: the {name} of this run cannot be a graph ({why})") from error
        apart = max(_difference(module, graph, inputs(images)) for images in (1, 5))
        if not apart <= TOLERANCE:
            raise ConfigError(f"to={form}: the graph of the {name} is {apart:.2g} from the model's numbers")
        yield f"{path}  ({', '.join(names)}; at most {apart:.1e} from the model)"


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Inside, what exporters remark on terminals about themselves is left out; what they raise is not."""
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _parts(model: LatentModel) -> Iterator[tuple[str, nn.Module, Sequence[str], Inputs]]:
    """Name, module, and its inputs: what they are called, and an example."""

    def images(count: int) -> tuple[Tensor, ...]:
        return torch.rand(count, *model.image_shape), model.noise(1, count)[0]

    yield "encoder", Encode(model).eval(), ("x", "noise"), images
    yield "decoder", Decode(model).eval(), ("z",), lambda count: (torch.randn(count, model.latent_size),)


@torch.no_grad()
def _to_torch(module: nn.Module, names: Sequence[str], inputs: tuple[Tensor, ...], path: Path) -> Graph:
    program = torch.export.export(module, inputs, dynamic_shapes=_any_number(names))
    torch.export.save(program, path)
    return torch.export.load(path).module()


@torch.no_grad()
def _to_onnx(module: nn.Module, names: Sequence[str], inputs: tuple[Tensor, ...], path: Path) -> Graph:
    import onnxruntime

    outputs = ["image"] if names == ("z",) else ["z", "mean"]
    torch.onnx.export(
        module,
        inputs,
        path,
        input_names=list(names),
        output_names=outputs,
        dynamic_shapes=_any_number(names),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    taken = {each.name for each in session.get_inputs()}

    def run(*given: Tensor) -> list[Tensor]:
        feeds = {name: each.numpy() for name, each in zip(names, given, strict=True) if name in taken}
        return [torch.as_tensor(each) for each in session.run(None, feeds)]

    return run


def _any_number(names: Sequence[str]) -> dict[str, dict[int, torch.export.Dim]]:
    batch = torch.export.Dim("batch")
    return {name: {0: batch} for name in names}


@torch.no_grad()
def _difference(module: nn.Module, graph: Graph, inputs: tuple[Tensor, ...]) -> float:
    """Return how far the graph's numbers are from the module's, at most, as a share of the largest if that is
    above 1.
    """
    apart = [
        float((found - right).abs().max() / right.abs().max().clamp(min=1))
        for right, found in zip(module(*inputs), graph(*inputs), strict=True)
    ]
    return max(apart)
