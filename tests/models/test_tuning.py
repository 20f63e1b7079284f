"""Which parameters each tuning trains, their learning rates, and that training only the seen rows changes no result."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from support import FAMILIES
from voicecommand.errors import InputError
from voicecommand.models.embeddings import SeenRowsEmbedding, train_seen_rows
from voicecommand.models.tuning import Full, Head, LastLayers, Lora, count_parameters
from voicecommand.tasks.base import Vocabulary
from voicecommand.tasks.text_classification import TextClassification

HEADS = {
    "bert_cased": {"bert.pooler", "classifier"},
    "bert_uncased": {"bert.pooler", "classifier"},
    "roberta": {"classifier"},
    "distilbert": {"pre_classifier", "classifier"},
    "modernbert": {"head", "classifier"},
    "gpt2": {"score"},
}
LAYERS = {
    "bert_cased": "bert.encoder.layer",
    "bert_uncased": "bert.encoder.layer",
    "roberta": "roberta.encoder.layer",
    "distilbert": "distilbert.transformer.layer",
    "modernbert": "model.layers",
    "gpt2": "transformer.h",
}
FINAL_NORM = {"modernbert": "model.final_norm", "gpt2": "transformer.ln_f"}
EMBEDDING = {"modernbert": "model.embeddings.tok_embeddings.weight", "gpt2": "transformer.wte.weight"}


def load(checkpoints: dict[str, Path], family: str) -> Any:
    torch.manual_seed(1)
    task = TextClassification(checkpoint=str(checkpoints[family]))
    vocabulary = Vocabulary(labels=("a", "b", "c"))
    return task.load_model(vocabulary, task.load_processor(vocabulary))


def moving(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_only_the_tokens_of_the_rows_that_train_are_seen(checkpoints: dict[str, Path]) -> None:
    from datasets import Dataset

    from voicecommand.models.tokens import seen_tokens

    task = TextClassification(checkpoint=str(checkpoints["bert_uncased"]))
    processor = task.load_processor(Vocabulary())
    rows = Dataset.from_dict({"input_ids": [[5, 6], [7, 8], [9]]}).select([0, 2])
    assert seen_tokens(rows, processor).tolist() == sorted({5, 6, 9, processor.pad_token_id})


def under(model: nn.Module, *parts: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(tuple(f"{p}." for p in parts))}


def batch_of(model: nn.Module, rows: int = 4) -> dict[str, torch.Tensor]:
    """Token ids 5 to 24, the second half of the rows padded."""
    draws = torch.Generator().manual_seed(2)
    ids = torch.randint(5, 25, (rows, 9), generator=draws)
    mask = torch.ones_like(ids)
    ids[rows // 2 :, 5:] = model.config.pad_token_id
    mask[rows // 2 :, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def loss_of(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    labels = torch.arange(len(inputs["input_ids"])) % 3
    return nn.functional.cross_entropy(model(**inputs).logits, labels)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_tuning_moves_what_it_says(family: str, checkpoints: dict[str, Path]) -> None:
    model = load(checkpoints, family)
    head = under(model, *HEADS[family])
    assert head
    everything = {name for name, _ in model.named_parameters()}
    assert moving(Full().prepare(copy.deepcopy(model))) == everything
    assert moving(Head().prepare(copy.deepcopy(model))) == head
    top = under(model, f"{LAYERS[family]}.1", *([FINAL_NORM[family]] if family in FINAL_NORM else []))
    assert top
    assert moving(LastLayers(layers=1).prepare(copy.deepcopy(model))) == head | top


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_moves_its_updates_and_the_head_alone(family: str, checkpoints: dict[str, Path]) -> None:
    model = load(checkpoints, family)
    head = under(model, *HEADS[family])
    linear = [n for n, m in model.named_modules() if n.startswith(LAYERS[family]) and getattr(m, "weight", n) is not n
              and m.weight.ndim == 2]  # fmt: skip
    lora = Lora(r=2, alpha=4, dropout=0.0).prepare(model)
    names = {n.removeprefix("base_model.model.") for n in moving(lora)}
    updates = {n for n in names if ".lora_" in n}
    assert {n.split(".lora_")[0] for n in updates} == set(linear), "every linear layer of the body, and no other"
    assert {n.replace(".modules_to_save.default", "") for n in names - updates} == head


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tuning", [Full(), Head(), LastLayers(layers=1), Lora(r=2, dropout=0.0)], ids=str)
def test_gradients_reach_all_that_moves_and_nothing_else(
    family: str, tuning: Any, checkpoints: dict[str, Path]
) -> None:
    model = tuning.prepare(load(checkpoints, family))
    loss_of(model, batch_of(model)).backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == moving(model)
    groups = tuning.parameter_groups(model, 1.0, 0.1)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad), "each once"


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_decay_slows_the_lower_layers(family: str, checkpoints: dict[str, Path]) -> None:
    model = load(checkpoints, family)
    rate = {}
    for group in Full(layer_decay=0.5).parameter_groups(model, 1.0, 0.0):
        rate |= {id(p): group["lr"] for p in group["params"]}
    for name, parameter in model.named_parameters():
        if name in under(model, *HEADS[family]) or name.startswith(FINAL_NORM.get(family, "none")):
            expected = 1.0
        elif name.startswith(f"{LAYERS[family]}.1."):
            expected = 0.5
        elif name.startswith(f"{LAYERS[family]}.0."):
            expected = 0.25
        else:
            expected = 0.125
        assert rate[id(parameter)] == expected, name


def test_weight_decay_is_for_matrices_alone(checkpoints: dict[str, Path]) -> None:
    model = load(checkpoints, "bert_uncased")
    for group in Full().parameter_groups(model, 1.0, 0.1):
        assert all((p.ndim > 1) == (group["weight_decay"] == 0.1) for p in group["params"])


@pytest.mark.parametrize("layers", [0, 3])
def test_more_layers_than_there_are_is_an_error(layers: int, checkpoints: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=f"tuning.layers={layers}: the checkpoint has 2 layers; give 1 to 2"):
        LastLayers(layers=layers).prepare(load(checkpoints, "bert_uncased"))


@pytest.mark.parametrize("decay", [0.0, -1.0, 1.1])
def test_a_layer_decay_outside_its_range_is_an_error(decay: float) -> None:
    with pytest.raises(InputError, match=r"tuning.layer_decay=.*above 0 and up to 1"):
        Full(layer_decay=decay)


@pytest.mark.parametrize("settings", [{"r": 0}, {"alpha": 0}, {"dropout": 1.0}, {"dropout": -0.1}], ids=str)
def test_a_lora_setting_outside_its_range_is_an_error(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"tuning.{next(iter(settings))}="):
        Lora(**settings)


def test_parameter_counts_are_those_of_the_stock_model(checkpoints: dict[str, Path]) -> None:
    model = load(checkpoints, "bert_uncased")
    stock = sum(p.numel() for p in model.parameters())
    head = 32 * 32 + 32 + 3 * 32 + 3
    assert count_parameters(Head().prepare(copy.deepcopy(model))) == (stock, head)
    train_seen_rows(model, torch.arange(25))
    assert count_parameters(model) == (stock, stock - (model.config.vocab_size - 25) * 32)


# ---- training only the seen rows ----


def embedding_of(family: str) -> str:
    prefix = LAYERS[family].split(".")[0]
    return EMBEDDING.get(family, f"{prefix}.embeddings.word_embeddings.weight")


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_training_the_seen_rows_gives_what_training_the_table_gives(
    family: str, precision: torch.dtype, checkpoints: dict[str, Path]
) -> None:
    stock = load(checkpoints, family)
    ours = copy.deepcopy(stock)
    inputs = batch_of(stock)
    seen = torch.unique(inputs["input_ids"])
    train_seen_rows(ours, seen)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-3, weight_decay=0.0) for m in (stock, ours)]
    for _ in range(4):
        for model, optimizer in zip((stock, ours), optimizers, strict=True):
            model.train()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
                loss = loss_of(model, inputs)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    theirs, mine = stock.state_dict(), ours.state_dict()
    assert list(mine) == list(theirs)
    for name in theirs:
        torch.testing.assert_close(mine[name], theirs[name], atol=2e-6, rtol=1e-5)
    # Adam's moments of the rows, too
    table, rows = stock.get_input_embeddings().weight, ours.get_input_embeddings().weight
    for moment in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(
            optimizers[1].state[rows][moment], optimizers[0].state[table][moment][seen], atol=2e-6, rtol=1e-4
        )
    # unseen tokens are read from the pretrained table
    unseen = {"input_ids": torch.tensor([[30, 6, 31, 7]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(**unseen).logits, stock.eval()(**unseen).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_table_is_saved_loaded_and_put_back(
    family: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    model = load(checkpoints, family)
    before = model.get_input_embeddings().weight.detach().clone()
    train_seen_rows(model, torch.tensor([model.config.pad_token_id, 7, 9]).unique())
    seen = model.get_input_embeddings()
    assert isinstance(seen, SeenRowsEmbedding)
    with torch.no_grad():
        seen.weight += 1.0
    after = before.clone()
    after[[model.config.pad_token_id, 7, 9]] += 1.0
    name = embedding_of(family)
    assert torch.equal(model.state_dict()[name], after)

    model.save_pretrained(tmp_path)
    opened = type(model).from_pretrained(tmp_path)
    assert torch.equal(opened.get_input_embeddings().weight, after)

    fresh = load(checkpoints, family)
    train_seen_rows(fresh, torch.tensor([9, 11]))
    keys = fresh.load_state_dict(model.state_dict())
    assert not keys.missing_keys and not keys.unexpected_keys
    assert torch.equal(fresh.get_input_embeddings().weight, after[[9, 11]])
    assert torch.equal(fresh.state_dict()[name], after)


def test_the_padding_row_never_moves(checkpoints: dict[str, Path]) -> None:
    model = load(checkpoints, "roberta")
    padding = model.config.pad_token_id
    before = model.state_dict()["roberta.embeddings.word_embeddings.weight"][padding].clone()
    inputs = batch_of(model)
    train_seen_rows(model, torch.unique(inputs["input_ids"]))
    assert model.get_input_embeddings().padding_idx is not None
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])  # so that padding would get a gradient
    loss_of(model.train(), inputs).backward()
    optimizer.step()
    assert torch.equal(model.state_dict()["roberta.embeddings.word_embeddings.weight"][padding], before)


def test_a_state_without_the_table_is_reported_as_missing(checkpoints: dict[str, Path]) -> None:
    model = load(checkpoints, "bert_uncased")
    train_seen_rows(model, torch.arange(5))
    state = model.state_dict()
    name = embedding_of("bert_uncased")
    del state[name]
    assert model.load_state_dict(state, strict=False).missing_keys == [name]


def test_ranks_do_not_send_each_other_the_table(checkpoints: dict[str, Path]) -> None:
    model = load(checkpoints, "bert_uncased")
    train_seen_rows(model, torch.arange(5))
    ignored = set(model._ddp_params_and_buffers_to_ignore)
    sent = {n: b for n, b in model.named_buffers() if n not in ignored}
    assert all(model.config.vocab_size not in buffer.shape for buffer in sent.values())
    assert not ignored & {n for n, _ in model.named_parameters()}


@pytest.mark.parametrize("tuning", [Head(), LastLayers(layers=1), Lora()], ids=str)
def test_a_frozen_embedding_stays_as_it_is(tuning: Any, checkpoints: dict[str, Path]) -> None:
    model = tuning.prepare(load(checkpoints, "bert_uncased"))
    train_seen_rows(model, torch.arange(5))
    assert type(model.get_input_embeddings()) is nn.Embedding
