"""The project's commands in processes forked from one that has imported everything: python tests/fork_server.py

A command in a new Python spends five seconds on importing; one that is forked is there at once. It is a process of
its own all the same, with its own environment, folder, signals and output.
"""

import atexit
import json
import os
import sys
import threading
from typing import Any

from reliability.forked_train import Forked, call_main, preload, stand_alone

Asked = dict[str, Any]


def serve() -> None:
    """Fork a process for each line of stdin, which is a command, and answer with its exit status."""
    preload()
    for line in sys.stdin:
        asked = json.loads(line)
        forked = Forked(lambda asked=asked: _run(asked))  # type: ignore[misc]
        try:
            status: int | None = forked.wait(asked["timeout"])
        except TimeoutError:
            os.killpg(forked.pid, 9)
            forked.wait()
            status = None
        print(json.dumps(status), flush=True)


def _run(asked: Asked) -> None:
    stand_alone(asked["out"], asked["err"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    try:
        call_main(*asked["command"])
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()


if __name__ == "__main__":
    serve()
