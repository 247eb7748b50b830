"""Checkpoints that are there whole or not at all, and that show when they have been damaged."""

import hashlib
import io
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import nn

from vae.checks import ConfigError
from vae.run.files import PARTIAL

MAGIC = b"vae-seal"
SEALED = "sealed"
DIGEST = 32
BLOCK = 1 << 20


class DamagedCheckpointError(ConfigError):
    """A checkpoint file that is not what was written."""


class SealedCheckpoints(TorchCheckpointIO):
    """Writes each checkpoint so that whatever interrupts it, the one before is still there.

    A file is what `torch.save` makes of the checkpoint, which `torch.load` reads as it is, and behind it a seal: a
    magic word and the BLAKE2b digest of all before. It is written under a temporary name, flushed to the disk,
    read again, compared with its seal, and only then given its name. last.ckpt, from which runs are resumed,
    keeps its predecessor as previous.ckpt.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            ConfigError: it cannot be written, as when the disk is full; the checkpoint before it is still there.
        """
        path = Path(path)
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PARTIAL}")
        buffer = io.BytesIO()
        # So that a file whose seal is gone is known to have had one.
        torch.save(checkpoint | {SEALED: True}, buffer)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_sealed(partial, buffer.getbuffer())
            check_seal(partial)
            _keep_predecessor(path)
            partial.replace(path)
            _flush_names(path.parent)
        except (OSError, DamagedCheckpointError) as error:
            partial.unlink(missing_ok=True)
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"{path}: the checkpoint cannot be written ({why}); the one before it is kept,"
                f" from which resume={path.parent.parent} goes on"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint, which never runs code from it.

        Raises:
            ConfigError: it is damaged, or no checkpoint.
        """
        path = Path(path)
        checkpoint = read_checkpoint(path, map_location)
        _take_place(checkpoint, path)
        return checkpoint


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Return the contents of a checkpoint file, on the CPU unless `map_location` says otherwise.

    Raises:
        DamagedCheckpointError: the file does not match its seal, or is no checkpoint.
    """
    has_seal = check_seal(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # what unpickling damaged bytes raises is of any type
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedCheckpointError(f"{path}: not a checkpoint, or a damaged one ({line})") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise DamagedCheckpointError(f"{path}: not a checkpoint (it holds no state_dict)")
    if checkpoint.pop(SEALED, False) and not has_seal:
        raise DamagedCheckpointError(
            f"{path}: a damaged checkpoint (its checksum is gone; if you wrote it anew, drop its key {SEALED!r})"
        )
    return checkpoint


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a checkpoint file or in model.safetensors, by their names.

    Raises:
        DamagedCheckpointError: the file is damaged, or neither.
        ConfigError: safetensors is needed and not installed.
    """
    if path.suffix != ".safetensors":
        return read_checkpoint(path)["state_dict"]
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise ConfigError(f"{path}: needs safetensors; pip install -e '.[export]'") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DamagedCheckpointError(f"{path}: a damaged file ({' '.join(str(error).split())})") from error


def _take_place(checkpoint: dict[str, Any], path: Path) -> None:
    """Let what a checkpoint remembers of other checkpoints be those beside it, wherever it says they are.

    Lightning deletes the checkpoint that is the best no more, by the path that it remembers: in a run of somebody
    else that may be any file.

    Raises:
        DamagedCheckpointError: what it remembers is no checkpoint.
    """
    folder = os.path.realpath(path.parent)

    def beside(remembered: object) -> str:
        name = os.path.basename(str(remembered))
        if not isinstance(remembered, str) or not (remembered == "" or name.endswith(".ckpt")):
            raise DamagedCheckpointError(
                f"{path}: is refused: it remembers {ascii(remembered)[:100]} as a checkpoint"
            )
        return os.path.join(folder, name) if remembered else ""

    states = checkpoint.get("callbacks", {})
    for state in states.values() if isinstance(states, dict) else ():
        if not isinstance(state, dict) or "best_model_path" not in state:
            continue
        for key in ("best_model_path", "last_model_path", "kth_best_model_path"):
            state[key] = beside(state.get(key) or "")
        state["best_k_models"] = {
            beside(each): score for each, score in (state.get("best_k_models") or {}).items()
        }
        state["dirpath"] = folder


def check_seal(path: Path) -> bool:
    """Compare a file with its seal; False for one without, as something else may have written it.

    Raises:
        DamagedCheckpointError: they differ.
    """
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END) - len(MAGIC) - DIGEST
        if length < 0:
            raise DamagedCheckpointError(f"{path}: a damaged checkpoint (it is cut short)")
        file.seek(length)
        seal = file.read()
        if not seal.startswith(MAGIC):
            return False
        file.seek(0)
        digest = hashlib.blake2b(digest_size=DIGEST)
        while length > 0:
            block = file.read(min(BLOCK, length))
            digest.update(block)
            length -= len(block)
    if seal != MAGIC + digest.digest():
        raise DamagedCheckpointError(f"{path}: a damaged checkpoint (it does not match its checksum)")
    return True


def digest(path: Path) -> str:
    """Return the digest of a checkpoint's contents: what its seal says, or of a file without one what it comes
    to.
    """
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(MAGIC) - DIGEST))
        seal = file.read()
        if seal.startswith(MAGIC):
            return seal.removeprefix(MAGIC).hex()
        file.seek(0)
        return hashlib.blake2b(file.read(), digest_size=DIGEST).hexdigest()


def newest_undamaged(folder: Path) -> Path | None:
    """last.ckpt, or previous.ckpt where that is damaged; None if there is neither.

    A damaged last.ckpt is put aside with a warning, so that it never takes its predecessor's place.

    Raises:
        ConfigError: every one is damaged.
    """
    damaged: DamagedCheckpointError | None = None
    for name in ("last.ckpt", "previous.ckpt"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            read_checkpoint(path, map_location="meta")
        except DamagedCheckpointError as error:
            damaged = error
            continue
        if damaged is not None:
            aside = folder / "last.ckpt.damaged"
            print(f"warning: {damaged}; it is put aside as {aside.name}, and {path} used", file=sys.stderr)
            _rename(folder / "last.ckpt", aside)
        return path
    if damaged is not None:
        raise ConfigError(f"{damaged}, and so is every other in {folder}; without them the run starts anew")
    return None


def _write_sealed(path: Path, content: memoryview) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.write(MAGIC + hashlib.blake2b(content, digest_size=DIGEST).digest())
        file.flush()
        os.fsync(file.fileno())


def _keep_predecessor(path: Path) -> None:
    """Let last.ckpt be previous.ckpt as well, until its successor takes its name."""
    if path.name != "last.ckpt" or not path.exists():
        return
    link = path.with_name(f"previous.ckpt.{secrets.token_hex(8)}{PARTIAL}")
    try:
        link.hardlink_to(path)
    except OSError:  # a file system without hard links
        link = path
    link.replace(path.with_name("previous.ckpt"))


def copy_checkpoint(path: Path, name: str) -> Path:
    """Give a checkpoint a second name in its folder; the path of that."""
    partial, target = path.with_name(f"{name}.{secrets.token_hex(8)}{PARTIAL}"), path.with_name(name)
    try:
        partial.hardlink_to(path)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, partial)
    partial.replace(target)
    return target


def _rename(path: Path, target: Path) -> None:
    try:
        path.replace(target)
    except FileNotFoundError:
        # Another rank was first.
        return


def _flush_names(folder: Path) -> None:
    """See the new names to the disk, where the system lets a folder be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_weights(module: nn.Module, path: Path, prefix: str = "") -> None:
    """Load the weights of a checkpoint whose names begin with `prefix`.

    Raises:
        ConfigError: the file is damaged, belongs to another architecture, or holds NaN or infinite numbers.
    """
    state = read_weights(path)
    state = {name.removeprefix(prefix): values for name, values in state.items() if name.startswith(prefix)}
    first: dict[int, str] = {}
    for name, values in module.state_dict(keep_vars=True).items():
        # A folder that was exported has weights of several names under the first of them.
        known = first.setdefault(id(values), name)
        if name not in state and known in state:
            state[name] = state[known]
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        why = " ".join(str(error).split(":\n\t", 1)[-1].split(". \n")[0].split())
        raise ConfigError(
            f"{path}: the checkpoint of another architecture than the run's config ({why})"
        ) from error
    for name, values in state.items():
        if not values.isfinite().all():
            raise ConfigError(
                f"{path}: {name} holds NaN or infinite numbers: training diverged; use another checkpoint"
            )
