"""Any mistake of a user gives one line, the right exit code, and no incomplete files.

Each case goes through the recipe's own entry, in this process; `REAL` names those that also run as processes.
"""
# ruff: noqa: E501  (one case a line is easier to read than the same cases over four)

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support import ROOT, run_recipe, write_checkpoint

VERBS = {"on": "switch the {} on", "off": "turn the {} off please", "play": "play {}"}
THINGS = [f"{room} {what}" for room in ("kitchen", "hall", "attic") for what in ("light", "fan", "radio", "song")]
GOOD = "text,label\n" + "".join(
    f"{verb.format(thing)} {word},{label}\n"
    for label, verb in VERBS.items()
    for thing in THINGS
    for word in ("now", "again")
)
SVM = ("model=tfidf_svm", "data=file", "threads=1")
FILE = (*SVM, "data.path=a.csv")
TINY = (
    "model.checkpoint={tiny}", "data=file", "data.path=a.csv", "threads=1", "precision=fp32", "training=smoke",
    "training.report_to=none",
)  # fmt: skip
SAVED = ("run={run}", "data=file", "data.path=a.csv", "threads=1")


@dataclass(frozen=True)
class Case:
    """One thing that is wrong. `{tiny}`, `{run}` and `{directory}` in argv become paths."""

    id: str
    argv: tuple[str, ...]
    pattern: str
    code: int = 2
    recipe: str = "train"
    files: dict[str, str | bytes] = field(default_factory=dict)
    prepare: Callable[[Any], Any] | None = None  # called with the Place; may give a context manager
    leaves: bool = False  # a run directory that says how it ended


def csv(*rows: str, header: str = "text,label") -> dict[str, str | bytes]:
    return {"a.csv": "\n".join([header, *rows, ""])}


def jsonl(*rows: str) -> dict[str, str | bytes]:
    return {"a.jsonl": "\n".join([*rows, ""])}


