"""A sweep's directory: what is in it, what state its jobs are in, and who may write to it."""

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from vae.checks import ConfigError
from vae.run.files import PARTIAL, folders_with, read_json, remove_partials, write_atomically
from vae.run.lock import holder, is_locked, lock_file, sign
from vae.run.saved_config import check_plain, is_plain_name, read_numbers
from vae.sweep.plan import Job

State = Literal["waiting", "running", "interrupted", "done", "failed", "pruned"]
LOCK = ".lock"
STATES: tuple[State, ...] = ("done", "pruned", "failed", "running", "interrupted", "waiting")
RECORD: dict[str, Any] = {
    "state": str,
    "reason": str,
    "host": str,
    "attempts": int,
    "pid": int,
    "seconds": int | float,
    "started": int | float,
}
"""What may stand in job.json."""
MANIFEST: dict[str, Any] = {
    "id": str,
    "metric": str,
    "created": int | float,
    "jobs": dict,
    "identity": dict,
    "pruning": dict,
    "axes": list,
    "constants": list,
    "arguments": list,
}
"""What may stand in sweep.json."""
MOST = 1_000_000
"""Values in sweep.json."""
ENDED: tuple[State, ...] = ("done", "failed", "pruned")


class JobDirectory:
    """A run's directory inside a sweep. `job.json` says what became of the job, and why.

    Args:
        path: the directory; its name is the job's.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.name = self.path.name
        self.log = self.path / "output.log"
        self.metrics_file = self.path / "metrics.json"

    def state(self) -> State:
        """Return what the files say. A job counts as running for as long as its process holds the job's lock."""
        recorded = self.record().get("state", "waiting")
        if recorded not in ("running", "done"):
            return recorded
        if self._numbers() is not None:
            return "done"
        return "running" if is_locked(self.path / LOCK) else "interrupted"

    def record(self) -> dict[str, Any]:
        """Return the contents of job.json: state, reason, attempts, seconds; empty before the first attempt.

        Of a damaged one, that an attempt was made, and which file is damaged.
        """
        try:
            return self._checked_record()
        except ConfigError as error:
            return {"state": "running", "reason": str(error)}

    def _checked_record(self) -> dict[str, Any]:
        path = self.path / "job.json"
        record = read_json(path) or {}
        check_plain(record, path, resolved=False)
        for key, kind in RECORD.items():
            if isinstance(value := record.get(key), bool) or not isinstance(value, kind | None):
                raise ConfigError(f"{path}: a damaged file ({key} is {ascii(value)[:60]})")
        if (state := record.get("state", "waiting")) not in STATES:
            raise ConfigError(f"{path}: a damaged file (state is {ascii(state)[:60]})")
        return record

    def update(self, **changes: Any) -> None:
        """Change entries of job.json."""
        write_atomically(self.path / "job.json", json.dumps(self.record() | changes, indent=2) + "\n")

    def start(self) -> None:
        """Record another attempt by this process."""
        attempts = self.record().get("attempts", 0) + 1
        self.update(
            state="running",
            attempts=attempts,
            reason=None,
            started=time.time(),
            host=socket.gethostname(),
            pid=os.getpid(),
        )

    def finish(self, state: State, reason: str | None = None) -> None:
        """Record the end of an attempt, or of a job that never began; the seconds of several attempts add up."""
        record, now = self.record(), time.time()
        seconds = record.get("seconds", 0) + now - record.get("started", now)
        self.update(state=state, reason=reason, seconds=round(seconds, 2))

    def metrics(self) -> dict[str, float | None]:
        """Return the final numbers; empty if there are none (yet), or they are damaged."""
        return self._numbers() or {}

    def _numbers(self) -> dict[str, float | None] | None:
        try:
            return read_numbers(self.metrics_file) if self.metrics_file.exists() else None
        except ConfigError:
            return None

    def damage(self) -> str | None:
        """Return what is wrong with metrics.json; None if it is whole, or not there."""
        try:
            read_numbers(self.metrics_file)
        except ConfigError as error:
            return str(error)
        return None

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Wait until no other process works on this job: after a crash of the sweep one may still do.

        Yields the lock's file descriptor: a process that gets it keeps the lock until it ends.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = lock_file(self.path / LOCK)
        assert file is not None
        with file:
            yield file.fileno()
            if self.state() == "done":
                # While it is held: who waits for it finds the job done. A sweep has thousands of them.
                (self.path / LOCK).unlink(missing_ok=True)


