"""SLURM's commands as far as submitit uses them: `fake_slurm.py sbatch|array|srun|scontrol|sacct …`.

`sbatch` starts the elements of an array one after the other in the background, each as often as it is requeued;
`srun` starts a process for each task, with the variables by which SLURM tells a task its place. What was
submitted and requeued is left in the folder FAKE_SLURM.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ.get("FAKE_SLURM", "."))
COMMANDS = ("sbatch", "srun", "scontrol", "sacct")
ID = "4711"


def install(folder: Path) -> None:
    """Write the commands into a folder, for PATH."""
    for name in COMMANDS:
        file = folder / name
        file.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        file.chmod(0o755)


def option(script: str, name: str, default: str) -> str:
    """The value of an #SBATCH line."""
    found = re.search(rf"^#SBATCH --{name}=(\S+)$", script, re.MULTILINE)
    return found[1] if found else default


def sbatch(script: str) -> None:
    (FOLDER / "script").write_text(Path(script).read_text())
    with (FOLDER / "log").open("w") as log:
        command = [sys.executable, __file__, "array"]
        subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    print(f"Submitted batch job {ID}")


def array() -> None:
    script = (FOLDER / "script").read_text()
    nodes, tasks = option(script, "nodes", "1"), option(script, "ntasks-per-node", "1")
    elements = option(script, "array", "").partition("%")[0].partition("-")[2]
    for element in range(int(elements or 0) + 1):
        place = {"SLURM_ARRAY_JOB_ID": ID, "SLURM_ARRAY_TASK_ID": str(element)} if elements else {}
        environment = os.environ | {
            "SLURM_JOB_ID": str(int(ID) + element),
            "SLURM_JOB_NUM_NODES": nodes,
            "SLURM_NTASKS_PER_NODE": tasks,
            "SLURM_NTASKS": str(int(nodes) * int(tasks)),
            "SLURM_JOB_NODELIST": "localhost",
            "SLURM_NODELIST": "localhost",
            **place,
        }
        requeued = FOLDER / (f"requeue-{ID}_{element}" if elements else f"requeue-{ID}")
        while True:
            before = requeued.read_text() if requeued.exists() else ""
            subprocess.run(["bash", str(FOLDER / "script")], env=environment, check=False)
            if (requeued.read_text() if requeued.exists() else "") == before:
                break


def srun(*command: str) -> None:
    start = command.index(sys.executable)
    tasks = int(os.environ["SLURM_NTASKS"])
    places = [
        {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_NODEID": "0"} for task in range(tasks)
    ]
    running = [subprocess.Popen(command[start:], env=os.environ | place) for place in places]
    sys.exit(max(process.wait() for process in running))


def scontrol(action: str, job: str) -> None:
    with (FOLDER / f"{action}-{job}").open("a") as file:
        file.write("again\n")


def sacct(*arguments: str) -> None:
    print(f"JobID|State|NodeList\n{ID}|RUNNING|localhost")


if __name__ == "__main__":
    {"sbatch": sbatch, "array": array, "srun": srun, "scontrol": scontrol, "sacct": sacct}[sys.argv[1]](
        *sys.argv[2:]
    )
