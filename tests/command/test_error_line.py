"""Whatever goes wrong becomes one line."""

from pathlib import Path

import pytest

from commands import call_command, run_command
from vae.checks import ConfigError
from vae.command.error_line import error_line


def _raised(error: Exception, cause: Exception | None = None) -> Exception:
    error.__cause__ = cause
    return error


def test_a_config_error_is_found_behind_what_hydra_wraps_around_it() -> None:
    wrapped = _raised(RuntimeError("Error in call to target\nfull_key: likelihood"), ConfigError("sigma=0: no"))
    assert error_line(wrapped, []) == "error: sigma=0: no"


def test_an_unexpected_error_names_its_type_and_how_to_see_more() -> None:
    line = error_line(ValueError("first\n  second"), [])
    assert line == "error: ValueError: first second (HYDRA_FULL_ERROR=1 shows where)"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["hydra.launcher.ray.init.num_cpus=4"],
            "hydra.launcher.ray.init.num_cpus=4: no such key; +hydra",
        ),
        (["latent_sze=3"], "latent_sze=3: no such key; did you mean latent_size=3?"),
        (["likelihood.sgma=1"], "likelihood.sgma=1: no such key; did you mean likelihood.sigma=1?"),
        (["likelihood.qqq=1"], "likelihood.qqq=1: no such key (likelihood has sigma)"),
        # The keys of what was chosen, and not of the default.
        (["data.qqq=1", "data=digits"], "data.qqq=1: no such key (data has batch_size, eval_batch_size, val_size"),
        (["data.qqq=1", "data=celeba"], "data.qqq=1: no such key (data has path, cache, size, crop, on_bad"),
        (["likelihod.sigma=1"], "likelihod.sigma=1: no such key; did you mean likelihood.sigma=1?"),
        # Anywhere in the tree, whatever the case.
        (["sigma=0.5"], "sigma=0.5: no such key; did you mean likelihood.sigma=0.5?"),
        (["beta=4"], "beta=4: no such key; did you mean objective.beta=4?"),
        (["lr=1e-4"], "lr=1e-4: no such key; did you mean optimizer.lr=1e-4?"),
        (["max_epochs=3"], "max_epochs=3: no such key; did you mean trainer.max_epochs=3?"),
        (["epochs=3"], "epochs=3: no such key; did you mean trainer.max_epochs=3?"),
        (["Likelihood.Sigma=1"], "Likelihood.Sigma=1: no such key; did you mean likelihood.sigma=1?"),
        (["dataset=mnist"], "dataset=mnist: no such key; did you mean data=mnist?"),
        # Of objective.k and metric.test.nll.k the one less deep.
        (["k=5"], "k=5: no such key; did you mean objective.k=5?"),
        (
            ["likelihood.sigma=1", "likelihood=gaussian_learned"],
            "likelihood.sigma=1: no such key; did you mean likelihood.init_sigma=1?;"
            " likelihood=discretized_gaussian or gaussian has sigma (likelihood has init_sigma, min_sigma)",
        ),
        (["objective.gradient=stl"], "objective.gradient=stl: no such key; objective=iwae has gradient"),
        (["prior.components=3"], "prior.components=3: no such key; prior=gaussian_mixture or vamp has components"),
        (["foo.bar=1"], "foo.bar=1: no such key (foo has none)"),
        (["foo=1"], "foo=1: no such key (there are name, seed,"),
    ],
)
def test_an_unknown_key_is_answered_with_what_was_meant(arguments: list[str], expected: str) -> None:
    from hydra.errors import ConfigCompositionException

    key = arguments[0].split("=")[0]
    error = ConfigCompositionException(
        f"Could not override '{key}'.\nTo append to your config use +{arguments[0]}"
    )
    assert error_line(error, arguments).startswith(f"error: {expected}")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("data=MNIST", "; did you mean mnist?"),
        ("=3", "=3: names no key; an override is key=value"),
        ("--latent_size 2", "unrecognized arguments: --latent_size; keys have no dashes: latent_size=2"),
        ("--lr=1", "unrecognized arguments: --lr=1; keys have no dashes: optimizer.lr=1"),
        ("--qqq", "unrecognized arguments: --qqq (--help lists what there is)"),
        ("latent_size = 2", "latent_size = 2: there are no spaces around =, as in latent_size=2"),
        ("latent_size= 2", "latent_size= 2: there are no spaces around =, as in latent_size=2"),
        ("latent_size =2", "latent_size =2: there are no spaces around =, as in latent_size=2"),
        ("latent_size 2", "latent_size 2: an override is key=value, as in latent_size=2"),
        ("latent_size:2", "latent_size:2: an override is key=value, as in latent_size=2"),
        (
            "network.hidden_sizes=[400, 200]",
            "network.hidden_sizes=[400, 200]: there are no spaces in a list, as in"
            " 'network.hidden_sizes=[400,200]'",
        ),
    ],
)
def test_what_cannot_be_read_is_answered_with_how_it_is_typed(typed: str, expected: str, tmp_path: Path) -> None:
    done = call_command("vae.train", *typed.split(" "), folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(f"{expected}\n")
    assert not any(tmp_path.iterdir())


def test_a_mistyped_line_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    program = "import sys, vae.train\ntry: vae.train.main()\nfinally: print('torch' in sys.modules)"
    for typed in ("sigma=0.5", "data=MNIST", "--latent_size"):
        done = run_command("-c", program, typed, folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "False\n"), done
