"""Which checkpoint a run goes on from: the newest that is exactly as it was written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support import CHECKPOINT, write_checkpoint
from voicecommand.run import checkpoints, manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (9, 10, 20):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    return tmp_path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit_facts(path: Path) -> None:
    content = json.loads((path / "manifest.json").read_text())
    content["facts"]["step"] = 30
    (path / "manifest.json").write_text(json.dumps(content))


def test_the_newest_checkpoint_that_verifies_is_found(folder: Path) -> None:
    assert checkpoints.find_newest(folder / "nowhere") == (None, {}, [])
    write_checkpoint(folder / "checkpoint-7" / "checkpoint-99")
    (folder / "checkpoint-30.part").mkdir()
    found = checkpoints.find_newest(folder)
    assert found.path == folder / "checkpoint-20" and found.facts["step"] == 20 and found.skipped == []


@pytest.mark.parametrize("name", [*CHECKPOINT, "manifest.json"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [(Path.unlink, "{} is missing"), (flip, "{} "), (lambda path: path.write_text(""), "{} ")],
    ids=["missing", "flipped", "empty"],
)
def test_damage_to_any_file_is_named_and_the_one_before_is_taken(
    name: str, damage: Callable[[Path], object], reason: str, folder: Path
) -> None:
    damage(folder / "checkpoint-20" / name)
    found = checkpoints.find_newest(folder)
    assert found.path == folder / "checkpoint-10"
    ((path, said, is_damaged),) = found.skipped
    assert path.name == "checkpoint-20" and said.startswith(reason.format(name)) and is_damaged


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "extra.pt").touch(), "extra.pt was not there when the folder was written"),
        (edit_facts, "manifest.json has changed since it was written"),
        (lambda path: (path / "manifest.json").write_text("[" * 100_000), "manifest.json is not valid JSON"),
        (lambda path: (path / "manifest.json").write_text('{"format": 9}'), "a format that this version does not know"),
        (lambda path: [shutil.rmtree(path), shutil.copytree(path.with_name("checkpoint-9"), path)], "saved at step 9"),
    ],
    ids=["added", "facts", "deep", "format", "another step"],
)
def test_a_checkpoint_that_is_not_as_it_was_written_is_skipped(
    damage: Callable[[Path], object], reason: str, folder: Path
) -> None:
    damage(folder / "checkpoint-20")
    found = checkpoints.find_newest(folder)
    assert found.path == folder / "checkpoint-10" and reason in found.skipped[0].reason


def test_a_checkpoint_is_only_as_good_as_the_best_one_that_it_refers_to(folder: Path) -> None:
    write_checkpoint(folder / "checkpoint-30", best_step=20)
    write_checkpoint(folder / "checkpoint-40", resumable=False)
    assert checkpoints.find_newest(folder).path == folder / "checkpoint-30"
    flip(folder / "checkpoint-20" / "model.safetensors")
    found = checkpoints.find_newest(folder)
    assert found.path == folder / "checkpoint-10"
    assert [one.path.name for one in found.skipped] == ["checkpoint-40", "checkpoint-30", "checkpoint-20"]
    assert "the best checkpoint so far, checkpoint-20: model.safetensors has changed" in found.skipped[1].reason
    checkpoints.set_aside(folder, found.skipped)
    assert (folder / "checkpoint-40").is_dir(), "that has the model only, and is not damaged"


def test_what_was_skipped_is_set_aside_and_what_was_half_written_is_removed(folder: Path) -> None:
    flip(folder / "checkpoint-20" / "optimizer.pt")
    (folder / "checkpoint-25.part").mkdir()
    checkpoints.set_aside(folder, checkpoints.find_newest(folder).skipped)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-10", "checkpoint-20.damaged", "checkpoint-9"]
    assert [path.name for path in checkpoints.list_checkpoints(folder)] == ["checkpoint-9", "checkpoint-10"]


def test_rotation_keeps_the_newest_and_the_best(folder: Path) -> None:
    checkpoints.rotate(folder, None, None)
    assert len(checkpoints.list_checkpoints(folder)) == 3
    checkpoints.rotate(folder, 2, folder / "checkpoint-9")
    assert [path.name for path in checkpoints.list_checkpoints(folder)] == ["checkpoint-9", "checkpoint-20"]
    checkpoints.rotate(folder, 1, folder / "checkpoint-9")
    assert [path.name for path in checkpoints.list_checkpoints(folder)] == ["checkpoint-9", "checkpoint-20"]


def test_checkpoints_of_an_older_version_count_only_in_a_run_of_that_version(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (10, 20):
        (folder / f"checkpoint-{step}" / "manifest.json").unlink()
        state = json.dumps({"best_global_step": 10})
        (folder / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert checkpoints.find_newest(folder).path == folder / "checkpoint-9"
    found = checkpoints.find_newest(folder, is_older=True)
    assert found.path == folder / "checkpoint-20" and found.facts["best_step"] == 10
    assert "written by an older version, so that it is not known whether it is whole" in caplog.text
    assert checkpoints.find_newest(folder).path == folder / "checkpoint-20", "both have a manifest now"
    flip(folder / "checkpoint-10" / "model.safetensors")
    assert checkpoints.find_newest(folder, is_older=True).path == folder / "checkpoint-9"


@pytest.mark.parametrize("name", ["trainer_state.json", "optimizer.pt"])
def test_a_checkpoint_of_an_older_version_must_have_what_resuming_needs(name: str, folder: Path) -> None:
    (folder / "checkpoint-20" / "manifest.json").unlink()
    (folder / "checkpoint-20" / name).unlink()
    found = checkpoints.find_newest(folder, is_older=True)
    assert found.path == folder / "checkpoint-10" and found.skipped[0].reason == f"{name} is missing"


def test_hidden_files_of_a_system_damage_nothing(folder: Path) -> None:
    (folder / "checkpoint-20" / ".nfs0001").touch()
    assert checkpoints.find_newest(folder).path == folder / "checkpoint-20"


def test_a_file_is_hashed_again_only_when_it_has_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder / "checkpoint-20"
    manifest.verify(place)
    with monkeypatch.context() as patch:
        patch.setattr(manifest.hashlib, "file_digest", None)
        assert manifest.verify(place)["step"] == 20
    (place / "optimizer.pt").write_text("y")
    with pytest.raises(manifest.Damaged, match=r"optimizer\.pt has changed"):
        manifest.verify(place)


@pytest.mark.parametrize("best", ["../a", 10**400, 0, 31, 1.5, [1]], ids=lambda value: str(value)[:5])
def test_a_best_step_that_is_no_number_is_damage(best: object, folder: Path) -> None:
    write_checkpoint(folder / "checkpoint-30", best_step=best)
    assert checkpoints.find_newest(folder).path == folder / "checkpoint-20"
