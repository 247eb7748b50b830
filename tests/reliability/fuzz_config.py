"""Train with whatever a command line may hold: it runs, or one line names a key, its value and what is allowed.

python -m reliability.fuzz_config [examples=2000] [seed=0] [folder=runs/fuzz]
"""

import contextlib
import functools
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st
from omegaconf import DictConfig

from reliability.forked_train import preload, start
from vae.paths import CONF

ONE_STEP = [
    "trainer.max_epochs=1",
    "+trainer.limit_train_batches=1",
    "+trainer.limit_val_batches=1",
    "+trainer.limit_test_batches=1",
    "trainer.accelerator=cpu",
    "logger=csv",
    "callback=none",
    "data.batch_size=8",
    "data.eval_batch_size=8",
    "network.hidden_sizes=[8]",
]
SECONDS = 40
MEMORY = 3 << 30
"""Bytes that a run of these sizes may take on top of what it starts with."""
SLOW = ("max_epochs", "max_steps", "max_time", "min_epochs", "min_steps", "nll_k", "repeat")
"""Keys whose large values are an honest wish for a long run."""
SKIPPED = ("hydra", "resume")
NUMBERS = ["0", "-1", "1", "2", "3", "7", "0.5", "-0.5", "1e-30", "1e30", "1e400", "nan", "inf", "-inf"]
HUGE = ["1000000000", "100000000000000000000", "-1000000000", "1" + "0" * 400]
WORDS = ["", "null", "true", "no", "abc", "ßπ…", "''", "'a b'", "/proc/nowhere", "folder/below", "..", "x" * 5000]
SHAPES = ["[]", "[1]", "[8,8]", "[0]", "[-3]", "[a]", "[[4]]", "{}", "{a:1}", "[null]", "[1000000000]"]
INTERPOLATIONS = [
    "${seed}",
    "${latent_size}",
    "${nowhere}",
    "${oc.env:NOWHERE}",
    "${oc.env:HOME}",
    "${data}",
    "${.}",
    "${",
    "${now:%Y}",
    "${nosuch:1}",
    "???",
]
BROKEN = [
    "nothing",
    "=3",
    "a=b=c",
    "network=",
    "network=nope",
    "nogroup=1",
    "+new.key=1",
    "++latent_size=3",
    "~network",
    "~prior",
    "~callback.best",
    "latent_size=",
    "latent_size=1,2",
    "latent_size=range(3)",
    "data=[digits,mnist]",
    "+network.encoder.nonsense=1",
    "network.encoder._target_=os.system",
    "network.encoder._target_=nowhere.Class",
    "prior._target_=vae.prior.vamp.VampPrior",
    "+experiment=nope",
    "likelihood@prior=gaussian",
    "latent_size=${seed} seed=${latent_size}",
    "--nosuch",
    "'",
    "a'b=c",
    "[=]",
    "{",
    "latent_size=choice(1,2)",
    "unicode.ключ=1",
    "monitor.metric=val/nothing",
    "monitor.mode=sideways",
    "sweep_metric=nothing",
]


def leaves(node: Any, path: str = "") -> list[str]:
    """The keys of all values of a config."""
    if isinstance(node, DictConfig):
        keys = [f"{path}.{key}" if path else str(key) for key in node]
        return [leaf for key, name in zip(keys, node, strict=True) for leaf in leaves(node._get_node(name), key)]
    return [path]


def groups() -> dict[str, list[str]]:
    """The options of every group."""
    files = [f for f in CONF.glob("*/**/*.yaml") if not f.is_relative_to(CONF / "hydra")]
    found: dict[str, list[str]] = {}
    for file in sorted(files):
        found.setdefault(str(file.parent.relative_to(CONF)), []).append(file.stem)
    return {name: options for name, options in found.items() if name not in ("sweep", "experiment")}


