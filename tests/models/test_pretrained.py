"""Checkpoints of the hub: it is asked once, for a bounded time, and an error says what to do."""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import damage
from voicecommand.data.sources import hub
from voicecommand.errors import InputError
from voicecommand.models import pretrained
from voicecommand.tasks.base import Vocabulary
from voicecommand.tasks.text_classification import EmbeddingSvm, TextClassification

INSTEAD = "use model=bert"


@pytest.fixture(autouse=True)
def not_asked_yet() -> Iterator[None]:
    pretrained._find_on_hub.cache_clear()
    yield
    pretrained._find_on_hub.cache_clear()


def load(revision: str | None = None) -> None:
    from transformers import AutoConfig, AutoTokenizer

    for loader in (AutoConfig, AutoTokenizer):
        with pytest.raises(InputError) as caught:
            pretrained.load_pretrained(loader, "someone/some", revision, INSTEAD)
        message = (
            "the hub cannot be reached, and the checkpoint is not in the cache; HF_HOME=DIR names a cache that has it"
        )
        at = f" at revision {revision}" if revision else ""
        assert str(caught.value) == f"model.checkpoint=someone/some{at}: {message}, or {INSTEAD}"


def test_a_hub_that_never_answers_is_asked_once_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked, released = [], threading.Event()

    def answer(*args: Any, **kwargs: Any) -> None:
        asked.append(args)
        released.wait(30)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", answer)
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.2)
    start = time.monotonic()
    load()
    released.set()
    assert len(asked) == 1
    assert time.monotonic() - start < 10
    assert hub.PROBE_SECONDS < 10


def test_offline_only_the_cache_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """With HF_HUB_OFFLINE, as in all tests, no request leaves the process."""
    start = time.monotonic()
    load(revision="abc")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("RevisionNotFoundError", r"at revision abc: the hub has no such revision \(model\.revision\)$"),
        ("RepositoryNotFoundError", r"the hub has no such checkpoint, or it is private or gated .*\./DIR$"),
    ],
)
def test_what_the_hub_does_not_have_is_said(error: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors
    from transformers import AutoConfig

    kind = getattr(errors, error)

    def answer(*args: Any, **kwargs: Any) -> None:
        raise kind.__new__(kind, "no such thing")  # its own __init__ wants a response

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", answer)
    with pytest.raises(InputError, match=message):
        pretrained.load_pretrained(AutoConfig, "someone/some", "abc", INSTEAD)


def of_the_body(tensors: dict[str, Any]) -> str:
    return next(name for name, tensor in tensors.items() if "attention" in name and tensor.ndim == 2)


BODIES: dict[str, Any] = {
    "missing": lambda tensors: tensors.pop(of_the_body(tensors)),
    "of another shape": lambda tensors: tensors.update(
        {of_the_body(tensors): tensors[of_the_body(tensors)][1:].clone()}
    ),
    "NaN": lambda tensors: tensors[of_the_body(tensors)].fill_(float("nan")),
}


@pytest.mark.parametrize("problem", BODIES)
@pytest.mark.parametrize("kind", [TextClassification, EmbeddingSvm])
def test_a_checkpoint_whose_body_is_not_whole_is_not_trained(
    kind: Any, problem: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoints["bert_uncased"], tmp_path / "checkpoint"))
    task, vocabulary = kind(checkpoint=str(folder)), Vocabulary(labels=("off", "on"))
    processor = task.load_processor(vocabulary)
    damage.edit_tensors(folder, BODIES[problem])
    with pytest.raises(InputError, match=rf"not a usable checkpoint: the weights are .*attention.*{problem}"):
        task.load_model(vocabulary, processor)


@pytest.mark.parametrize("family", ["bert_cased", "roberta", "distilbert", "modernbert", "gpt2"])
def test_a_new_head_and_a_missing_pooler_are_no_damage(
    family: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """As in checkpoints of masked language models; the head for other labels is replaced."""
    folder = Path(shutil.copytree(checkpoints[family], tmp_path / "checkpoint"))

    def drop(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if "pooler." in name]:
            del tensors[name]

    damage.edit_tensors(folder, drop)
    for labels in (("off", "on"), ("call", "off", "on")):
        task, vocabulary = TextClassification(checkpoint=str(folder)), Vocabulary(labels=labels)
        task.load_model(vocabulary, task.load_processor(vocabulary)).save_pretrained(folder)


@pytest.mark.parametrize("inside", ["", "model", "folds/1/model"], ids=["a model", "a run", "a fold"])
def test_links_of_the_hubs_cache_are_no_links_out_of_a_folder(inside: str, tmp_path: Path) -> None:
    cache = tmp_path / "models--a--b"
    folder = cache / "snapshots/c0ffee" / inside
    folder.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "blobs/1234").write_text("{}")
    (folder / "config.json").symlink_to(cache / "blobs/1234")
    pretrained.check_links(folder)
    (cache / "other").write_text("{}")
    (folder / "other.json").symlink_to(cache / "other")
    with pytest.raises(InputError, match=r"other\.json: is a link out of its folder"):
        pretrained.check_links(folder)


def test_a_full_cache_is_no_fault_of_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fill(*args: Any, **kwargs: Any) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise datasets.exceptions.DatasetGenerationError("An error occurred") from error

    monkeypatch.setattr(datasets, "load_dataset", fill)
    with pytest.raises(OSError, match="No space left"):
        hub._fetch(str(tmp_path), None, None)
