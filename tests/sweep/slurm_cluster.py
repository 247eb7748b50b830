"""A SLURM of one node on this machine's loopback: Debian's slurm-wlm and munge, as root, without systemd.

`PYTHONPATH=src:tests python -m sweep.slurm_cluster COMMAND …` runs a command on one.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MUNGE_FILES = {
    "key-file": "key",
    "socket": "socket",
    "pid-file": "pid",
    "log-file": "log",
    "seed-file": "seed",
}
CONFIG = """
ClusterName=loop
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5,socket={folder}/munge.socket
SlurmctldPort={control}
SlurmdPort={node}
SlurmctldParameters=enable_configless
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,requeue_setup_env_fail
{accounting}
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=300
InactiveLimit=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
"""
ACCOUNTING_CONFIG = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass=none
"""
DATABASE_USER = """
CREATE USER slurm@127.0.0.1 IDENTIFIED BY 'none';
GRANT ALL ON slurm_acct_db.* TO slurm@127.0.0.1;
"""


def why_not() -> str | None:
    """Why no SLURM can be started here; None if it can."""
    programs = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
    missing = [name for name in programs if shutil.which(name, path=search_path()) is None]
    if missing:
        return f"no {', '.join(missing)} (make test-slurm installs slurm-wlm and munge)"
    return "SLURM's daemons are started as root" if os.geteuid() else None


def search_path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def why_no_accounting() -> str | None:
    """Why a cluster here cannot keep accounts; None if it can."""
    programs = ("slurmdbd", "sacct", "mariadbd", "mariadb-install-db")
    missing = [name for name in programs if shutil.which(name, path=search_path()) is None]
    return f"no {', '.join(missing)} (make test-slurm installs slurmdbd and mariadb-server)" if missing else None


@contextmanager
def slurm_cluster(folder: Path, cpus: int = 2, keeps_accounts: bool = False) -> Iterator[dict[str, str]]:
    """Start a cluster; the environment that its users need. Ends the daemons that it has started, by their ids."""
    (folder / "state").mkdir(parents=True)
    (folder / "spool").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    accounts = free_port()
    (folder / "slurm.conf").write_text(
        CONFIG.format(
            host=socket.gethostname().partition(".")[0],
            folder=folder,
            control=free_port(),
            node=free_port(),
            cpus=cpus,
            accounting=ACCOUNTING.format(folder=folder, port=accounts) if keeps_accounts else "",
        )
    )
    environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": search_path()}
    everything = os.environ | environment

    def start(*command: str) -> None:
        subprocess.run(command, env=everything, check=True, capture_output=True, timeout=60)

    def wait_for(log: str, sign: str, *command: str) -> None:
        deadline = time.monotonic() + 120
        while sign not in output_of(list(command), everything):
            assert time.monotonic() < deadline, (folder / log).read_text()[-2000:]
            time.sleep(0.5)

    database = None
    try:
        start("munged", "--force", *(f"--{name}={folder}/munge.{end}" for name, end in MUNGE_FILES.items()))
        if keeps_accounts:
            database = start_database(folder, accounts, everything)
            start("slurmdbd")
            wait_for("slurmdbd.log", "root", "sacctmgr", "--noheader", "list", "user")
            start("sacctmgr", "--immediate", "add", "cluster", "loop")
        start("slurmctld")
        start("slurmd")
        wait_for("slurmctld.log", "idle", "sinfo", "--noheader", "--format=%t")
        yield environment
    finally:
        output_of(["scancel", "--user=root"], everything)
        time.sleep(2)
        for name in ("slurmd", "slurmctld", "slurmdbd", "munge"):
            with suppress(OSError, ValueError):
                process = int((folder / f"{name}.pid").read_text())
                os.kill(process, signal.SIGTERM)
                while Path(f"/proc/{process}").exists():
                    time.sleep(0.1)
        if database is not None:
            database.terminate()
            database.wait(60)


def start_database(folder: Path, accounts: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a MariaDB for slurmdbd, which is to listen at the port `accounts`, and write slurmdbd's config."""
    port, data = free_port(), folder / "database"
    config = folder / "slurmdbd.conf"
    config.write_text(ACCOUNTING_CONFIG.format(folder=folder, port=accounts, database=port))
    config.chmod(0o600)
    (folder / "users.sql").write_text(DATABASE_USER)
    install = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db"]
    subprocess.run(install, env=environment, check=True, capture_output=True, timeout=120)
    database = subprocess.Popen(
        [
            *("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--port={port}"),
            *("--bind-address=127.0.0.1", f"--socket={folder}/database.socket"),
            *(f"--pid-file={folder}/database.pid", f"--init-file={folder}/users.sql"),
            f"--log-error={folder}/database.log",
        ],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (folder / "database.pid").exists():
        assert time.monotonic() < deadline, (folder / "database.log").read_text()[-2000:]
        time.sleep(0.5)
    return database


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def output_of(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60).stdout


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, slurm_cluster(Path(place, "slurm")) as found:
        sys.exit(subprocess.run(sys.argv[1:], env=os.environ | found, check=False).returncode)