class SweepDirectory:
    """The files of a sweep; `last` names the newest one below ./runs.

    ```
    sweep.json        what is swept: the jobs and the config they share
    <job>/            a run's directory for each job, and its job.json and output.log
    summary.csv       one row a job
    report.html       the same to look at, in one file
    ```
    """

    def __init__(self, path: str | Path):
        self.path = newest_sweep(Path("runs")) if str(path) == "last" else Path(path).expanduser()
        self.manifest_file = self.path / "sweep.json"

    def manifest(self) -> dict[str, Any]:
        """Return the contents of sweep.json.

        Raises:
            ConfigError: this is no sweep's directory.
        """
        manifest = read_json(self.manifest_file)
        if manifest is None:
            raise ConfigError(f"{self.path}: not a sweep's directory (it has no sweep.json)")
        self._check(manifest)
        return manifest

    def _check(self, manifest: Mapping[str, Any]) -> None:
        """Refuse a sweep.json that is more than text and numbers, or whose jobs are in other folders.

        Raises:
            ConfigError: see above.
        """
        path = self.manifest_file
        check_plain(manifest, path, resolved=False, most=MOST)
        for key, kind in MANIFEST.items():
            if not isinstance(value := manifest.get(key), kind | None):
                raise ConfigError(f"{path}: a damaged file ({key} is {ascii(value)[:60]})")
        for key in ("axes", "constants", "arguments"):
            if not all(isinstance(each, str) for each in manifest.get(key) or ()):
                raise ConfigError(f"{path}: a damaged file ({key} holds something else than text)")
        for name, job_values in (manifest.get("jobs") or {}).items():
            if not is_plain_name(name) or name.startswith("."):
                raise ConfigError(
                    f"{path}: the job {ascii(name)[:100]} is refused: it is no name of a folder here"
                )
            texts = list(job_values.values()) if isinstance(job_values, dict) else [None]
            if not all(isinstance(each, str) for each in texts):
                raise ConfigError(f"{path}: a damaged file (the values of the job {name})")
        if not is_plain_name(manifest.get("id", "none")):
            raise ConfigError(f"{path}: a damaged file (id is {ascii(manifest['id'])[:60]})")

    def axes(self) -> list[str]:
        """Return the keys that every combination of this sweep has a value for; none where there is no sweep
        yet.
        """
        if not self.manifest_file.exists():
            return []
        axes = (self.manifest().get("identity") or {}).get("axes") or []
        return [str(axis) for axis in axes]

    def job(self, name: str) -> JobDirectory:
        """Return the directory of a job."""
        return JobDirectory(self.path / name)

    def jobs(self) -> list[Job]:
        """Return all jobs that the sweep ever had, in the order in which they came."""
        return [Job(name, values) for name, values in self.manifest()["jobs"].items()]

    def states(self, jobs: Sequence[Job]) -> dict[str, State]:
        """Return the state of each job, by its name."""
        return {job.name: self.job(job.name).state() for job in jobs}

    def check(self, identity: Mapping[str, Any]) -> None:
        """Refuse a directory that is not for this sweep, and touch nothing.

        Args:
            identity: whatever must be equal for jobs to belong together.

        Raises:
            ConfigError: the directory holds another sweep, or something else.
        """
        manifest = read_json(self.manifest_file)
        if manifest is None:
            inside = self.path.iterdir() if self.path.is_dir() else ()
            # A sweep that was killed while it wrote its first file has left a part of it.
            others = [path.name for path in inside if path.name != LOCK and path.suffix != PARTIAL]
            if others:
                raise ConfigError(f"hydra.sweep.dir={self.path}: not a sweep's directory (it has {min(others)})")
        elif (difference := first_difference(manifest["identity"], identity)) is not None:
            raise ConfigError(f"hydra.sweep.dir={self.path}: is the directory of another sweep: {difference}")

    @contextmanager
    def claim(self, identity: Mapping[str, Any]) -> Iterator[None]:
        """Keep every other sweep out of this directory, once it is clear that this one belongs here.

        Raises:
            ConfigError: see `check`; or another sweep is at work in it, or it cannot be written.
        """
        self.check(identity)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = lock_file(self.path / LOCK, wait=False)
        except OSError as error:
            raise ConfigError(f"hydra.sweep.dir={self.path}: cannot be written ({error.strerror})") from error
        if file is None:
            raise ConfigError(
                f"hydra.sweep.dir={self.path}: a sweep is at work in it ({holder(self.path / LOCK)})"
            )
        with file:
            # Another sweep may have come and gone since.
            self.check(identity)
            remove_partials(self.path, "*")
            sign(file)
            yield

    def holder(self) -> str | None:
        """Return the process that is at work in this directory as its sweep; None if there is none."""
        lock = self.path / LOCK
        return lock.read_text(encoding="utf-8") if is_locked(lock) else None

    def write(self, jobs: Sequence[Job], **entries: Any) -> None:
        """Add jobs to sweep.json, and set entries of it. A job that is there already stays as first typed."""
        manifest = read_json(self.manifest_file)
        manifest = manifest or {"id": secrets.token_hex(4), "created": time.time(), "jobs": {}}
        manifest |= entries
        for job in jobs:
            manifest["jobs"].setdefault(job.name, dict(job.values))
        write_atomically(self.manifest_file, json.dumps(manifest, indent=1) + "\n")


def first_difference(there: Any, here: Any, key: str = "") -> str | None:
    """Return the first place where two nested containers differ, in words; None where they are equal."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for name in sorted({*there, *here}):
            found = first_difference(there.get(name), here.get(name), f"{key}.{name}".lstrip("."))
            if found is not None:
                return found
        return None
    return None if there == here else f"{key.partition('.')[2] or key} is {there} there and {here} here"


def newest_sweep(root: Path) -> Path:
    """Return the sweep below a folder that was started or resumed last.

    Raises:
        ConfigError: there is none.
    """
    found = [*folders_with(root, "sweep.json")]
    if not found:
        raise ConfigError(f"last: there is no sweep below {root.absolute()}")
    return max(found)[1]
