"""The examples in launch/: scripts run under programs that record their calls; files of others' formats by keys."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SRUN = """
for rank in 0 1; do
  SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=1 "${@:2}" || code=$?
done
exit ${code:-0}
"""
SCONTROL = """
[ "$1" = show ] && printf 'host-a\\nhost-b\\n'
echo "scontrol $*" >> "$LOG"
"""
TWOFOLD = """
echo "twofold $* rank=$RANK local=$LOCAL_RANK of=$WORLD_SIZE here=$LOCAL_WORLD_SIZE at=$MASTER_ADDR" >> "$LOG"
exit "$CODE"
"""
SSH = """
echo "ssh ${@:1:4}" >> "$LOG"
exec bash -c "$5"
"""
TORCHRUN = 'echo "$(pwd): torchrun $*" >> "$LOG"; exit "$CODE"\n'


def programs(folder: Path, **bodies: str) -> dict[str, str]:
    """An environment in which these programs are found first."""
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}", "utf-8")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "LOG": str(folder / "log")}


def log(folder: Path) -> list[str]:
    return (folder / "log").read_text("utf-8").splitlines()


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (138, True), (2, False), (3, False)])
def test_slurm_requeues_what_was_stopped_in_order_alone(code: int, requeued: bool, tmp_path: Path) -> None:
    """138 is 128 and the number of USR1, which twofold leaves with after it has saved."""
    env = programs(tmp_path, srun=SRUN, scontrol=SCONTROL, twofold=TWOFOLD)
    env |= {"SLURM_JOB_NODELIST": "host-[a-b]", "SLURM_JOB_ID": "7", "CODE": str(code)}
    done = subprocess.run(["bash", LAUNCH / "slurm.sbatch", "my recipe.yaml", "seed=3"], env=env, check=False)
    assert done.returncode == (0 if requeued else code)
    calls = log(tmp_path)
    assert ("scontrol requeue 7" in calls) == requeued
    assert [call for call in calls if call.startswith("twofold")] == [
        f"twofold train my recipe.yaml seed=3 rank={rank} local={rank} of=2 here=1 at=host-a" for rank in (0, 1)
    ]


def test_slurm_sends_the_signal_that_twofold_takes() -> None:
    from twofold.signals import WATCHED

    text = (LAUNCH / "slurm.sbatch").read_text("utf-8")
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.MULTILINE))
    assert options["signal"].partition("@")[0] in [signal.name.removeprefix("SIG") for signal in WATCHED]
    assert "requeue" in options
    assert options["ntasks-per-node"] == options["gpus-per-node"]


@pytest.mark.parametrize("code", [0, 4])
def test_ssh_starts_one_launcher_a_host(code: int, tmp_path: Path) -> None:
    env = programs(tmp_path, ssh=SSH, torchrun=TORCHRUN) | {"CODE": str(code), "GPUS": "4"}
    place = tmp_path / "a place"
    place.mkdir()
    script = ["bash", str(LAUNCH / "ssh.sh"), "my recipe.yaml", "host-a", "host-b"]
    assert subprocess.run(script, env=env, cwd=place, check=False).returncode == code
    calls = sorted(log(tmp_path))
    end = "--master-addr host-a --master-port 29500 -m twofold train my recipe.yaml"
    start = f"{place}: torchrun --nnodes 2 --nproc-per-node 4 --node-rank"
    assert calls[:2] == [f"{start} {rank} {end}" for rank in (0, 1)]
    assert [call.split()[-1] for call in calls[2:]] == ["host-a", "host-b"]


@pytest.mark.parametrize("arguments", [[], ["recipe.yaml"]])
def test_ssh_asks_for_what_is_missing(arguments: list[str]) -> None:
    done = subprocess.run(["bash", LAUNCH / "ssh.sh", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "launch/ssh.sh" in done.stderr


def document(name: str) -> dict[str, Any]:
    return yaml.safe_load((LAUNCH / name).read_text("utf-8"))


def test_skypilot_is_given_what_it_knows() -> None:
    """Keys of SkyPilot's task format."""
    task = document("skypilot.yaml")
    assert set(task) <= {"name", "workdir", "num_nodes", "resources", "file_mounts", "envs", "setup", "run", "volumes"}
    ((place, mount),) = task["file_mounts"].items()
    assert mount["mode"] in ("MOUNT", "COPY", "MOUNT_CACHED")
    assert f"run={place}/" in task["run"]
    provided = {f"SKYPILOT_{name}" for name in ("NODE_IPS", "NUM_NODES", "NODE_RANK", "NUM_GPUS_PER_NODE")}
    assert set(re.findall(r"\$([A-Z_]+)", task["run"])) == provided | set(task["envs"])


def test_the_job_of_kubernetes_is_whole() -> None:
    """A failure policy needs pods that are not restarted in place; volumes have the names of their mounts."""
    job = document("kubernetes.yaml")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["restartPolicy"] == "Never"
    (rule,) = job["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [2]}
    assert {v["name"] for v in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == int(container["command"][2])


def test_the_image_is_built_from_the_lock() -> None:
    text = (LAUNCH / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    steps = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
    assert {word for word, _ in steps} <= {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT", "CMD"}
    (run,) = [rest for word, rest in steps if word == "RUN"]
    assert "--require-hashes" in run
    assert (ROOT / "requirements.lock").is_file()
    (image,) = [rest for word, rest in steps if word == "FROM"]
    floor = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    version = re.fullmatch(r"python:(\d+)\.(\d+)-slim", image)
    assert version is not None
    assert f">={version[1]}.{version[2]}" == floor


def test_every_example_has_its_line() -> None:
    page = (LAUNCH / "README.md").read_text("utf-8")
    assert [p.name for p in LAUNCH.iterdir() if p.name != "README.md" and f"`{p.name}`" not in page] == []
