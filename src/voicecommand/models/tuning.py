"""Which parameters of a checkpoint are trained, and with what learning rates.

Each class has two methods: `prepare(model)` freezes or wraps the network, `parameter_groups(model, ...)` returns the
groups of the optimizer. conf/tuning/ has a yaml for each class.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from torch import nn

from voicecommand.errors import InputError
from voicecommand.models.embeddings import SeenRowsEmbedding
from voicecommand.models.families import body_of, known_family, stacks_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """The number of (all, trainable) parameters; of a `SeenRowsEmbedding` all includes the whole table."""
    extra = sum(m.table.numel() - m.weight.numel() for m in model.modules() if isinstance(m, SeenRowsEmbedding))
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters) + extra, sum(p.numel() for p in parameters if p.requires_grad)


def _head_names(model: Any) -> set[str]:
    """The names of parameters outside the pretrained body, and of its pooler."""
    body = f"{body_of(model)}."
    names = {name for name, _ in model.named_parameters()}
    return {n for n in names if not n.startswith(body) or ".pooler." in n}


def _layers(model: Any) -> list[tuple[str, nn.Module]]:
    """The body's blocks in order, as (name, module): those of its family, otherwise of the longest `ModuleList`."""
    if known_family(model.config):
        stacks = [(name, model.get_submodule(name)) for name in stacks_of(model)]
    else:
        lists = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.ModuleList)]
        if not lists:
            raise InputError(f"tuning: {type(model).__name__} has no stack of layers to choose from; use tuning=full")
        stacks = [max(lists, key=lambda pair: len(pair[1]))]
    return [(f"{name}.{i}", block) for name, stack in stacks for i, block in enumerate(stack)]


def _is_after_blocks(model: Any, name: str) -> bool:
    """Whether a parameter of the body comes after its blocks: it is of the norm at the end of the stack.

    A `layer_norm` beside the blocks of a speech encoder comes either after or before them, as its family says.
    """
    parent = name.split(".")[-2].lower() if "." in name else ""
    stack = _layers(model)[-1][0].rpartition(".")[0].rpartition(".")[0]
    if parent == "layer_norm" and name.startswith(f"{stack}.layer_norm."):
        family = known_family(model.config)
        return family is not None and family.ends_with_norm(model.config)
    return parent in {"ln_f", "final_norm"}


