"""Train with and without torch.compile, and print what differs: python compiled_training.py BACKEND MODEL …

In a process of its own, since torch.compile cannot see through the checks of shapes that tests put into the code.
"""

import json
import sys
import tempfile
from collections.abc import Callable

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import seed_everything
from torch._dynamo.utils import counters

from vae.command.command import quiet_libraries
from vae.paths import CONF
from vae.training.build import build_module, build_trainer
from vae.training.module import VAEModule

MODELS = {
    "vae": ["network.hidden_sizes=[16]", "likelihood=bernoulli"],
    "stl": ["network.hidden_sizes=[16]", "objective=iwae", "objective.k=3", "objective.gradient=stl"],
    "dreg": ["network.hidden_sizes=[16]", "objective=iwae", "objective.k=3", "objective.gradient=dreg"],
    "chunked": ["network.hidden_sizes=[16]", "objective=iwae", "objective.k=4", "objective.chunk=2"],
    "annealed": ["network.hidden_sizes=[16]", "objective/beta=linear", "objective.beta.steps=30"],
    # Whose codebook moves after each step, by what was seen within it.
    "vq": [
        *("network=spatial", "network.grid=[2,2]", "network.width=8", "latent_size=4", "posterior.codes=16"),
        *("posterior=vector_quantized", "prior=autoregressive", "prior.channels=8"),
    ],
    "gumbel": ["network.hidden_sizes=[16]", "posterior=categorical", "prior=uniform", "posterior.gradient=gumbel"],
    # Groups of several channels: one of a single channel takes its bias away, whose gradient is then rounding,
    # which Adam scales up.
    "conv": ["network=conv", "network.base_width=64", "network.max_width=64"],
}
QUICK = [
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "latent_size=2",
    "name=compiled",
    "logger=none",
    "callback=none",
]


def fitted(*overrides: str) -> VAEModule:
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*QUICK, f"paths.run={folder}", *overrides])
        seed_everything(0, verbose=False)
        data = instantiate(config.data)
        trainer = build_trainer(config)
        module = build_module(config, data, trainer)
        trainer.fit(module, data)
    return module


def compare(model: str) -> dict[str, float]:
    """Graphs, breaks between them, whether the loss is in one, and the largest difference of a weight."""
    reference = fitted(*MODELS[model]).state_dict()
    torch._dynamo.reset()
    counters.clear()
    module = fitted(*MODELS[model], "compile=true")
    differences = [float((module.state_dict()[name] - value).abs().max()) for name, value in reference.items()]
    x = torch.rand(64, 1, 8, 8)
    loss = module.losses(x, x, module.model.noise(module.objective.draws, len(x)), 0)[0]
    return {
        "graphs": counters["stats"]["unique_graphs"],
        "breaks": sum(counters["graph_break"].values()),
        "whole": "CompiledFunction" in str(loss.grad_fn),
        "difference": max(differences),
    }


def main(backend: str, *models: str) -> None:
    quiet_libraries()
    torch._inductor.config.fallback_random = True  # the draws of the eager step
    compile_: Callable[..., object] = torch.compile
    torch.compile = lambda f, mode: compile_(f, backend=backend)  # type: ignore[assignment]
    print(json.dumps({model: compare(model) for model in models}))


if __name__ == "__main__":
    main(*sys.argv[1:])
