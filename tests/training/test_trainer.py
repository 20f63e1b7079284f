"""Batches, loss, evaluation and resume of `CommandTrainer`."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from support import TRAINER_LABELS, build_trainer, rows_of
from voicecommand.errors import NonFiniteLoss
from voicecommand.models.tuning import Full, Head, Lora
from voicecommand.tasks.base import Vocabulary
from voicecommand.tasks.classification import to_probabilities
from voicecommand.tasks.predicting import Answerer
from voicecommand.tasks.text_classification import TextClassification
from voicecommand.training.batches import GroupedBatches, Uncounted

LENGTHS = np.random.default_rng(0).integers(3, 30, size=203)
LABELS = list(TRAINER_LABELS)


def epoch_of(split: tuple[int, int, int], rank: int, epoch: int = 0, **settings: Any) -> list[list[int]]:
    batch_size, accumulation, world_size = split
    batches = GroupedBatches(LENGTHS, batch_size, accumulation, rank, world_size, **settings)
    batches.set_epoch(epoch)
    rows = list(batches)
    assert len(rows) == len(batches)
    return rows


def steps_of(split: tuple[int, int, int], epoch: int = 0) -> list[list[int]]:
    """Examples of each optimizer step, over micro-batches and ranks, without the ones that do not count."""
    _, accumulation, world_size = split
    ranks = [epoch_of(split, rank, epoch) for rank in range(world_size)]
    micro = [
        [i for batch in parts for i in batch if not isinstance(i, Uncounted)] for parts in zip(*ranks, strict=True)
    ]
    return [list(itertools.chain(*micro[i : i + accumulation])) for i in range(0, len(micro), accumulation)]


SPLITS = [(16, 1, 1), (8, 1, 2), (8, 2, 1), (4, 2, 2), (2, 1, 8), (4, 4, 1)]


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_any_split_into_ranks_and_accumulation_takes_the_same_examples_in_each_step(
    split: tuple[int, int, int],
) -> None:
    steps = steps_of(split)
    assert [sorted(s) for s in steps] == [sorted(s) for s in steps_of((16, 1, 1))]
    assert sorted(itertools.chain(*steps)) == list(range(203)), "every example once"
    assert [len(s) for s in steps] == [16] * 12 + [11]


def test_batches_keep_their_size_and_hold_examples_of_like_length() -> None:
    rows = epoch_of((16, 1, 1), 0)
    assert [len(r) for r in rows] == [16] * 12 + [11], "the smaller batch comes last"
    padded = sum(len(r) * LENGTHS[r].max() for r in rows)
    assert padded < 1.15 * LENGTHS.sum(), "random batches pad to about 1.7 times the tokens"


def test_the_order_follows_seed_and_epoch() -> None:
    assert epoch_of((16, 1, 1), 0) == epoch_of((16, 1, 1), 0)
    orders = [epoch_of((16, 1, 1), 0, epoch, seed=seed) for epoch, seed in itertools.product((0, 1), (0, 1))]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    longest = [LENGTHS[batch].max() for batch in orders[0][:-1]]
    assert longest != sorted(longest), "an epoch does not go from short to long"


def test_drop_last_leaves_out_the_smaller_batch() -> None:
    assert [len(r) for r in epoch_of((16, 1, 1), 0, drop_last=True)] == [16] * 12


def test_a_rank_without_an_example_gets_one_that_does_not_count() -> None:
    # 203 = 12 x 16 + 11: of the last micro-batch of 8 ranks the last ranks have nothing
    last = [epoch_of((2, 1, 8), rank)[-1] for rank in range(8)]
    assert [len(r) for r in last] == [2, 2, 2, 2, 2, 1, 1, 1]
    assert [isinstance(r[0], Uncounted) for r in last] == [False] * 6 + [True] * 2


# ---- training on a tiny checkpoint ----


def losses_of(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def weights_of(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


LOSSES = {
    "plain": ({}, {}),
    "smoothed": ({}, {"label_smoothing_factor": 0.1}),
    "weighted": ({"class_weights": "auto"}, {}),
    "both": ({"class_weights": {"off": 1.0, "on": 5.0, "play": 2.0}}, {"label_smoothing_factor": 0.1}),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_accumulation_changes_no_loss(
    kind: str, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import BertForSequenceClassification

    # whatever a network says of its own loss, which is not used
    monkeypatch.setattr(BertForSequenceClassification, "accepts_loss_kwargs", False, raising=False)
    task, settings = LOSSES[kind]
    settings = settings | {"learning_rate": 1e-3}
    checkpoint = checkpoints["bert_uncased"]
    # 53 = 4 x 12 + 5, and the last five make micro-batches of four and one
    whole = build_trainer(checkpoint, tmp_path, task, **settings, per_device_train_batch_size=12)
    whole.train()
    thirds = build_trainer(
        checkpoint, tmp_path, task, **settings, per_device_train_batch_size=4, gradient_accumulation_steps=3
    )
    thirds.train()
    assert len(losses_of(whole)) == 10
    assert losses_of(thirds) == pytest.approx(losses_of(whole), abs=1e-4)
    # two epochs of the same examples, which come in other batches: without weights that move the two are equal
    first, second = np.average(np.reshape(losses_of(whole), (2, 5)), axis=1, weights=[12, 12, 12, 12, 5])
    assert second < first - 0.01, "the weights moved"


class TwoRanks:
    """Two ranks of a step in one process: each with its examples, gradients averaged as by DistributedDataParallel."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def loss_and_gradient(self, shares: list[list[int]]) -> tuple[float, torch.Tensor]:
        trainer = self.trainer
        trainer.args = SimpleNamespace(world_size=len(shares), average_tokens_across_devices=True)
        from voicecommand.training.batches import TrainingExamples

        examples = TrainingExamples(trainer.train_dataset, GroupedBatches([1], 1))
        batches = [trainer.data_collator(examples.__getitems__(share)) for share in shares]
        count = {"label": torch.tensor(sum(trainer.task.count(batch)["label"] for batch in batches))}
        trainer.model.train()
        trainer.model.zero_grad()
        losses = [trainer.compute_loss(trainer.model, batch, num_items_in_batch=count) for batch in batches]
        loss = torch.stack(losses).mean()
        loss.backward()
        return loss.item(), torch.cat([p.grad.flatten() for p in trainer.model.parameters()])


