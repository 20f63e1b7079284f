"""What several test files use: the recipes run in this process or as processes, and where the repository is."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voicecommand.run import manifest

ROOT = Path(__file__).parents[1]
SENTENCES = [
    "turn on the kitchen lights",
    "turn off the lights",
    "please switch the fan on",
    "set a timer for ten minutes",
    "wake me at seven tomorrow morning please",
    "play some jazz in the living room",
    "stop the music",
    "call anna",
    "send a message to ben that i am late",
    "what",
]
# of the tiny text checkpoints, see the fixture `checkpoints`
FAMILIES = ("bert_cased", "bert_uncased", "roberta", "distilbert", "modernbert", "gpt2")
LAUNCH = [
    sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--main_process_port", "0", "--num_processes",
    "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
]  # fmt: skip


def run_recipe(name: str, *argv: str) -> int:
    """The exit code of `python recipes/<name>.py <argv>`, run in this process."""
    path = ROOT / "recipes" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.argv = [str(path), *argv]
    try:
        module.exits.run_program(module.main) if name in ("predict", "grammar") else module.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def run_and_read(capfd: Any, name: str, *argv: str) -> tuple[int, str]:
    """As `run_recipe`, with what it wrote to standard output and standard error."""
    code = run_recipe(name, *argv)
    output = capfd.readouterr()
    return code, output.out + output.err


def open_training(program: list[str], overrides: list[str], **environment: str) -> subprocess.Popen[str]:
    """`<program> recipes/train.py <overrides>` as a process of its own group, with its output in pipes."""
    variables = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    variables |= {"PYTHONPATH": str(ROOT / "src"), **environment}
    command = [*program, str(ROOT / "recipes/train.py"), *overrides]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=variables, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def start_training(program: list[str], overrides: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """As `open_training`, to its end; it is killed with its children after two minutes."""
    with open_training(program, overrides, **environment) as process:
        try:
            out, err = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:  # the ranks would outlive their launcher
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def find_run(runs: Path) -> Path:
    """The one run directory below `runs`."""
    found = [path.parent for path in runs.glob("*/*/status.json")]
    assert len(found) == 1, "one run directory"
    return found[0]


CHECKPOINT = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "model.safetensors", "rng_state.pth")


def write_checkpoint(path: Path, **facts: object) -> None:
    """A checkpoint that is whole, with nothing in its files."""
    path.mkdir(parents=True)
    for name in CHECKPOINT:
        (path / name).write_text("x")
    step = {"step": int(path.name.rpartition("-")[2]), "best_step": None, "resumable": True}
    manifest.write(path, step | facts)


def read_json(directory: Path, name: str) -> Any:
    return json.loads((directory / name).read_text(encoding="utf-8"))


@dataclass
class Parts:
    """A task with all that a training makes of it."""

    task: Any
    vocabulary: Any
    processor: Any
    encoded: Any
    model: Any
    trainer: Any


def build_parts(
    task: Any,
    dataset: Any,
    args: Any,
    tuning: Any = None,
    augmentation: Any = None,
    seed: int = 0,
    labels: Sequence[str] | None = None,
    model: Any = None,
    processor: Any = None,
) -> Parts:
    """As recipes/train.py does it, up to the Trainer; `labels`, `model` and `processor` may be given."""
    from voicecommand.models.tuning import Full
    from voicecommand.tasks.base import Vocabulary
    from voicecommand.training import fit

    vocabulary = task.learn(dataset["train"]) if labels is None else Vocabulary(labels=tuple(labels))
    processor = task.load_processor(vocabulary) if processor is None else processor
    encoded = fit.encode(dataset, task, processor, vocabulary)
    model = task.load_model(vocabulary, processor) if model is None else model
    tuning = tuning or Full()
    (stage,) = task.stages(encoded["train"])
    prepared = task.prepare(model, tuning, encoded["train"], processor)
    trainer = fit.build_trainer(
        task, prepared, processor, vocabulary, stage, args=args, tuning=tuning, augmentation=augmentation, seed=seed,
        validation=encoded["validation"], unprepared=model,
        validate=fit.build_validation(
            task, processor, vocabulary, dataset["validation"], encoded["validation"], args
        ),
    )  # fmt: skip
    return Parts(task, vocabulary, processor, encoded, model, trainer)


def fit_estimator(task: Any, rows: Any, labels: Sequence[str] | None = None, seed: int = 0) -> Parts:
    """An estimator fitted to rows."""
    from voicecommand.tasks.base import Vocabulary

    vocabulary = task.learn(rows) if labels is None else Vocabulary(labels=tuple(labels))
    processor = task.load_processor(vocabulary)
    encoded = task.encode(rows, processor, vocabulary)
    model = task.fit(task.load_model(vocabulary, processor), encoded, vocabulary, seed)
    return Parts(task, vocabulary, processor, encoded, model, None)


def write_tones(folder: Path, count: int, samples: int, speakers: int) -> None:
    """`count` recordings of two labels, tones that rise or fall, by so many speakers, and metadata.csv."""
    import numpy as np

    from voicecommand.audio.clips import write_wav

    folder.mkdir()
    rows = ["file_name,label,speaker"]
    times = np.arange(samples) / 16_000
    for number in range(count):
        label, speaker = ("up", "down")[number % 2], number * speakers // count
        pitch = (300 + 40 * speaker) * 2.0 ** (times * (2 if label == "up" else -2))
        tone = 9000 * np.sin(2 * np.pi * np.cumsum(pitch) / 16_000 + number)
        write_wav(folder / f"{number}.wav", tone.astype(np.int16))
        rows.append(f"{number}.wav,{label},speaker {speaker}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


def write_finished_run(
    directory: Path, config: dict[str, Any], seed: int, wrong: list[int], groups: list[str] | None = None
) -> Path:
    """The files of a finished run of commands with two labels, evaluated once on test with the rows `wrong` wrong."""
    import numpy as np
    import yaml

    from voicecommand.report import written

    references = np.array([0, 1] * 20)
    probabilities = np.eye(2)[references] * 0.8 + 0.1
    probabilities[wrong] = probabilities[wrong][:, ::-1]
    column = None if not groups else "speaker" if groups[0].startswith("speaker") else "template"
    for place, split in ((directory, "validation"), (directory / "evaluations" / "commands-test", "test")):
        place.mkdir(parents=True)
        names = [f"{split}-{i}" for i in range(len(references))]
        labels = ["off", "on"]
        found = label_answers(split, names, names, names, references, probabilities, groups, column, labels)
        written.write_evaluation(place, [found], evaluate_labels([found], 0.5), [])
    record = {
        "seed": seed,
        "threads": 2,
        "hardware": {"processor": "a processor", "cores": 2},
        "versions": {"python": "3.11"},
        "data": {"name": "commands"},
        "model": {"name": "tfidf_svm", "tuning": None, "parameters": 12_000, "trainable_parameters": 12_000},
        "training": {"train_seconds": 2.0 + seed},
    }
    (directory / "run.json").write_text(json.dumps(record))
    (directory / "status.json").write_text(json.dumps({"state": "finished"}))
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    return directory


def label_answers(
    split: str,
    ids: list[str],
    origins: list[str],
    texts: list[str],
    references: Any,
    probabilities: Any,
    groups: list[str | None] | None,
    group_column: str | None,
    label_names: list[str],
    seconds: list[float] | None = None,
) -> Any:
    """Answers of a label task, their references as numbers; -1 is out of scope."""
    from voicecommand.evaluation.base import Answers

    names = [label_names[i] if i >= 0 else "out_of_scope" for i in references]
    return Answers(
        split=split, ids=ids, origins=origins, texts=texts, references={"label": names},
        columns={"probabilities": probabilities}, label_names=label_names, groups=groups, group_column=group_column,
        seconds=seconds,
    )  # fmt: skip


def evaluate_labels(splits: Any, threshold: float | None = None) -> dict[str, Any]:
    """The content of metrics.json of a label task."""
    from voicecommand.evaluation.classification import Classification
    from voicecommand.evaluation.splits import evaluate

    return evaluate([Classification()], splits, threshold)


TRAINER_LABELS = ("off", "on", "play")


def rows_of(count: int) -> Any:
    import numpy as np
    from datasets import Dataset

    draws = np.random.default_rng(1)
    words = ["turn", "the", "kitchen", "lights", "music", "please", "anna", "timer"]
    labels = draws.integers(0, 3, size=count)
    first = ["please stop the", "turn on", "play"]
    texts = [f"{first[y]} {' '.join(draws.choice(words, draws.integers(1, 12)))}" for y in labels]
    return Dataset.from_dict(
        {
            "id": [str(i) for i in range(count)],
            "origin": [f"rows:{i}" for i in range(count)],
            "text": texts,
            "label": [TRAINER_LABELS[y] for y in labels],
            "template": [f"t{i % 9}" for i in range(count)],
        }
    )


def build_trainer(
    checkpoint: Path, output: Path, task: dict[str, Any] | None = None, tuning: Any = None, **arguments: Any
) -> Any:
    """A CommandTrainer on 53 training and 21 validation examples."""
    from datasets import DatasetDict
    from transformers import TrainingArguments, set_seed

    from voicecommand.tasks.text_classification import TextClassification

    set_seed(0)
    way = TextClassification(checkpoint=str(checkpoint), **(task or {}))
    dataset = DatasetDict(train=rows_of(53), validation=rows_of(21))
    settings = {
        "per_device_train_batch_size": 16, "per_device_eval_batch_size": 8, "num_train_epochs": 2,
        "learning_rate": 1e-2, "logging_steps": 1, "report_to": "none", "use_cpu": True, "disable_tqdm": True,
        "save_strategy": "no", "seed": 3,
    }  # fmt: skip
    args = TrainingArguments(output_dir=str(output), **(settings | arguments))
    return build_parts(way, dataset, args, tuning, labels=list(TRAINER_LABELS)).trainer


def write_recogniser(directory: Path, languages: list[str]) -> Path:
    """A Whisper with random weights, without dropout, its tokenizer and the settings of its writing.

    Args:
        languages: the first of Whisper's, in its order: en, zh, de; none for a checkpoint of English only.
    """
    import tokenizers as tk
    import torch
    import transformers as t

    tasks = ["<|translate|>", "<|transcribe|>"] if languages else []
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{name}|>" for name in languages), *tasks]
    special += ["<|startofprev|>", "<|notimestamps|>"]
    trained = tk.ByteLevelBPETokenizer()
    trained.train_from_iterator(SENTENCES, vocab_size=300, min_frequency=1, show_progress=False)
    content = json.loads(trained.to_str())["model"]
    tokenizer = t.WhisperTokenizer(
        vocab=content["vocab"], merges=[tuple(m) for m in content["merges"]], pad_token="<|endoftext|>"
    )
    tokenizer.add_tokens([tk.AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.set_prefix_tokens()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in special}
    ends = {"pad_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|endoftext|>"]}
    ends |= {"bos_token_id": ids["<|endoftext|>"], "decoder_start_token_id": ids["<|startoftranscript|>"]}
    torch.manual_seed(0)
    model = t.WhisperForConditionalGeneration(
        t.WhisperConfig(
            d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=2,
            decoder_attention_heads=2, decoder_ffn_dim=32, num_mel_bins=20, vocab_size=len(tokenizer),
            max_source_positions=100, init_std=0.3, suppress_tokens=None, begin_suppress_tokens=None, **ends,
        )
    )  # fmt: skip
    generation = {"is_multilingual": bool(languages), "no_timestamps_token_id": ids["<|notimestamps|>"]}
    if languages:
        generation["lang_to_id"] = {f"<|{name}|>": ids[f"<|{name}|>"] for name in languages}
        generation["task_to_id"] = {name: ids[f"<|{name}|>"] for name in ("translate", "transcribe")}
    model.generation_config = t.GenerationConfig(
        max_length=448, prev_sot_token_id=ids["<|startofprev|>"], return_timestamps=False, **ends, **generation
    )
    model.save_pretrained(directory)
    t.WhisperFeatureExtractor(feature_size=20).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
