"""The types of the settings."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.util
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from voicecommand.config.overrides import ELSEWHERE

# Fields of `training` that a run decides where they are not set: by the processor, the task and the installed torch.
DECIDED = ("bf16", "fp16", "metric_for_best_model", "greater_is_better", "optim", "disable_tqdm")
# Fields of `training` that voicecommand.training.length reads.
OURS: dict[str, Any] = {"min_steps": int, "max_epochs": float | None}


@functools.cache
def _training_fields() -> dict[str, tuple[Any, ast.expr | None]]:
    """The fields of the installed TrainingArguments that can be set: name -> type, and the expression of its default.

    They are read from the source, because importing transformers takes seconds, too long for `--help` or an error.
    """
    spec = importlib.util.find_spec("transformers")
    assert spec and spec.submodule_search_locations
    source = (Path(spec.submodule_search_locations[0]) / "training_args.py").read_text(encoding="utf-8")
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    body = next(node.body for node in classes if node.name == "TrainingArguments")
    simple = {"int": int, "float": float, "bool": bool, "str": str}
    fields: dict[str, tuple[Any, ast.expr | None]] = {}
    for node in body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if f"training.{node.target.id}" in ELSEWHERE or "ClassVar" in ast.unparse(node.annotation):
            continue
        parts = {part.strip() for part in ast.unparse(node.annotation).split("|")}
        kind: Any = next((simple.get(part) for part in parts - {"None"}), None) if len(parts - {"None"}) == 1 else None
        kind = Any if kind is None else kind | None if "None" in parts else kind
        keywords = {word.arg: word.value for word in node.value.keywords} if isinstance(node.value, ast.Call) else {}
        fields[node.target.id] = kind, keywords.get("default")
    return fields


@functools.cache
def _training_schema() -> type:
    """A dataclass with the typed fields of the installed TrainingArguments and our own, all unset."""
    fields = [(name, kind, dataclasses.field(default=MISSING)) for name, (kind, _) in _training_fields().items()]
    fields += [(name, kind, dataclasses.field(default=MISSING)) for name, kind in OURS.items()]
    return dataclasses.make_dataclass("TrainingSchema", fields)


def training_defaults() -> dict[str, Any]:
    """The defaults of the fields of `training` that no run decides itself: name -> value."""
    defaults: dict[str, Any] = {"min_steps": 0, "max_epochs": None}
    for name, (_, default) in _training_fields().items():
        if name not in DECIDED and default is not None:
            defaults[name] = ast.literal_eval(default)
    return defaults


@dataclasses.dataclass
class RejectSchema:
    """By which rule the threshold of rejection is set; `voicecommand.evaluation.threshold.Rule` says more."""

    keep: float | None = None
    false_accepts: float | None = None


@dataclasses.dataclass
class TrainSchema:
    """Types of the top-level settings of conf/train.yaml; `objects.build` checks those of the groups."""

    seed: int = 42
    precision: str = "auto"
    threads: int | None = None
    num_proc: int | None = None
    early_stopping: int | None = None
    reject: RejectSchema = dataclasses.field(default_factory=RejectSchema)
    metrics: list[str] = dataclasses.field(default_factory=list)
    runs: str = "runs"
    resume: Any = False  # true, false or auto
    resume_allow: list[str] = dataclasses.field(default_factory=list)
    overwrite: bool = False
    rank_timeout: float = 300
    keep_checkpoints: bool = False
    data: Any = None
    model: Any = None
    training: Any = None
    tuning: Any = None
    augment: Any = None


@dataclasses.dataclass
class EvaluateSchema:
    """Types of conf/evaluate.yaml."""

    run: str = MISSING
    split: str = "test"
    reject: RejectSchema = dataclasses.field(default_factory=RejectSchema)
    metrics: list[str] = dataclasses.field(default_factory=list)
    save: bool = False
    threads: int | None = None
    num_proc: int | None = None
    data: Any = None


@dataclasses.dataclass
class RobustnessSchema:
    """Types of conf/robustness.yaml."""

    run: str = MISSING
    split: str = "test"
    noise: str | None = None
    seed: int = 0
    threads: int | None = None
    num_proc: int | None = None
    data: Any = None


@dataclasses.dataclass
class AuditSchema:
    """Types of conf/audit.yaml."""

    columns: list[str] | None = None
    split: str | None = None
    samples: str | None = None
    num_proc: int | None = None
    data: Any = None
    augment: Any = None


def register_schemas() -> None:
    """Register the schemas with Hydra, under the names in conf/*.yaml."""
    store = ConfigStore.instance()
    store.store(group="training", name="schema", node=_training_schema())
    store.store(name="train_schema", node=TrainSchema)
    store.store(name="evaluate_schema", node=EvaluateSchema)
    store.store(name="robustness_schema", node=RobustnessSchema)
    store.store(name="audit_schema", node=AuditSchema)