@pytest.mark.parametrize("kind", LOSSES)
def test_ranks_make_the_loss_and_the_gradient_of_one_process(
    kind: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    task, settings = LOSSES[kind]
    step = TwoRanks(build_trainer(checkpoints["bert_uncased"], tmp_path, task, **settings))
    batch = list(range(16))
    loss, gradient = step.loss_and_gradient([batch])
    for shares in ([batch[:8], batch[8:]], [batch[:11], batch[11:]], [batch[:8], batch[8:], [Uncounted(0)]]):
        other_loss, other_gradient = step.loss_and_gradient(shares)
        assert other_loss == pytest.approx(loss, abs=1e-5)
        torch.testing.assert_close(other_gradient, gradient, atol=1e-5, rtol=1e-4)


def test_weights_and_smoothing_are_one_loss_as_worked_out_by_hand(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    trainer = build_trainer(
        checkpoints["bert_uncased"], tmp_path, {"class_weights": {"off": 1.0, "on": 3.0, "play": 2.0}},
        label_smoothing_factor=0.3,
    )  # fmt: skip
    weights = trainer.step_loss.class_weights["label"].numpy()
    logits = np.array([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]])
    labels = np.array([0, 1])
    model = torch.nn.Module()
    model.forward = lambda **_: SimpleNamespace(logits=torch.tensor(logits))  # type: ignore[method-assign]
    trainer.model = model.train()
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = np.full((2, 3), 0.1)
    target[[0, 1], labels] = 0.8  # 1 - 0.3 + 0.3 / 3
    by_hand = (-(target * log_p).sum(1) * weights[labels]).sum() / 2
    ids = torch.zeros(2, 1, dtype=torch.int64)
    inputs = {"input_ids": ids, "attention_mask": ids, "labels": torch.tensor(labels), "weight": torch.ones(2)}
    count = {"label": torch.tensor(2)}
    assert trainer.compute_loss(model, inputs, num_items_in_batch=count).item() == pytest.approx(by_hand, abs=1e-6)
    inputs["weight"] = torch.tensor([1.0, 0.0])
    first = -(target * log_p).sum(1)[0] * weights[0] / 2
    assert trainer.compute_loss(model, inputs, num_items_in_batch=count).item() == pytest.approx(first, abs=1e-6)
    # evaluation measures the plain cross-entropy
    plain = trainer.task.loss_of(torch.tensor(logits), inputs)
    np.testing.assert_allclose(plain, -log_p[[0, 1], labels], atol=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    trainer = build_trainer(checkpoints["bert_uncased"], tmp_path)
    with torch.no_grad():
        trainer.model.classifier.weight.fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match=r"step 1: the loss is nan; lower training\.learning_rate"):
        trainer.train()


@pytest.mark.parametrize("tuning", [Full(layer_decay=0.8), Lora(r=2)], ids=str)
def test_resuming_inside_an_epoch_gives_the_weights_of_an_uninterrupted_run(
    tuning: Any, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    settings = {
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "save_strategy": "steps", "save_steps": 3,
        "eval_strategy": "steps", "eval_steps": 3, "load_best_model_at_end": False,
    }  # fmt: skip
    checkpoint = checkpoints["bert_uncased"]

    def noisy(path: Path) -> Any:  # dropout, so that the state of the random generator counts
        trainer = build_trainer(checkpoint, path, tuning=tuning, **settings)
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.2
        return trainer

    whole = noisy(tmp_path)
    whole.train()
    assert whole.state.global_step == 14, "two epochs of seven steps"
    for step in (3, 9):  # inside the first and the second epoch
        resumed = noisy(tmp_path / f"resumed-{step}")
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert resumed.state.global_step == 14
        for name, tensor in weights_of(whole).items():
            assert torch.equal(weights_of(resumed)[name], tensor), f"{name} after resuming from step {step}"


def test_evaluation_answers_in_the_order_of_the_split(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    trainer = build_trainer(checkpoints["bert_uncased"], tmp_path)
    trainer.train()
    split = trainer.eval_dataset
    logits, losses = [], []
    with torch.no_grad():
        for ids, label in zip(split.rows["input_ids"], split.rows["labels"], strict=True):
            one = trainer.model.eval()(input_ids=torch.tensor([ids])).logits
            logits.append(one[0].numpy())
            losses.append(torch.nn.functional.cross_entropy(one, torch.tensor([label])).item())
    answerer = Answerer(trainer.task, trainer.model, trainer.processing_class, Vocabulary(tuple(LABELS)), batch_size=8)
    answered = answerer.answer_encoded(split)
    np.testing.assert_allclose(answered.columns["probabilities"], to_probabilities(np.stack(logits)), atol=1e-5)
    np.testing.assert_allclose(answered.losses, losses, atol=1e-5)
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert metrics["eval_accuracy"] == np.mean(np.argmax(logits, 1) == split.rows["labels"][:])
    unlabelled = answerer.answer({"text": rows_of(21)["text"][:]})
    assert unlabelled.losses is None
    np.testing.assert_allclose(unlabelled.columns["probabilities"], answered.columns["probabilities"], atol=1e-6)


def test_evaluation_takes_the_longest_first_and_pads_little(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, widths = build_trainer(checkpoints["bert_uncased"], tmp_path), []
    respond = TextClassification.respond

    def seen(self: Any, model: Any, to_inputs: Any, batch: Any, decoding: Any) -> Any:
        widths.append(tuple(batch["input_ids"].shape))
        return respond(self, model, to_inputs, batch, decoding)

    monkeypatch.setattr(TextClassification, "respond", seen)
    trainer.evaluate()
    lengths = sorted(trainer.eval_dataset.lengths, reverse=True)
    assert widths == [(8, lengths[0]), (8, lengths[8]), (5, lengths[16])]


def test_an_evaluation_draws_as_often_as_that_of_the_stock_trainer(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """Dropout after it depends on the global generator, and so do the figures of every published run."""
    trainer = build_trainer(checkpoints["bert_uncased"], tmp_path)
    torch.manual_seed(7)
    next(iter(torch.utils.data.DataLoader([0])))
    expected = torch.get_rng_state()
    torch.manual_seed(7)
    trainer.evaluate()
    assert torch.equal(torch.get_rng_state(), expected)


@pytest.mark.parametrize("tuning", [Full(), Head(), Lora(r=2)], ids=str)
def test_the_best_checkpoint_is_the_model_after_training(
    tuning: Any, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    trainer = build_trainer(
        checkpoints["bert_uncased"], tmp_path, tuning=tuning, save_strategy="epoch", eval_strategy="epoch",
        load_best_model_at_end=True, metric_for_best_model="macro_f1", num_train_epochs=6, save_total_limit=1,
    )  # fmt: skip
    trainer.train()
    scores = [entry["eval_macro_f1"] for entry in trainer.state.log_history if "eval_macro_f1" in entry]
    assert trainer.state.best_metric == max(scores)
    assert trainer.evaluate()["eval_macro_f1"] == max(scores)
    assert trainer.state.best_global_step == 4 * (scores.index(max(scores)) + 1)