@dataclass(frozen=True)
class Place:
    path: Path
    argv: tuple[str, ...]
    monkeypatch: pytest.MonkeyPatch

    def run_directory(self) -> Path:
        from voicecommand.config import identity, program

        ours = [word for word in self.argv if not word.startswith(("resume", "overwrite"))]
        return identity.run_directory(program.compose("train", ours))

    def leave_status(self, **status: Any) -> None:
        directory = self.run_directory()
        directory.mkdir(parents=True)
        (directory / "status.json").write_text(json.dumps(status))

    def leave_checkpoint(self) -> None:
        """What a run that a signal stopped leaves."""
        self.leave_status(state="interrupted", world_size=1)
        write_checkpoint(self.run_directory() / "checkpoints" / "checkpoint-1")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held by another process, as a training would."""
        directory = self.run_directory()
        directory.mkdir(parents=True)
        with (directory / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def fill_disk(self) -> None:
        """Every file after the first few fails as a full disk does."""
        from voicecommand import files as files_module

        real = files_module.write_text

        def write_text(path: Path, text: str) -> None:
            if path.name == "voicecommand.json":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            real(path, text)

        self.monkeypatch.setattr(files_module, "write_text", write_text)

    def break_run(self, name: str, content: str | bytes | None) -> None:
        """A copy of the saved run, with one file replaced or taken away."""
        shutil.copytree(self.argv_run(), self.path / "broken")
        target = self.path / "broken" / name
        if content is None:
            target.unlink()
        elif isinstance(content, bytes):
            target.write_bytes(content)
        else:
            target.write_text(content)

    def argv_run(self) -> Path:
        return Path((self.path / ".run").read_text())


def broken(name: str, content: str | bytes | None) -> Callable[[Place], None]:
    return lambda place: place.break_run(name, content)


def parquet_cut_in_half(place: Place) -> None:
    import pandas

    frame = pandas.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
    frame.to_parquet(place.path / "a.parquet")
    content = (place.path / "a.parquet").read_bytes()
    (place.path / "a.parquet").write_bytes(content[: len(content) // 2])


def saved_network_cut_short(place: Place) -> None:
    shutil.copytree(place.argv[0], place.path / "network")
    weights = place.path / "network" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    saved = {"format": 1, "kind": "network", "task": "text_classification", "label_names": ["a", "b"]}
    (place.path / "network" / "voicecommand.json").write_text(json.dumps(saved))


def key_twice(place: Place) -> None:
    from voicecommand.config import groups

    shutil.copytree(groups.CONF, place.path / "conf")
    with (place.path / "conf" / "model" / "tfidf_svm.yaml").open("a") as file:
        file.write("C: 1\n")
    place.monkeypatch.setattr(groups, "CONF", place.path / "conf")


CASES = [
    # what to run
    Case("unknown model", ("model=brt",), r"model=brt: no such model; did you mean bert\? there are bcresnet, bcresnet_taught, bert, "),
    Case("unknown data", ("data=comands",), r"data=comands: no such data; did you mean commands\?"),
    Case("unknown tuning", ("tuning=lara",), r"tuning=lara: no such tuning; did you mean lora\?"),
    Case("unknown training", ("training=smoek",), r"training=smoek: no such training; did you mean smoke\?"),
    Case("unknown experiment", ("experiment=comands_bert_full",), r"no such experiment; did you mean commands_bert_full\?"),
    Case("unknown key", ("training.lerning_rate=1",), r"unknown key; did you mean training\.learning_rate\?"),
    Case("added key", (*FILE, "+seeds=1"), r"\+seeds=1: keys can't be added; did you mean seed\?"),
    Case("deleted key", (*TINY, "~training.max_steps"), r"keys can't be deleted; write training\.max_steps=VALUE"),
    Case("bare word", ("bert",), r"bert: settings are given as KEY=VALUE"),
    Case("quote left open", ("data.path='it",), r"data\.path='it: can't be read; put quotes around it"),
    Case("two values without -m", (*SVM, "seed=1,2"), r"seed=1,2: several values need -m"),
    Case("comma in a path", ("data.path=a,b.csv",), r"if it is one value, quote it: 'data\.path=\"a,b\.csv\"'"),
    Case("unknown option", ("--epochs", *FILE), r"unrecognized arguments: --epochs; see --help"),
    Case("no data path", ("data=snips",), r"data\.path: data=snips needs it; add data\.path=\.\.\."),
    Case("two names", ("model=[bert]",), r"model=\[bert\]: give one name"),
    Case("dangling reference", ("seed=${nope}",), r"seed: Interpolation key 'nope' not found"),
    # values
    Case("seed of letters", ("seed=abc",), r"seed=abc: .*could not be converted to Integer"),
    Case("negative seed", ("seed=-1",), r"seed=-1: give at least 0"),
    Case("learning rate of letters", ("training.learning_rate=fast",), r"learning_rate=fast: .*converted to Float"),
    Case("negative learning rate", (*TINY, "training.learning_rate=-1"), r"training\.learning_rate=-1\.0: give a number"),
    Case("empty batches", (*TINY, "training.per_device_train_batch_size=0"), r"give a number of at least 1"),
    Case("no such strategy", (*TINY, "training.eval_strategy=often"), r"training: often is not a valid IntervalStrategy"),
    Case("no such logger", (*TINY, "training.report_to=pigeon"), r"training\.report_to=pigeon: not installed"),
    Case("length of letters", (*TINY, "model.max_length=many"), r"model\.max_length=many: is not of type int"),
    Case("length too small", (*TINY, "model.max_length=2"), r"model\.max_length=2: give 3 to 100,000 tokens"),
    Case("no threads", (*FILE, "threads=0"), r"threads=0: give at least 1"),
    Case("no patience", ("early_stopping=0",), r"early_stopping=0: give at least 1"),
    Case("unknown precision", (*TINY, "precision=fp33"), r"precision=fp33: give auto, fp32, bf16 or fp16"),
    Case("two precisions", (*TINY, "training.bf16=true"), r"precision=fp32 and training\.bf16"),
    Case("directory of Trainer", ("training.output_dir=x",), r"training\.output_dir: not set here; use runs=DIR"),
    Case("metrics by the batch", (*TINY, "training.batch_eval_metrics=true"), r"batch_eval_metrics: not set here; macro F1 is that of"),
    Case("half precision on the CPU", (*TINY[:4], *TINY[5:], "precision=fp16"), r"precision=fp16: needs a GPU"),
    Case("half precision on the CPU by Trainer", (*TINY[:4], *TINY[5:], "training.fp16=true"), r"training\.fp16=true: needs a GPU"),
    Case("null for a number", (*TINY, "training.max_grad_norm=null"), r"training\.max_grad_norm=null: .*not Optional"),
    Case("smoothing above one", (*TINY, "training.label_smoothing_factor=1.5"), r"label_smoothing_factor=1\.5: give a number of at least 0, below 1"),
    Case("smoothing of one", (*TINY, "training.label_smoothing_factor=1"), r"label_smoothing_factor=1\.0: .*below 1"),
    Case("objective that is not measured", (*TINY, "training.metric_for_best_model=xyz"), r"metric_for_best_model=xyz: give one of macro_f1, accuracy, loss"),
    Case("objective the wrong way round", (*TINY, "training.metric_for_best_model=loss", "training.greater_is_better=true"),
         r"training\.greater_is_better=true would keep the worst checkpoint; leave greater_is_better out"),
    Case("less than a batch to train on", (*TINY, "training.dataloader_drop_last=true", "training.per_device_train_batch_size=100",
         "training.gradient_accumulation_steps=2"), r"dataloader_drop_last=true: a global batch has 200 examples, and train only \d\d;"),
    Case("no checkpoint named", (*TINY, "model.checkpoint=null"), r"model\.checkpoint=None: is not of type str"),
    Case("number for a checkpoint", (*TINY, "model.checkpoint=7"), r"model\.checkpoint=7\b"),
    Case("fraction for a checkpoint", (*TINY, "model.checkpoint=7.5"), r"model\.checkpoint=7\.5: is not of type str"),
    Case("number for a path", (*SVM, "data.path=123"), r"123: no such file"),
    Case("multirun of an evaluation", ("-m", *SAVED), r"-m is for recipes/train\.py", recipe="evaluate"),
    Case("multirun of an audit", ("-m", *FILE[1:2]), r"-m is for recipes/train\.py", recipe="audit"),
    Case("key twice in a file of conf", FILE, r"conf/model/tfidf_svm\.yaml:\d+: not valid YAML: found duplicate key C", prepare=key_twice),
    Case("foreign target", ("data._target_=os.system",), r"data\._target_=os\.system: only a function voicecommand\.data\.sources"),
    Case("target that is not there", (*SVM, "model._target_=voicecommand.tasks.nope.X"), r"there is no such class or function"),
    Case("weights of a word", (*FILE, "model.class_weights=heavy"), r"model\.class_weights=heavy: give auto, none"),
    Case("weight of an unknown label", (*FILE, "model.class_weights={on: 1, of: 1, play: 1}"), r"one weight for each label"),
    Case("negative weight", (*FILE, "model.class_weights={on: 1, off: -1, play: 1}"), r"above 0"),
    Case("n-grams of letters", (*FILE, "model.word_ngrams=[1,two]"), r"model\.word_ngrams=.*tuple\[int, int\]"),
    Case("too many layers", (*TINY, "tuning=last_layers", "tuning.layers=9"), r"tuning\.layers=9: the checkpoint has 3 layers"),
    Case("no decay", (*TINY, "tuning.layer_decay=0"), r"tuning\.layer_decay=0.*above 0"),
    Case("stopping on nothing", (*TINY, "training.eval_strategy=no", "training.load_best_model_at_end=false"),
         r"early_stopping=5: needs training\.eval_strategy"),
    Case("schedule without what it needs", (*TINY, "training.lr_scheduler_type=cosine_with_min_lr"),
         r"cosine_with_min_lr: One of min_lr.*give 'training\.lr_scheduler_kwargs=\{min_lr: NUMBER\}'"),
    Case("schedule with what it does not know", (*TINY, "training.lr_scheduler_kwargs={nope: 1}"),
         r"lr_scheduler_type=linear: .*'nope'; leave training\.lr_scheduler_kwargs out"),
    Case("optimizer that is not installed", (*TINY, "training.optim=adamw_8bit"), r"training\.optim=adamw_8bit: .*install `bitsandbytes`"),
    Case("optimizer out of bounds", (*TINY, "training.adam_beta1=2"), r"training\.adam_beta1=2\.0: give a number of at least 0, below 1"),
    Case("log level", (*TINY, "training.log_level=loud"), r"training\.log_level=loud: give debug"),
    Case("FSDP", (*TINY, "training.fsdp=full_shard"), r"training\.fsdp: is not supported"),
    Case("DeepSpeed", (*TINY, "training.deepspeed=zero.json"), r"training\.deepspeed: is not supported"),
    Case("a time of ranks below any pause", (*TINY, "rank_timeout=1"), r"rank_timeout=1: give at least 5 s"),
    Case("upload during training", (*TINY, "training.push_to_hub=true"), r"training\.push_to_hub: not set here; after the run: hf upload"),
    # variables of a launcher that were left in the environment
    *(Case(f"{text} left over", FILE, rf"{text} is in the environment, and no launcher .*: unset {text.split('=')[0]}, or",
           prepare=lambda place, text=text: place.monkeypatch.setenv(*text.split("="))) for text in ("RANK=", "RANK=1", "WORLD_SIZE=4", "LOCAL_RANK=2")),
    # what the model does not use
    Case("tuning of a fitted model", (*FILE, "tuning=lora"), r"model=tfidf_svm does not use tuning; leave it out"),
    Case("training of a fitted model", (*FILE, "training.max_steps=1"), r"model=tfidf_svm does not use training"),
    Case("precision of a fitted model", (*FILE, "precision=bf16"), r"precision=bf16: model=tfidf_svm does not use"),
    Case("patience of a fitted model", (*FILE, "early_stopping=1"), r"early_stopping=1: model=tfidf_svm does not use"),
    Case("resume of a fitted model", (*FILE, "resume=true"), r"resume=true: there is no run at runs/file-a/tfidf_svm-s42"),
    Case("multirun of unlike models", ("-m", "model=bert,tfidf_svm", "training.max_steps=1"), r"does not use training"),
    # checkpoints
    Case("model hub out of reach", (*TINY[1:], "model=roberta_base"), r"model\.checkpoint=\S+ at revision \w+: the hub cannot be reached, .*use model=bert"),
    Case("data hub out of reach", (*SVM[:1], "data=hub", "data.path=a/b", "data.revision=x"), r"data set a/b.*the hub cannot be reached"),
    Case("checkpoint directory missing", (*TINY[1:], "model.checkpoint=./nope"), r"model\.checkpoint=\./nope: no such directory"),
    Case("checkpoint package missing", (*TINY[1:], "model.checkpoint=package://nope/model"), r"the package 'nope' is not installed"),
    Case("checkpoint outside its package", (*TINY[1:], "model.checkpoint=package://numpy/../torch"), r"has no directory"),
    Case("not a checkpoint", (*TINY[1:], "model.checkpoint=./{directory}"), r"not a usable checkpoint"),
    # files of one's own
    Case("no such file", (*SVM, "data.path=b.csv"), r"b\.csv: no such file.*did you mean a\.csv"),
    Case("no data given", SVM, r"no data given: data\.path=FILE"),
    Case("data given twice", (*FILE, "data.files.train=a.csv"), r"are both given: give one of them"),
    Case("unknown split", (*SVM, "data.files.dev=a.csv"), r"data\.files\.dev: unknown key; did you mean data\.files\.validation"),
    Case("unknown ending", (*SVM, "data.path=a.docx"), r"a\.docx: files named \.docx are not read", files={"a.docx": "x"}),
    Case("empty file", FILE, r"a\.csv: the file is empty", files={"a.csv": ""}),
    Case("header only", FILE, r"a\.csv: no rows", files=csv()),
    Case("cell too many", FILE, r"a\.csv:3: ", files=csv("a,x", "b,y,z")),
    Case("cell too few", FILE, r"a\.csv:3: ", files=csv("a,x", "b")),
    Case("quote never closed", FILE, r"a\.csv", files=csv('"a,x', "b,y")),
    Case("header twice", FILE, r"a\.csv:1: .*'text'", files=csv("a,b,x", header="text,text,label")),
    Case("column missing", FILE, r"no column 'label' for label.*'intent'", files=csv("a,x", header="text,intent")),
    Case("mapped column missing", (*FILE, "data.column_map.text=words"), r"no column 'words' for text"),
    Case("id twice", FILE, r"a\.csv:3: the id '1' is also that of row 2", files=csv("1,a,x", "1,b,y", header="id,text,label")),
    Case("not UTF-8", FILE, r"a\.csv:2: byte 0xe9 is not UTF-8", files={"a.csv": b"text,label\nol\xe9,x\n"}),
    Case("UTF-16 without a mark", FILE, r"a\.csv:1: NUL bytes", files={"a.csv": "text,label\na,x\n".encode("utf-16-le")}),
    Case("NUL byte", FILE, r"a\.csv:2: a NUL byte", files={"a.csv": b"text,label\na\0b,x\n"}),
    Case("empty text", FILE, r"empty text\(s\) in \w+ \(a\.csv:2", files={"a.csv": GOOD.replace("switch the kitchen light on now", "   ")}),
    Case("not JSON", (*SVM, "data.path=a.jsonl"), r"a\.jsonl:2: ", files=jsonl('{"text": "a", "label": "x"}', "{nope")),
    Case("JSON of another kind", (*SVM, "data.path=a.jsonl"), r"a\.jsonl:1: ", files=jsonl('["a", "x"]')),
    Case("null label", (*SVM, "data.path=a.jsonl"), r"a\.jsonl:1: 'label' is null", files=jsonl('{"text": "a", "label": null}')),
    Case("number for a text", (*SVM, "data.path=a.jsonl"), r"a\.jsonl:1: 'text' is the number 7", files=jsonl('{"text": 7, "label": "x"}')),
    Case("field missing in a row", (*SVM, "data.path=a.jsonl"), r"a\.jsonl:2: no field 'label'",
         files=jsonl('{"text": "a", "label": "x"}', '{"text": "b"}')),
    Case("half a Parquet file", (*SVM, "data.path=a.parquet"), r"a\.parquet: not a whole Parquet file", prepare=parquet_cut_in_half),
    Case("one label", FILE, r"train has one label only, 'x'", files=csv(*(f"say {n} again,x" for n in range(40)))),
    Case("label of test absent from train", (*SVM, "data.path=d"), r"test has labels that train lacks: 'offf'.*did you mean 'off' \(d/test\.csv:2",
         files={"d/train.csv": GOOD, "d/validation.csv": GOOD, "d/test.csv": "text,label\nlamp out,offf\n"}),
    Case("reserved label", FILE, r"have the label 'out_of_scope', which is never trained on", files={"a.csv": GOOD.replace(",play", ",out_of_scope")}),
    Case("nothing left to train on", (*FILE, "data.split.test=0.6", "data.split.validation=0.5"), r"leave nothing to train on"),
    Case("no validation split", (*FILE, "data.split.validation=0"), r"no validation split; there are train, test"),
    Case("split by a column that is not there", (*FILE, "data.split.by=speaker"), r"data\.split\.by=speaker: no such column"),
    Case("unknown name in a split column", (*FILE, "data.split.column=part"), r"a\.csv:2: part is 'held out'", files=csv("a,x,held out", header="text,label,part")),
    # the run directory
    Case("in use", FILE, r"tfidf_svm-s42-\w{8}: in use by another process", prepare=Place.lock),
    Case("not finished", FILE, r"holds a run that did not finish; resume=true continues it, overwrite=true starts again",
         prepare=Place.leave_checkpoint),
    Case("nothing to resume", (*TINY, "resume=true"), r"resume=true: there is no run at runs/file-a/bert-full-s42"),
    Case("resume and overwrite", (*TINY, "resume=true", "overwrite=true"), r"resume=true and overwrite=true: give one"),
    Case("other number of processes", (*TINY, "resume=true"), r"ran on 2 processes, and these are 1; resume it on 2",
         prepare=lambda place: place.leave_status(state="interrupted", world_size=2)),
    Case("a file in its place", (*FILE, "runs=a.csv"), r"cannot write a\.csv/file-a/tfidf_svm-\S+: Not a directory; ", code=4),
    Case("disk full", FILE, r"No space left on device", code=4, prepare=Place.fill_disk, leaves=True),
    Case("loss not finite", (*TINY, "training.learning_rate=1e30", "training.max_steps=5"), r"step \d: the loss is (nan|inf); lower", code=3, leaves=True),
    # a saved run
    Case("no run named", SAVED[1:], r"run: the recipe needs it; add run=", recipe="evaluate"),
    Case("no such run", ("run=nope", *SAVED[1:]), r"nope: no such directory", recipe="evaluate"),
    Case("run without a model", ("run={directory}", *SAVED[1:]), r"not a finished run", recipe="evaluate"),
    Case("no such split", (*SAVED, "split=tset"), r"split=tset: no such split; the data has train, validation, test", recipe="evaluate"),
    Case("labels that the model does not know", SAVED, r"a\.csv:\d+: label 'up' is not one of the model's 3 labels", recipe="evaluate",
         files={"a.csv": GOOD.replace(",play", ",up")}),
    Case("run with a foreign target", ("run=broken", *SAVED[1:]), r"broken/config\.yaml: model\._target_=os\.system: only a task",
         recipe="evaluate", prepare=broken("config.yaml", "model:\n  _target_: os.system\n  command: touch pwned\n")),
    Case("run of a foreign kind", ("run=broken", *SAVED[1:]), r"broken/model: does not open", recipe="evaluate",
         prepare=broken("model/voicecommand.json", '{"kind": "os.system", "label_names": ["a"]}')),
    Case("model cut short", ("broken", "play it"), r"broken/model: damaged: estimator\.safetensors has 40 bytes, not ", recipe="predict",
         prepare=broken("model/estimator.safetensors", b"\x00" * 40)),
    Case("network cut short", ("network", "play it"), r"network: does not open", recipe="predict",
         prepare=lambda place: saved_network_cut_short(Place(place.path, (str(place.path / ".tiny"),), place.monkeypatch))),
    Case("model without its features", ("broken", "play it"), r"broken/model: damaged: features\.json is missing; copy ", recipe="predict",
         prepare=broken("model/features.json", None)),
    Case("nothing to predict", ("{run}",), r"give either commands or --input FILE", recipe="predict"),
    Case("predict from nowhere", ("nope", "play it"), r"nope: no such directory", recipe="predict"),
    Case("no such input", ("{run}", "--input", "nope.txt"), r"--input nope\.txt: No such file", recipe="predict"),
    Case("object without a text", ("{run}", "--input", "in.txt"), r"in\.txt:1: no text", recipe="predict", files={"in.txt": '{"said": "a"}\n'}),
    Case("table without the column", ("{run}", "--input", "b.csv"), r"b\.csv: no column 'text'.*'Text'.*add --column Text", recipe="predict", files={"b.csv": "Text\na\n"}),
    Case("half a character", ("{run}", "--input", "in.txt"), r"in\.txt:1: '.ud800': holds half of a surrogate pair", recipe="predict", files={"in.txt": '{"text": "\\ud800"}\n'}),
    Case("a column of no input", ("{run}", "play it", "--column", "said"), r"--column said: only used with --input", recipe="predict"),
    Case("a file as a command", ("{run}", "a.csv"), r"a\.csv: is a file; give --input a\.csv", recipe="predict"),
    Case("a recording for a model of texts", ("{run}", "a.wav"), r"a\.wav: is a recording, and this model reads text", recipe="predict", files={"a.wav": ""}),
    Case("input that is not JSON", ("{run}", "--input", "in.txt"), r"in\.txt:1: not a JSON object", recipe="predict", files={"in.txt": "{a\n"}),
    Case("input that is not UTF-8", ("{run}", "--input", "in.txt"), r"in\.txt:2: not UTF-8", recipe="predict", files={"in.txt": b"a\n\xe9\n"}),
    Case("output nowhere", ("{run}", "play it", "--output", "no/out.jsonl"), r"--output no/out\.jsonl: no such directory", recipe="predict"),
    Case("audit of bad data", ("data=file", "data.path=a.csv"), r"the data has 1 error", recipe="audit", files=csv(*(f"say {n} again,x" for n in range(40)))),
    Case("samples into a file", ("samples=/dev/null", "data=file", "data.path=b.csv"), r"samples=/dev/null: is not a directory", recipe="audit"),
    Case("audit of no file", ("data=file", "data.path=b.csv"), r"b\.csv: no such file", recipe="audit"),
]  # fmt: skip
REAL = {"unknown model", "unknown key", "one label", "cell too many", "in use", "no such run", "not finished"}


@pytest.fixture(scope="session")
def saved_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of tfidf_svm on `GOOD`."""
    root = tmp_path_factory.mktemp("saved")
    (root / "a.csv").write_text(GOOD)
    before, argv = os.getcwd(), sys.argv
    os.chdir(root)
    try:
        assert run_recipe("train", *FILE) == 0
    finally:
        os.chdir(before)
        sys.argv = argv
    return next(root.glob("runs/file-a/*"))