@functools.cache
def keys_with(choices: tuple[str, ...]) -> list[str]:
    """The keys of the config that these choices compose; those of the default if they do not compose."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            config = compose("train", list(choices))
        except Exception:
            config = compose("train")
    return [key for key in leaves(config) if key.partition(".")[0] not in SKIPPED]


@st.composite
def command_lines(draw: Callable[..., Any]) -> list[str]:
    """Some groups chosen, some keys set to anything, and now and then what is no override at all."""
    available = groups()
    chosen = draw(st.lists(st.sampled_from(sorted(available)), max_size=3, unique=True))
    choices = [f"{name}={draw(st.sampled_from(available[name]))}" for name in chosen]
    keys = draw(st.lists(st.sampled_from(keys_with(tuple(choices))), min_size=0, max_size=3, unique=True))
    anything = st.sampled_from([*NUMBERS, *HUGE, *WORDS, *SHAPES, *INTERPOLATIONS]) | st.text(max_size=6).map(
        _quoted
    )
    values = [
        f"{key}={draw(st.sampled_from([*WORDS, '0', '-2', 'nan']) if _slow(key) else anything)}" for key in keys
    ]
    broken = draw(st.lists(st.sampled_from(BROKEN), max_size=1)) if draw(st.integers(0, 3)) == 0 else []
    return [*choices, *values, *[part for line in broken for part in line.split()]]


def _quoted(text: str) -> str:
    """As Hydra takes any text, but for backslashes and what ends a string."""
    return "'" + text.replace("'", "").replace("\\", "").replace("\0", "") + "'"


def _slow(key: str) -> bool:
    return key.rpartition(".")[2] in SLOW or (key.startswith("metric.") and key.endswith(".k"))


def attempt(overrides: list[str], folder: Path) -> str:
    """`ran`, `refused`, `unnamed` (one line, but without the key, its value or what is allowed), or what is wrong.

    Args:
        overrides: the command line.
        folder: where the run works.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given_keys = {override.partition("=")[0].lstrip("+~") for override in overrides}
    network = next((o for o in overrides if o.startswith("network=")), "network=mlp")
    small = [o for o in ONE_STEP if o.partition("=")[0].lstrip("+") not in given_keys]
    small = [o for o in small if "hidden_sizes" not in o or network == "network=mlp"]

    def limit() -> None:
        os.chdir(folder)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        os.environ |= {"DATA_DIR": "data", "CACHE_DIR": "cache", "VAE_OFFLINE": "1"}

    started = time.monotonic()
    run = f"hydra.run.dir='{folder / 'run'}'"
    process = start([*small, run, *overrides], folder / "out", limit, folder / "err")
    try:
        status = process.wait(SECONDS)
    except TimeoutError:
        process.kill()
        return f"hangs: more than {time.monotonic() - started:.0f} s"
    said = [line for line in (folder / "err").read_text(errors="replace").splitlines() if line.strip()]
    said = [line for line in said if not line.startswith(("warning: ", "posterior collapse"))]
    return judge(status, said, overrides)


ALLOWED = (
    *(
        "must be",
        "must stay",
        "must be given",
        "no such key",
        "did you mean",
        "there are no spaces",
        "an override is",
    ),
    *(
        "use ",
        "needs ",
        "give ",
        "can be ",
        "at most",
        "at least",
        "make it ",
        "put ",
        "cannot change",
        "--help lists",
    ),
    *("is refused: the classes that", "trust=[", "would take", "must have", "is the same job", "choose another"),
    *("; unpack ", "; pip install", "is not the full name of a class"),
)
"""Words by which a line says what may stand there."""


def names(line: str, overrides: list[str]) -> bool:
    """Whether a line has a key and a value, typed or following what was, and says what is allowed."""
    keys = [override.lstrip("+~-").partition("=")[0] for override in overrides]
    has_key = any(key and key in line for key in keys) or re.search(r"[a-z_]\w*(\.\w+)*=\S", line) is not None
    return has_key and any(words in line for words in ALLOWED)


def judge(status: int, said: list[str], overrides: list[str]) -> str:
    """An exit status and the lines on stderr, in a word."""
    if status == 0:
        return "ran"
    if status != 1:
        return f"status {status}: {said[-1:]}"
    if len(said) != 1 or not said[0].startswith("error: "):
        return f"{len(said)} lines: {said[-1:]} {said[:2]}"
    if "the training has diverged" in said[0]:
        return "ran"  # with what is a learning rate, say, and none that learns
    return "refused" if names(said[0], overrides) and "HYDRA_FULL_ERROR" not in said[0] else "unnamed"


def main(examples: int = 2000, seed: int = 0, folder: str = "") -> int:
    """Try command lines and print what came of them; the exit status."""
    preload()
    place = Path(folder or tempfile.mkdtemp()).resolve()
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    unnamed: Counter[str] = Counter()

    @hypothesis_seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(command_lines())
    def try_one(overrides: list[str]) -> None:
        came = attempt(overrides, place / "one")
        said = (place / "one" / "err").read_text(errors="replace") if (place / "one" / "err").exists() else ""
        shutil.rmtree(place / "one", ignore_errors=True)
        counts[came.partition(":")[0]] += 1
        if came == "unnamed":
            unnamed[re.sub(r"\d+", "#", said.strip())[:230]] += 1
        elif came not in ("ran", "refused"):
            wrong.append(f"{' '.join(o[:200] for o in overrides)}\n    {came[:600]}")
            print(wrong[-1], flush=True)

    with contextlib.suppress(KeyboardInterrupt):
        try_one()
    for line, count in unnamed.most_common(60):
        print(f"{count:5} {line}")
    ended = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    print(f"{sum(counts.values())} command lines: {ended}; {len(wrong)} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(**{k: int(v) if v.isdigit() else v for k, _, v in (a.partition("=") for a in sys.argv[1:])}))
