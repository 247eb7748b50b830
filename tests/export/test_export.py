"""`python -m vae.export`: what others load is what was trained, and needs no trust that a run would not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from commands import Ended, call_command, metrics_of, run_command, train_quickly
from vae import load_model
from vae.checks import ConfigError
from vae.export.hub import push
from vae.run.checkpoint import read_weights


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = train_quickly(tmp_path_factory.mktemp("exported") / "run", "objective/beta=target_rate")
    (folder / "images").mkdir()
    Image.new("L", (8, 8)).save(folder / "images" / "samples.png")
    return folder


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What to=hub writes of the run, somewhere else."""
    pytest.importorskip("safetensors")
    done = export(run)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{run / 'export' / 'hub'}\n"
    return Path(shutil.move(run / "export" / "hub", tmp_path_factory.mktemp("downloaded") / "model"))


def export(run: Path, *arguments: str) -> Ended:
    return call_command("vae.export.__main__", f"run={run}", *arguments, folder=run.parent)


def test_a_folder_is_the_model_of_the_run(run: Path, folder: Path) -> None:
    ours, theirs = load_model(run), load_model(folder)
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(theirs.sample(4, seed=1), ours.sample(4, seed=1))
    assert torch.equal(theirs.reconstruct(x), ours.reconstruct(x))


def test_the_numbers_of_the_card_can_be_measured_again(run: Path, folder: Path) -> None:
    given = ["k=2", "metric=default", "trainer.accelerator=cpu"]
    done = call_command("vae.evaluate", f"run={folder}", *given, folder=run.parent)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "evaluation.json").read_text())["metrics"]
    assert found["test/elbo"] == pytest.approx(metrics_of(run)["test/elbo"])
    assert json.loads((folder / "metrics.json").read_text()) == metrics_of(run)


def test_the_card_says_what_was_measured_and_by_what(run: Path, folder: Path) -> None:
    card, numbers = (folder / "README.md").read_text(), metrics_of(run)
    for name in ("elbo", "nll"):
        assert f"| {name} | {numbers[f'test/{name}']:.6g}" in card
    assert f"k = {numbers['test/nll_k']:g}, effective sample size" in card
    assert f"± {numbers['test/nll_stderr']:.2g} nats/image" in card
    origin = json.loads((run / ".hydra" / "origin.json").read_text())
    for key in ("commit", "device", "torch"):
        assert origin[key] is None or f"| {key} | {origin[key]} |" in card
    assert "objective/beta=target_rate" in card
    assert "![samples](images/samples.png)" in card
    assert (folder / "images" / "samples.png").is_file()
    assert card.startswith("---\nlibrary_name: vae\n")


def test_nothing_of_the_machine_is_in_a_folder(run: Path, folder: Path) -> None:
    for file in folder.rglob("*.*"):
        if file.suffix in (".json", ".md") and not file.name.startswith("evaluation"):
            assert str(run.parent) not in file.read_text(), file


