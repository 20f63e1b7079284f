"""The files of recipes/accelerate, and what a launcher may be asked for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support import ROOT
from voicecommand.errors import InputError
from voicecommand.run import processes

FOLDER = ROOT / "recipes/accelerate"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_accepts_the_file(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import DistributedType

    args, config, _ = _validate_launch_command(
        launch_command_parser().parse_args(["--config_file", str(path), "recipes/train.py"])
    )
    assert args.num_processes == load_config_from_file(str(path)).num_processes
    assert args.mixed_precision == "no", "precision=... decides"
    assert args.multi_gpu == (config.distributed_type == DistributedType.MULTI_GPU)
    if args.use_fsdp:
        assert args.fsdp_version == 2


def test_every_file_says_what_it_is_for_and_how_far_it_was_tried() -> None:
    assert len(FILES) >= 5
    for path in [*FILES, FOLDER / "machines.sbatch"]:
        lines = path.read_text(encoding="utf-8").splitlines()
        header = " ".join(line for line in lines if line.startswith("# "))
        assert "tried:" in header and "model=bert data=commands" in header, path.name
        assert path.name in (ROOT / "docs/launching.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("variable", "what"),
    [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
     ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM")],
)  # fmt: skip
def test_what_was_not_tried_is_refused_in_one_line(variable: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(InputError, match=f"{what} is not supported, because .*recipes/accelerate/gpus.yaml"):
        processes.check_launch()


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    processes.check_devices()
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 1)
    with pytest.raises(InputError, match="2 processes were started on a machine with 1 GPU: give --num_processes 1"):
        processes.check_devices()


@pytest.mark.parametrize(
    ("state", "code", "restarts", "again"),
    [("interrupted", 1, 0, True), ("running", 1, 3, True), ("running", 1, 20, False), ("finished", 0, 0, False),
     ("failed", 1, 0, False)],
)  # fmt: skip
def test_the_slurm_script_puts_only_its_own_unfinished_run_into_the_queue_again(
    state: str, code: int, restarts: int, again: bool, tmp_path: Path
) -> None:
    programs = {
        "scontrol": f'echo "$@" >> {tmp_path}/asked; [ "$1" = requeue ] || echo node-1',
        "srun": 'SLURM_NODEID=0 "$@"',
        "accelerate": f'echo "$@" >> {tmp_path}/accelerate; mkdir -p {tmp_path}/runs/d/m;'
        f"""echo '{{"state": "{state}"}}' > {tmp_path}/runs/d/m/status.json; exit {code}""",
    }
    for name, lines in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    other = tmp_path / "runs/d/other/status.json"  # of another job, with the same folder of runs
    other.parent.mkdir(parents=True)
    other.write_text('{"state": "interrupted"}')
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node-[1-2]", "SLURM_NNODES": "2", "RUNS": f"{tmp_path}/runs"}
    slurm["SLURM_RESTART_COUNT"] = str(restarts)
    environment = os.environ | slurm | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", str(FOLDER / "machines.sbatch"), "model=bert", "data.path=a b.csv"], env=environment, check=False
    )
    command = (tmp_path / "accelerate").read_text()
    assert "--num_processes 8 --machine_rank 0 --main_process_ip node-1 recipes/train.py resume=auto" in command
    assert command.endswith("model=bert data.path=a b.csv\n")
    assert ("requeue 7" in (tmp_path / "asked").read_text()) == again
    assert ended.returncode == (0 if again else code)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["d"], "nothing stays"