def _decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices, not to biases and norms."""
    return parameter.ndim > 1 and not re.search(r"norm", name, re.IGNORECASE)


Group: TypeAlias = dict[str, Any]  # of parameters, as torch's optimizers take it


class Tuning(Protocol):
    """Which parameters of a network are trained."""

    def prepare(self, model: PreTrainedModel) -> nn.Module:
        """The network with frozen or added parameters."""

    def parameter_groups(self, model: nn.Module, learning_rate: float, weight_decay: float) -> list[Group]:
        """The groups of trained parameters, with their learning rates and weight decay, for an optimizer."""


@dataclass(frozen=True)
class Full:
    """All weights are trained. `layer_decay` < 1 lowers the learning rate of lower layers (ULMFiT, arXiv:1801.06146;
    BEiT, 2106.08254): the k-th block below the head has learning rate x layer_decay^k, the embeddings one power more.
    """

    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.layer_decay, int | float) or not 0 < self.layer_decay <= 1:
            raise InputError(f"tuning.layer_decay={self.layer_decay}: give a number above 0 and up to 1")

    def prepare(self, model: PreTrainedModel) -> nn.Module:
        return model

    def parameter_groups(self, model: nn.Module, learning_rate: float, weight_decay: float) -> list[Group]:
        scales = {name: 1.0 for name, _ in model.named_parameters()}
        if self.layer_decay < 1:
            layers = _layers(model)
            head = _head_names(model)
            for name in scales:
                depth = next((i for i, (block, _) in enumerate(layers) if name.startswith(block + ".")), None)
                if depth is not None:
                    scales[name] = self.layer_decay ** (len(layers) - depth)
                elif name not in head:
                    scales[name] = self.layer_decay ** (0 if _is_after_blocks(model, name) else len(layers) + 1)
        return _groups(model, scales, learning_rate, weight_decay)


@dataclass(frozen=True)
class Decoder:
    """Only the decoder of a recogniser is trained; the encoder, which hears, stays as it is."""

    def prepare(self, model: PreTrainedModel) -> nn.Module:
        encoder = stacks_of(model)[0].rpartition(".")[0]
        for name, parameter in model.named_parameters():
            parameter.requires_grad = not name.startswith(f"{encoder}.")
        return model

    def parameter_groups(self, model: nn.Module, learning_rate: float, weight_decay: float) -> list[Group]:
        return _groups(model, {}, learning_rate, weight_decay)


@dataclass(frozen=True)
class Head:
    """Only the classification head is trained, and a pooler, which is new for most checkpoints."""

    def prepare(self, model: PreTrainedModel) -> nn.Module:
        head = _head_names(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name in head
        return model

    def parameter_groups(self, model: nn.Module, learning_rate: float, weight_decay: float) -> list[Group]:
        return _groups(model, {}, learning_rate, weight_decay)


@dataclass(frozen=True)
class LastLayers:
    """The head and the top `layers` blocks are trained; embeddings and lower blocks are frozen."""

    layers: int = 2

    def prepare(self, model: PreTrainedModel) -> nn.Module:
        blocks = _layers(model)
        count = len(blocks)
        if not isinstance(self.layers, int) or not 1 <= self.layers <= count:
            raise InputError(f"tuning.layers={self.layers}: the checkpoint has {count} layers; give 1 to {count}")
        head = _head_names(model)
        trained = tuple(f"{name}." for name, _ in blocks[-self.layers :])
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name in head or name.startswith(trained) or _is_after_blocks(model, name)
        return model

    def parameter_groups(self, model: nn.Module, learning_rate: float, weight_decay: float) -> list[Group]:
        return _groups(model, {}, learning_rate, weight_decay)


@dataclass(frozen=True)
class Untuned:
    """Nothing is trained: the checkpoint is measured as it is."""

    def prepare(self, model: PreTrainedModel) -> nn.Module:
        for parameter in model.parameters():
            parameter.requires_grad = False
        return model

    def parameter_groups(self, model: nn.Module, learning_rate: float, weight_decay: float) -> list[Group]:
        return []


@dataclass(frozen=True)
class Lora:
    """Low-rank updates of all linear layers of the body (LoRA, arXiv:2106.09685), by peft; the whole head trains."""

    r: int = 8
    alpha: int = 16
    dropout: float = 0.05

    def __post_init__(self) -> None:
        for name in ("r", "alpha"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"tuning.{name}={value}: give a whole number above 0")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise InputError(f"tuning.dropout={self.dropout}: give a number from 0 to below 1")

    def prepare(self, model: PreTrainedModel) -> nn.Module:
        import warnings

        from peft import LoraConfig, TaskType, get_peft_model

        head = sorted({n.split(".")[0] for n in _head_names(model) if ".pooler." not in n})
        pooler = ["pooler"] if any(".pooler." in n for n in _head_names(model)) else []
        config = LoraConfig(
            task_type=TaskType.SEQ_CLS if model.main_input_name == "input_ids" else None,  # peft has no task of audio
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules="all-linear",
            modules_to_save=head + pooler,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft warns of Conv1D's orientation, but sets it itself
            try:
                return get_peft_model(model, config)
            except ValueError as error:  # no module matched
                name = type(model).__name__
                raise InputError(f"tuning=lora: {name} has no linear layer below its head; use tuning=full") from error

    def parameter_groups(self, model: nn.Module, learning_rate: float, weight_decay: float) -> list[Group]:
        return _groups(model, {}, learning_rate, weight_decay)


def _groups(model: nn.Module, scales: dict[str, float], learning_rate: float, weight_decay: float) -> list[Group]:
    """Trainable parameters, grouped by the factor of their learning rate and by whether weight decay applies."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((scales.get(name, 1.0), _decays(name, parameter)), []).append(parameter)
    return [
        {"params": params, "lr": learning_rate * scale, "weight_decay": weight_decay if decays else 0.0}
        for (scale, decays), params in sorted(groups.items(), key=lambda item: (-item[0][0], item[0][1]))
    ]