def test_an_evaluation_with_more_draws_is_what_the_card_has(run: Path, folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    done = call_command(
        "vae.evaluate", f"run={copy}", "k=9", "metric=default", "trainer.accelerator=cpu", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert export(copy).returncode == 0
    assert "k = 9, effective sample size" in (copy / "export" / "hub" / "README.md").read_text()


@pytest.mark.parametrize("value", ["os.system", "someones.Encoder"])
def test_a_foreign_folder_runs_no_code(value: str, folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["network"]["encoder"]["_target_"] = value
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=rf"config\.json: network\.encoder\._target_={value} is refused"):
        load_model(copy)


def test_a_damaged_folder_is_one_line(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ConfigError, match=r"model\.safetensors: a damaged file"):
        load_model(copy)
    with pytest.raises(ConfigError, match=r"last\.ckpt: there is no such checkpoint"):
        load_model(copy, "last")
    done = call_command("vae.train", f"resume={copy}", folder=tmp_path)
    assert done.returncode == 1
    assert "is an exported model" in done.stderr
    weights.unlink()
    with pytest.raises(ConfigError, match="there is no such checkpoint"):
        load_model(copy)


def test_weights_of_two_names_are_there_once(run: Path, folder: Path) -> None:
    from safetensors.torch import load_file

    there, saved = load_file(folder / "model.safetensors"), read_weights(run / "checkpoints" / "best.ckpt")
    assert saved.keys() - there.keys() == {"model.decoder.layers.2.weight", "model.decoder.layers.2.bias"}
    assert all(torch.equal(there[name], saved[name]) for name in there)


def test_weights_alone_need_no_numbers(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / "metrics.json").unlink()
    done = export(copy)
    assert done.returncode == 1
    assert "has no metrics.json, of which a card is made" in done.stderr
    done = export(copy, "to=safetensors", "checkpoint=last", f"out={tmp_path / 'there'}")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"config.json", "model.safetensors"}
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(load_model(tmp_path / "there").reconstruct(x), load_model(copy, "last").reconstruct(x))


GRAPHS = [
    [],
    pytest.param(["network=conv", "likelihood=bernoulli", "data.binarize=threshold"], marks=pytest.mark.slow),
    pytest.param(["posterior=vector_quantized", "prior=uniform"], marks=pytest.mark.slow),
]


def read_graph(file: Path) -> Callable[..., list[torch.Tensor]]:
    """A graph as a program without this project has it: tensors by their names → tensors."""
    if file.suffix == ".pt2":
        module = torch.export.load(file).module()
        return lambda **inputs: list(module(*inputs.values()))
    session = pytest.importorskip("onnxruntime").InferenceSession(file)
    names = [each.name for each in session.get_inputs()]  # one that changes nothing is left out
    return lambda **inputs: [torch.as_tensor(n) for n in session.run(None, {k: inputs[k].numpy() for k in names})]


# torch 2.11 warns of the buffers that it makes while it reads its own file.
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
@pytest.mark.parametrize("form", ["torch", "onnx"])
@pytest.mark.parametrize("parts", GRAPHS)
def test_graphs_give_the_numbers_of_the_model_for_any_number_of_images(
    parts: list[str], form: str, run: Path, tmp_path: Path
) -> None:
    if form == "onnx":
        pytest.importorskip("onnxscript")
    trained = train_quickly(tmp_path / "run", *parts) if parts else run
    # In a process of its own, where no annotation is checked while a graph is made.
    given = [f"run={trained}", f"to={form}", f"out={tmp_path}"]
    done = run_command("-m", "vae.export", *given, folder=tmp_path, VAE_PROGRESS="off")
    assert (done.returncode, done.stderr) == (0, "")
    encoder, decoder = (
        read_graph(tmp_path / f"{name}.{'onnx' if form == 'onnx' else 'pt2'}") for name in ("encoder", "decoder")
    )
    model = load_model(trained).model
    x, noise = torch.rand(7, 1, 8, 8), model.noise(1, 7)[0]
    with torch.no_grad():
        q = model.encode(x)
        z = model.draw(q, noise[None])[0]
        for right, found in (([z, q.mean], encoder(x=x, noise=noise)), ([model.decode(z).mean], decoder(z=z))):
            for one, other in zip(right, found, strict=True):
                torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)


def test_a_folder_is_sent_where_somebody_has_logged_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    errors = pytest.importorskip("huggingface_hub.errors")
    sent = []

    class Hub:
        def create_repo(self, name: str, exist_ok: bool) -> None:
            sent.append((name, exist_ok))

        def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> str:
            sent.append((repo_id, folder_path))
            return "there"

    monkeypatch.setattr(hub, "HfApi", Hub)
    assert push(folder, "somebody/model") == "there"
    assert sent == [("somebody/model", True), ("somebody/model", folder)]

    def refuse(*arguments: object, **options: object) -> None:
        raise errors.LocalTokenNotFoundError("no token")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    with pytest.raises(ConfigError, match=r"push=somebody/model: nobody has logged in to the hub here"):
        push(folder, "somebody/model")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run=nowhere"], "error: nowhere: not a run directory"),
        (["to=jax"], "error: to=jax: must be one of hub, safetensors, onnx, torch"),
        (["to=onnx", "push=a/b"], "error: push=a/b: must be null with to=onnx"),
        (["push=a"], "error: push=a: must be null or a repository of the hub, as in owner/name"),
        (["checkpoint=last"], "error: checkpoint=last: must be best with to=hub"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], line: str, run: Path) -> None:
    if "checkpoint=last" in arguments:
        pytest.importorskip("safetensors")
    done = export(run, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(line), done.stderr
    assert done.stderr.count("\n") == 1