def set_the_scene(
    case: Case, tmp_path: Path, checkpoints: dict[str, Path], saved_run: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], Any]:
    """Files and the working directory; answers argv and a context in which to run it."""
    monkeypatch.chdir(tmp_path)
    for name, content in ({"a.csv": GOOD} | case.files).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    (tmp_path / "plain").mkdir()
    (tmp_path / ".run").write_text(str(saved_run))
    (tmp_path / ".tiny").symlink_to(checkpoints["bert_uncased"])
    names = {"{tiny}": str(checkpoints["bert_uncased"]), "{run}": str(saved_run), "{directory}": "plain"}
    argv = list(case.argv)
    for name, value in names.items():
        argv = [word.replace(name, value) for word in argv]
    context = case.prepare(Place(tmp_path, tuple(argv), monkeypatch)) if case.prepare else None
    return argv, context or contextlib.nullcontext()


def files_under(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*")}


def check_output(case: Case, code: int, output: str) -> None:
    lines = [line for line in output.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert code == case.code, output
    assert len(lines) == 1, output
    assert re.search(case.pattern, lines[0]), f"{lines[0]!r} does not match {case.pattern!r}"
    assert "Traceback" not in output


def test_there_are_at_least_forty_distinct_cases() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= 40
    assert len({(case.recipe, case.argv, str(case.files), case.prepare) for case in CASES}) == len(CASES)
    assert len(REAL & {case.id for case in CASES}) >= 6


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id.replace(" ", "_"))
def test_bad_input_is_one_line_and_an_exit_code(
    case: Case,
    tmp_path: Path,
    checkpoints: dict[str, Path],
    saved_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    argv, context = set_the_scene(case, tmp_path, checkpoints, saved_run, monkeypatch)
    with context:
        before, kept = files_under(tmp_path), files_under(saved_run)
        capfd.readouterr()
        code = run_recipe(case.recipe, *argv)
        captured = capfd.readouterr()
        after = files_under(tmp_path)
    check_output(case, code, captured.err)
    assert files_under(saved_run) == kept
    if case.leaves:
        (status,) = tmp_path.glob("runs/*/*/status.json")
        assert json.loads(status.read_text())["exit_code"] == case.code
        assert not list(status.parent.glob("**/*.part")), "half-written files"
        assert not (status.parent / "model").exists()
    else:
        assert after == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.id in REAL], ids=lambda case: case.id.replace(" ", "_")
)
def test_bad_input_in_a_real_process(
    case: Case, tmp_path: Path, checkpoints: dict[str, Path], saved_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv, context = set_the_scene(case, tmp_path, checkpoints, saved_run, monkeypatch)
    with context:
        before = files_under(tmp_path)
        command = [sys.executable, str(ROOT / "recipes" / f"{case.recipe}.py"), *argv]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    check_output(case, done.returncode, done.stderr)
    assert files_under(tmp_path) == before


@pytest.mark.slow
def test_a_real_full_disk_ends_in_one_line_and_exit_code_4(tmp_path: Path) -> None:
    """A file-size limit that the model's weights exceed: the kernel refuses the write, as it does on a full disk."""
    (tmp_path / "a.csv").write_text(GOOD)
    limit = "import resource, signal, os, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, str(ROOT / "recipes" / "train.py"), *FILE]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", limit, *command],
        capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120,
    )  # fmt: skip
    check_output(Case("file too large", FILE, r"File too large|file too large", code=4), done.returncode, done.stderr)
    (directory,) = tmp_path.glob("runs/file-a/*")
    assert not (directory / "model").exists() and not list(directory.glob("**/*.part"))


