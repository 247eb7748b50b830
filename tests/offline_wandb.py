"""Reads W&B's offline run files back: a LevelDB log (blocks of 32 KiB, records of type full, first, middle or
last, each with a header of CRC, length and type) whose records are W&B's protocol-buffer messages."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, HEADER, PREAMBLE = 32768, 7, 7


@dataclass
class OfflineRun:
    """What one offline run file holds."""

    id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    sweep_id: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None


def _records(content: bytes) -> Iterator[bytes]:
    position, parts = PREAMBLE, b""
    while position + HEADER <= len(content):
        left_in_block = BLOCK - position % BLOCK
        if left_in_block < HEADER:
            position += left_in_block
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        parts += content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # full or last
            yield parts
            parts = b""


def read_offline_run(run_directory: Path) -> OfflineRun:
    """The one offline run under a run directory's wandb/."""
    (run,) = read_offline_runs(run_directory)
    return run


def read_offline_runs(run_directory: Path) -> list[OfflineRun]:
    """All of them, the oldest first: a run that was interrupted and resumed has several, of the same id."""
    return [_read(file) for file in sorted((run_directory / "wandb").glob("offline-run-*/run-*.wandb"))]


def _read(file: Path) -> OfflineRun:
    from wandb.proto.wandb_internal_pb2 import Record

    found = OfflineRun()
    for content in _records(file.read_bytes()):
        record = Record.FromString(content)
        match record.WhichOneof("record_type"):
            case "run":
                run = record.run
                found.id, found.name, found.group = run.run_id, run.display_name, run.run_group
                found.config |= {item.key: json.loads(item.value_json) for item in run.config.update}
                found.job_type, found.sweep_id, found.tags = run.job_type, run.sweep_id, list(run.tags)
            case "config":
                found.config |= {item.key: json.loads(item.value_json) for item in record.config.update}
            case "history":
                items = record.history.item
                found.history.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
            case "exit":
                found.exit_code = record.exit.exit_code
    return found


def read_summaries(run_directory: Path) -> dict[str, dict[str, Any]]:
    """What the summary of each W&B run was set to, by the run's id, in all offline folders below wandb/."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, dict[str, Any]] = {}
    for file in sorted((run_directory / "wandb").glob("offline-run-*/run-*.wandb")):
        summary = found.setdefault(file.stem.removeprefix("run-"), {})
        for content in _records(file.read_bytes()):
            for item in Record.FromString(content).summary.update:
                summary["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    return found