def test_a_bug_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from voicecommand.training import fit

    def seed_everything(dataset: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(fit, "seed_everything", seed_everything)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text(GOOD)
    with pytest.raises(ZeroDivisionError):
        run_recipe("train", *FILE)


def test_an_interrupted_fitted_model_goes_on_as_its_message_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text(GOOD)
    Place(tmp_path, FILE, monkeypatch).leave_status(state="interrupted", world_size=1)
    assert run_recipe("train", *FILE, "resume=true") == 0
    assert "fitted in one step has nothing to resume: it is fitted again" in capfd.readouterr().err
    (status,) = tmp_path.glob("runs/file-a/*/status.json")
    assert json.loads(status.read_text())["state"] == "finished"


def test_drop_last_drops_no_row_of_an_evaluation(
    tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas

    monkeypatch.chdir(tmp_path)
    for split in ("train", "validation", "test"):
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / f"{split}.csv").write_text(GOOD.replace("now", f"now {split}").replace("again", split))
    argv = [word.replace("{tiny}", str(checkpoints["bert_uncased"])).replace("a.csv", "d") for word in TINY]
    argv += ["training.dataloader_drop_last=true", "training.per_device_eval_batch_size=7", "training.max_steps=1"]
    assert run_recipe("train", *argv) == 0
    (path,) = tmp_path.glob("runs/file-d/*/predictions.parquet")
    assert pandas.read_parquet(path)["split"].value_counts().to_dict() == {"validation": 72, "test": 72}


def test_bad_input_that_all_ranks_see_is_said_by_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from voicecommand.errors import InputError, StorageError
    from voicecommand.run import exits, processes

    assert exits.fail(InputError("wrong"), 2) == 2
    assert capfd.readouterr().err == "error: wrong\n"
    monkeypatch.setattr(processes, "RANK", 1)
    monkeypatch.setattr(processes, "LOCAL_RANK", 1)
    assert exits.fail(InputError("wrong"), 2) == 2
    assert capfd.readouterr().err == ""
    assert exits.fail(StorageError("full"), 4) == 4
    assert capfd.readouterr().err == "rank 1: error: full\n"


def clean_tables() -> dict[str, tuple[str, bytes]]:
    """Name -> (file, content) of tables that are unusual, and have nothing wrong."""
    places = (
        "hall",
        "kitchen",
        "Küche",
        "寝室",
        "salle à manger",
        "oficina",
        "🏠 home",
        "garage 2",
        "l'entrée",
        "bath",
    )
    rows = [(f"{verb} {place}", verb) for verb in ("open", "close") for place in places]
    plain = "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)
    quoted = "text,label\n" + "".join(f'"{text}, ""now""","{label}"\n' for text, label in rows)
    lines = "text,label\n" + "".join(f'"{text}\nplease",{label}\n' for text, label in rows)
    numbers = plain.replace(",open\n", ",007\n").replace(",close\n", ",10\n")
    longer = "text,label\n" + "".join(f"{text} {'and so on ' * 15}{text},{label}\n" for text, label in rows)
    objects = "".join(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in rows)
    return {
        "plain": ("a.csv", plain.encode()),
        "windows lines": ("a.csv", plain.replace("\n", "\r\n").encode()),
        "byte order mark": ("a.csv", plain.encode("utf-8-sig")),
        "utf-16": ("a.csv", plain.encode("utf-16")),
        "no last line end": ("a.csv", plain.rstrip().encode()),
        "semicolons": ("a.csv", plain.replace(",", ";").encode()),
        "tabs": ("a.tsv", plain.replace(",", "\t").encode()),
        "quoted commas and quotes": ("a.csv", quoted.encode()),
        "lines in cells": ("a.csv", lines.encode()),
        "numbers as labels": ("a.csv", numbers.encode()),
        "long texts": ("a.csv", longer.encode()),
        "another column": ("a.csv", plain.replace("\n", ",x\n").replace("label,x", "label,note").encode()),
        "json lines": ("a.jsonl", objects.encode()),
        "labels of several words": ("a.csv", plain.replace(",open\n", ",Open the door.\n").encode()),
    }


@pytest.mark.parametrize("name", clean_tables())
def test_clean_tables_of_every_kind_raise_no_alarm(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file, content = clean_tables()[name]
    (tmp_path / file).write_bytes(content)
    assert run_recipe("audit", "data=file", f"data.path={file}") == 0
    output = capfd.readouterr()
    assert "0 errors, 0 warnings" in output.out + output.err, output.out + output.err
    labels = {"numbers as labels": ("007", "10"), "labels of several words": ("Open the door.", "close")}
    for label in labels.get(name, ("open", "close")):
        assert f"\n{label} " in output.out or f"\n{label}\t" in output.out, output.out
