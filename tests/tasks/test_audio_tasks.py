"""Audio classification: windows, families, tunings, saved models, and the recipes on synthetic audio."""

from __future__ import annotations

import functools
import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

import damage
import voicecommand
from support import LAUNCH, build_parts, find_run, fit_estimator, run_and_read, start_training
from voicecommand.audio import clips as audio_clips
from voicecommand.audio import decode
from voicecommand.audio import windows as audio_windows
from voicecommand.audio.augmentation import Augmentation
from voicecommand.audio.windows import Windows
from voicecommand.config import arguments as config_arguments
from voicecommand.config import groups, program
from voicecommand.errors import InputError
from voicecommand.models import bcresnet
from voicecommand.models.front import build_front, build_windows
from voicecommand.models.tuning import Full, Head, LastLayers, Lora
from voicecommand.run import device
from voicecommand.tasks import saved
from voicecommand.tasks.audio_classification import (
    AudioClassification,
    BCResNet,
    MfccSvm,
    SpeechEmbeddingSvm,
    measure_padding,
)
from voicecommand.tasks.base import Draws, Vocabulary
from voicecommand.tasks.predicting import Answerer
from voicecommand.tasks.teacher import load_teacher
from voicecommand.training import fit, save

RATE = 16_000
LABELS = ["falling", "flat", "rising"]
VOCABULARY = Vocabulary(labels=tuple(LABELS))
HEARS = re.compile("audio_classification|part/speech")
MODELS = sorted(path.stem for path in (groups.CONF / "model").glob("*.yaml") if HEARS.search(path.read_text()))
FAMILY = {"whisper_svm": "whisper", "bcresnet": None, "mfcc_svm": None}
BODIES: dict[str, tuple[Any, Any]] = {
    "wav2vec2": (t.Wav2Vec2Config, t.Wav2Vec2Model),
    "hubert": (t.HubertConfig, t.HubertModel),
    "wavlm": (t.WavLMConfig, t.WavLMModel),
    "data2vec": (t.Data2VecAudioConfig, t.Data2VecAudioModel),
}
SLOW = pytest.mark.slow
TUNINGS = {"full": Full(), "head": Head(), "last_layers": LastLayers(1), "lora": Lora(r=2)}


def sweep(label: str, seed: int, seconds: float = 0.5) -> np.ndarray:
    """A tone that falls, stays or rises, at a drawn pitch and loudness, in noise: int16 `[samples]`."""
    draws = np.random.default_rng(seed)
    times = np.arange(int(seconds * RATE)) / RATE
    pitch = draws.uniform(500, 700) * 2 ** ((LABELS.index(label) - 1) * 2 * (times / seconds - 0.5))
    tone = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + 0.05 * draws.standard_normal(len(times))
    return (tone * draws.uniform(2_000, 20_000)).astype(np.int16)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings: three labels, eight speakers, of whom each is in one split; one test clip is long."""
    root = tmp_path_factory.mktemp("sounds")
    number = 0
    for split, speakers in (("train", range(4)), ("validation", range(4, 6)), ("test", range(6, 8))):
        rows = ["file_name,label,speaker"]
        for label in LABELS:
            for speaker in speakers:
                for _ in range(3):
                    number += 1
                    seconds = 2.6 if (split, label, speaker) == ("test", "flat", 7) else 0.4 + 0.01 * (number % 7)
                    name = f"{number}.wav"
                    (root / split).mkdir(exist_ok=True)
                    audio_clips.write_wav(root / split / name, sweep(label, number, seconds), RATE)
                    rows.append(f"{name},{label},speaker {speaker}")
        (root / split / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def speech_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each family, 2 layers, random weights, no dropout: {family: directory}."""
    root = tmp_path_factory.mktemp("speech")
    still = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layerdrop": 0.0}
    for family in ("whisper", "wav2vec2", "hubert", "wavlm", "data2vec"):
        torch.manual_seed(0)
        model: Any
        extractor: Any
        if family == "whisper":
            extractor = t.WhisperFeatureExtractor(feature_size=20)
            model = t.WhisperForConditionalGeneration(
                t.WhisperConfig(
                    d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1,
                    decoder_attention_heads=2, decoder_ffn_dim=32, num_mel_bins=20, vocab_size=50, pad_token_id=0,
                    bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, init_std=0.3, classifier_proj_size=8,
                )
            )  # fmt: skip
        else:
            extractor = t.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
            kind, body = BODIES[family]
            config = kind(
                hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(16,) * 7,
                num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, feat_extract_norm="layer",
                do_stable_layer_norm=True, initializer_range=0.3, classifier_proj_size=8, mask_time_prob=0.0, **still,
            )  # fmt: skip
            model = body(config)
        model.save_pretrained(root / family)
        extractor.save_pretrained(root / family)
    return {path.name: path for path in root.iterdir()}


def load(sounds: Path) -> Any:
    from voicecommand.data.sources.folder import load_folder

    return fit.prepare(load_folder(("audio", "label"), path=str(sounds)), "audio")


def arguments(path: Path, **settings: Any) -> t.TrainingArguments:
    given = {"max_steps": 3, "learning_rate": 1e-2, "save_strategy": "no", "per_device_train_batch_size": 8} | settings
    return t.TrainingArguments(output_dir=str(path), report_to="none", use_cpu=True, disable_tqdm=True, **given)


# ---- windows ----


def test_training_takes_the_loudest_window_and_evaluation_all_of_them() -> None:
    clip = np.concatenate([np.zeros(1000), np.full(500, 9000), np.zeros(600)]).astype(np.int16)
    windows = Windows(samples=500)
    batch = windows([{"audio": clip, "labels": 1, "epoch": 0, "example": 0}])
    assert batch["waveforms"].shape == (1, 500) and bool((batch["waveforms"] == 9000).all())
    batch = windows([{"audio": clip, "labels": 1}, {"audio": clip[:300], "labels": 0}])
    assert batch["windows"].tolist() == [8, 1] and batch["waveforms"].shape == (9, 500)
    assert batch["lengths"].tolist() == [500] * 8 + [300] and batch["waveforms"].dtype == torch.int16
    covered = np.zeros(2100, bool)
    for start in audio_windows.cut_windows(2100, 500):
        covered[start : start + 500] = True
    assert covered.all()


def test_the_answer_to_a_long_clip_is_the_mean_over_its_windows_by_their_energy() -> None:
    class Loudness(torch.nn.Module):
        def forward(self, input_values: torch.Tensor) -> Any:
            level = input_values.abs().mean(1, keepdim=True)
            return t.modeling_outputs.SequenceClassifierOutput(logits=torch.cat([level, -level], 1))

    config = t.PretrainedConfig()
    config.model_type = "bcresnet"
    windows, front = build_windows(config, 0.1), build_front(config, None, 0.1)
    word = np.tile([16384, -16384], 800)  # windows of a clip: silence, half of it the word, the word
    clip = np.concatenate([np.zeros(1600), word]).astype(np.int16)
    rows = [{"audio": clip}, {"audio": clip[1600:]}, {"audio": np.zeros(3200)}]
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = front.average(Loudness(), windows(rows), most=2)
        assert logits.dtype == torch.float32
        assert logits[:, 0].tolist() == pytest.approx([(0 * 0 + 0.5 * 0.25 + 1 * 0.5) / (0 + 0.5 + 1), 0.5, 0])


def test_augmentation_is_drawn_for_an_example_and_an_epoch_whatever_batch_it_is_in() -> None:
    augmentation = Augmentation(noise=1.0, shift=1.0, masks=1)
    windows = Windows(800, draws=Draws(augmentation, seed=5))
    rows = [{"audio": sweep("flat", i, 0.05), "labels": 0, "epoch": 2, "example": i} for i in range(4)]
    together, alone = windows(rows), windows(rows[2:3])
    draws = [name for name in together if name.startswith("draw_")]
    assert len(draws) >= 5
    for name in draws:
        assert torch.equal(together[name][2:3], alone[name]), name
    later = windows([row | {"epoch": 3} for row in rows])
    assert not torch.equal(together["draw_noise_snr_db"], later["draw_noise_snr_db"])
    assert not [name for name in windows([{"audio": rows[0]["audio"], "labels": 0}]) if name.startswith("draw_")]


# ---- tasks ----


@pytest.mark.parametrize(
    "family", ["whisper", "wav2vec2", "data2vec", *(pytest.param(f, marks=SLOW) for f in ("hubert", "wavlm"))]
)
@pytest.mark.parametrize("tuning", sorted(TUNINGS))
def test_a_saved_encoder_opens_in_a_plain_pipeline(
    family: str, tuning: str, sounds: Path, speech_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    dataset = load(sounds)
    task = AudioClassification(checkpoint=str(speech_checkpoints[family]), max_seconds=1)
    parts = build_parts(task, dataset, arguments(tmp_path), TUNINGS[tuning])
    trainer = parts.trainer
    names = {name for name, _ in parts.model.named_parameters()}
    moving = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    assert len(names) > len(moving) > 0 or tuning in ("full", "lora")
    assert any("classifier" in name or "projector" in name for name in moving)
    trainer.train()
    answerer = Answerer(task, trainer.model, parts.processor, parts.vocabulary)
    found = answerer.answer_encoded(parts.encoded["validation"]).columns["probabilities"]
    save.save(trainer.model, task, parts.processor, parts.vocabulary, tmp_path / "model")

    opened = t.pipeline("audio-classification", model=str(tmp_path / "model"), device="cpu")
    clips = [audio_clips.to_float(clip) for clip in audio_clips.Clips(dataset["validation"])]
    one_by_one = Answerer(task, trainer.model, parts.processor, parts.vocabulary, batch_size=1)
    # a pipeline pads nothing, and padding changes this family's answers a little, as its log says
    rows = (
        one_by_one.answer_encoded(parts.encoded["validation"]).columns["probabilities"]
        if family == "data2vec"
        else found
    )
    for row, answer in zip(rows, opened([{"raw": c, "sampling_rate": RATE} for c in clips]), strict=True):
        scores = {a["label"]: a["score"] for a in answer}
        assert scores == pytest.approx(dict(zip(LABELS, row, strict=True)), abs=1e-4)
    again = voicecommand.load(tmp_path / "model")
    path = next((sounds / "validation").glob("*.wav"))
    from_path, from_samples = again.probabilities([str(path)]), again.probabilities([decode.read_audio(path).waveform])
    assert from_path == pytest.approx(from_samples)
    split, _ = again.answer_split(dataset["validation"], "validation")
    assert split.probabilities == pytest.approx(found, abs=1e-4)
    assert again.probabilities(audio_clips.Clips(dataset["validation"])) == pytest.approx(found, abs=1e-4)
    if family == "whisper":
        config = json.loads((tmp_path / "model/config.json").read_text())
        assert config["max_source_positions"] == 50, "one second of positions"
    for path in (tmp_path / "model").rglob("*.json"):
        assert str(speech_checkpoints[family].parent) not in path.read_text(), path.name


def test_whisper_cut_to_a_clip_gives_the_encoder_its_first_positions(speech_checkpoints: dict[str, Path]) -> None:
    where = str(speech_checkpoints["whisper"])
    whole = t.WhisperForConditionalGeneration.from_pretrained(where).get_encoder().embed_positions.weight
    task = AudioClassification(checkpoint=where, max_seconds=2)
    cut = task.load_model(VOCABULARY, task.load_processor(VOCABULARY)).encoder.embed_positions.weight
    assert torch.equal(cut, whole[:100]) and len(whole) == 1500


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"max_seconds": 1.5}, r"model.max_seconds=1.5: Whisper takes whole seconds"),
        ({"max_seconds": 0}, r"model.max_seconds=0: give 0.1 to 30 seconds"),
        ({"max_seconds": 31}, r"model.max_seconds=31: give 0.1 to 30 seconds"),
    ],
)
def test_lengths_that_whisper_cannot_have_are_refused(
    settings: dict[str, Any], line: str, speech_checkpoints: dict[str, Path]
) -> None:
    with pytest.raises(InputError, match=line):
        task = AudioClassification(checkpoint=str(speech_checkpoints["whisper"]), **settings)
        task.load_model(VOCABULARY, task.load_processor(VOCABULARY))


@pytest.mark.parametrize("family", ["whisper", "wav2vec2", "hubert", "wavlm", "data2vec"])
def test_a_checkpoint_whose_encoder_is_not_whole_is_not_trained(
    family: str, speech_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(speech_checkpoints[family], tmp_path / family))

    def drop(tensors: dict[str, Any]) -> None:
        del tensors[
            next(name for name in tensors if ("decoder" not in name and "layers.1.fc1" in name) or "1.feed" in name)
        ]

    damage.edit_tensors(folder, drop)
    for kind in (AudioClassification, SpeechEmbeddingSvm):
        task, vocabulary = kind(checkpoint=str(folder), max_seconds=1), Vocabulary(labels=("off", "on"))
        with pytest.raises(InputError, match=r"not a usable checkpoint: the weights are not whole: .* missing"):
            task.load_model(vocabulary, task.load_processor(vocabulary))


def test_a_text_checkpoint_is_not_a_model_for_audio(checkpoints: dict[str, Path]) -> None:
    task = AudioClassification(checkpoint=str(checkpoints["bert_uncased"]))
    with pytest.raises(InputError, match=r"model\.checkpoint"):
        task.load_model(VOCABULARY, task.load_processor(VOCABULARY))


def train_small(sounds: Path, directory: Path, label_names: list[str] = LABELS, **settings: Any) -> Any:
    """A BC-ResNet after a few steps; its model is saved in `directory`."""
    torch.manual_seed(0)
    task = BCResNet(max_seconds=0.3, **settings)
    dataset = load(sounds)
    if label_names != LABELS:
        names = dict(zip(LABELS, label_names, strict=True))
        dataset = dataset.map(lambda row: row | {"label": names[row["label"]]})
    parts = build_parts(task, dataset, arguments(directory), augmentation=Augmentation(noise=1.0, shift=1.0), seed=3)
    parts.trainer.train()
    save.save(parts.trainer.model, task, parts.processor, parts.vocabulary, directory / "model")
    return parts.trainer


def test_a_teacher_hears_what_the_student_hears_and_its_answers_are_learnt(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_small(sounds, tmp_path / "teacher")
    heard: list[Any] = []
    answers = saved.CommandModel.probabilities
    monkeypatch.setattr(
        saved.CommandModel,
        "probabilities",
        lambda self, clips, *rest: (heard.append(np.stack(clips)), answers(self, clips, *rest))[1],
    )
    student: list[Any] = []
    forward = bcresnet.BCResNetForAudioClassification.forward

    @functools.wraps(forward)  # Trainer reads its signature
    def listen(self: Any, input_values: torch.Tensor, **rest: Any) -> Any:
        if self.training:
            student.append(input_values.numpy().copy())
        return forward(self, input_values, **rest)

    monkeypatch.setattr(bcresnet.BCResNetForAudioClassification, "forward", listen)
    trainer = train_small(sounds, tmp_path / "student", teacher=str(tmp_path / "teacher"))
    assert len(heard) == 3 and all(np.array_equal(a, b) for a, b in zip(heard, student, strict=True))
    assert heard[0].dtype == np.float32 and np.abs(heard[0]).min(1).max() > 0, "noise fills the window"

    trainer.model.eval()  # a student that answers as its teacher has nothing to learn from it
    clips = torch.from_numpy(heard[0])
    own = voicecommand.load(tmp_path / "student").probabilities(list(heard[0]))
    monkeypatch.setattr(saved.CommandModel, "probabilities", lambda self, clips: own)
    with torch.no_grad():
        logits = trainer.model(clips).logits
        assert trainer.step_loss._divergence(logits, clips).abs().max() < 1e-3
        expected = 4 * torch.nn.functional.kl_div(
            (-logits / 2).log_softmax(1), (logits / 2).log_softmax(1), log_target=True, reduction="none"
        ).sum(1)
        torch.testing.assert_close(trainer.step_loss._divergence(-logits, clips), expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float32)])
def test_a_teacher_answers_in_bf16_where_the_device_has_it_and_the_log_says_so(
    precision: str,
    dtype: torch.dtype,
    sounds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    train_small(sounds, tmp_path / "teacher")
    monkeypatch.setattr(device, "native_precision", lambda: (precision, ""))
    with caplog.at_level(logging.INFO):
        teach = load_teacher(str(tmp_path / "teacher"), LABELS)
    assert f", in {'bf16' if precision == 'bf16' else 'fp32'}" in caplog.text
    found: list[torch.dtype] = []
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, given, output: found.append(output.dtype) if isinstance(module, torch.nn.Linear) else None
    )
    with handle, torch.autocast("cpu", torch.bfloat16):  # that of a student's step
        teach(np.zeros((2, 4800), np.float32))
    assert found == [dtype]


def test_a_teacher_that_cannot_teach_is_refused(sounds: Path, tmp_path: Path) -> None:
    train_small(sounds, tmp_path / "other", ["a", "b", "c"])
    parts = fit_estimator(MfccSvm(), load(sounds)["train"])
    save.save(parts.model, parts.task, None, parts.vocabulary, tmp_path / "svm/model")
    for name, line in (
        ("nothing", "no such directory"),
        ("svm", "not a network of audio; train one with model=whisper tuning=head"),
    ):
        with pytest.raises(InputError, match=rf"model\.teacher={tmp_path / name}: {line}"):
            BCResNet(teacher=str(tmp_path / name))  # before any data is read
    line = rf"{tmp_path / 'other'}: has the labels \['a', 'b', 'c'\], train has \['falling', 'flat', 'rising'\]"
    with pytest.raises(InputError, match=line):
        train_small(sounds, tmp_path / "student", teacher=str(tmp_path / "other"))


def test_training_with_augmentation_resumes_bit_for_bit(sounds: Path, tmp_path: Path) -> None:
    dataset = load(sounds)
    task = BCResNet(max_seconds=0.5)
    augmentation = Augmentation(noise=0.8, shift=0.8, speed=0.5, reverb=0.5, masks=1)
    settings: dict[str, Any] = {"max_steps": 8, "save_strategy": "steps", "save_steps": 3}

    def build(path: Path) -> Any:
        torch.manual_seed(1)
        args = arguments(path, **settings)
        return build_parts(task, dataset, args, augmentation=augmentation, seed=3).trainer

    whole = build(tmp_path / "whole")
    whole.train()
    resumed = build(tmp_path / "whole")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-3"))
    for (name, left), right in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(left, right), name


def test_batches_of_audio_make_the_same_step_whole_and_accumulated(sounds: Path, tmp_path: Path) -> None:
    dataset = load(sounds)
    task = AudioClassification(checkpoint=str(_tiny_wav2vec2(tmp_path)), max_seconds=1)
    weights = []
    for size, accumulation in ((12, 1), (4, 3)):
        torch.manual_seed(1)
        args = arguments(
            tmp_path,
            max_steps=2,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            optim="sgd",
        )
        augmentation = Augmentation(noise=0.5)
        trainer = build_parts(task, dataset, args, augmentation=augmentation, seed=3).trainer
        trainer.train()
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.classifier.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], atol=1e-4, rtol=1e-3)


def _tiny_wav2vec2(path: Path) -> Path:
    still = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layerdrop": 0.0}
    config = t.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, feat_extract_norm="layer", mask_time_prob=0.0,
        do_stable_layer_norm=True, feat_proj_dropout=0.0, final_dropout=0.0, **still,
    )  # fmt: skip
    torch.manual_seed(0)
    t.Wav2Vec2Model(config).save_pretrained(path / "wav2vec2")
    t.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(path / "wav2vec2")
    return path / "wav2vec2"


def _tiny(family: str, norm: str, layers: int = 2) -> Any:
    """A classifier of a family, its convolutions with group or layer norm, random weights, no dropout."""
    torch.manual_seed(0)
    if family == "whisper":
        whisper: Any = t.WhisperConfig
        config = whisper(
            d_model=16, encoder_layers=layers, encoder_attention_heads=2, encoder_ffn_dim=32, num_mel_bins=20,
            num_labels=3, classifier_proj_size=8,
        )  # fmt: skip
        return t.WhisperForAudioClassification(config)
    kind: Any
    build: Any
    kind, build = {
        "wav2vec2": (t.Wav2Vec2Config, t.Wav2Vec2ForSequenceClassification),
        "hubert": (t.HubertConfig, t.HubertForSequenceClassification),
        "wavlm": (t.WavLMConfig, t.WavLMForSequenceClassification),
        "data2vec": (t.Data2VecAudioConfig, t.Data2VecAudioForSequenceClassification),
    }[family]
    config = kind(
        hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, feat_extract_norm=norm, num_labels=3,
        do_stable_layer_norm=norm == "layer", mask_time_prob=0.0, classifier_proj_size=8, initializer_range=0.3,
    )  # fmt: skip
    return build(config)


@pytest.mark.parametrize(
    ("family", "norm"),
    [*((family, norm) for family in ("wav2vec2", "hubert", "wavlm") for norm in ("layer", "group")), ("data2vec", "")],
)
def test_padding_changes_no_answer_or_the_log_says_how_much(
    family: str, norm: str, sounds: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = _tiny(family, norm)
    processor = t.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    dataset = load(sounds)
    clips = [audio_clips.Clips(dataset["train"])[i] for i in (0, 11, 23, 35)]
    change = measure_padding(model, build_front(model.config, processor, 1), clips, RATE)
    task = AudioClassification(checkpoint="", max_seconds=1)
    with caplog.at_level(logging.INFO):
        build_parts(task, dataset, arguments(tmp_path), model=model, processor=processor)
    found = re.search(r"4 train clips padded to 1 s have logits that differ by ([\d.]+) %", caplog.text)
    if norm == "layer":
        assert change < 1e-4 and found is None
    else:
        assert change > 1e-3 and found and float(found[1]) == pytest.approx(100 * change, abs=0.06)


@pytest.mark.parametrize("family", ["whisper", "wav2vec2", "hubert", "wavlm", "data2vec"])
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_tuning_knows_the_blocks_and_the_norm_after_them(family: str, norm: str) -> None:
    model = _tiny(family, norm, layers=3)
    body = "data2vec_audio" if family == "data2vec" else family
    stack = "encoder" if family == "whisper" else f"{body}.encoder"
    rates = {
        name: group["lr"]
        for group in Full(layer_decay=0.5).parameter_groups(model, 1.0, 0.0)
        for name, parameter in model.named_parameters()
        if any(parameter is other for other in group["params"])
    }
    norm_is_last = family == "whisper" or (norm == "layer" and family != "data2vec")
    assert rates["classifier.weight"] == 1
    assert [rates[f"{stack}.layers.{i}.final_layer_norm.weight"] for i in range(3)] == [0.125, 0.25, 0.5]
    assert rates[f"{stack}.layer_norm.weight"] == (1 if norm_is_last else 0.0625)
    first = "encoder.conv1.weight" if family == "whisper" else f"{body}.feature_projection.projection.weight"
    assert rates[first] == 0.0625

    moving = {name for name, p in LastLayers(1).prepare(model).named_parameters() if p.requires_grad}
    after = (f"{stack}.layer_norm.",) if norm_is_last else ()
    expected = (f"{stack}.layers.2.", "projector.", "classifier.", *after)
    assert moving == {name for name, _ in model.named_parameters() if name.startswith(expected)}


def test_low_rank_updates_of_a_network_without_linear_layers_are_refused() -> None:
    model = BCResNet(max_seconds=0.5).load_model(VOCABULARY, None)
    with pytest.raises(InputError, match="tuning=lora: BCResNetForAudioClassification has no linear layer below"):
        Lora().prepare(model)


def test_the_log_says_where_masks_do_nothing(sounds: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = load(sounds)
    said = []
    for width in (1, 2):
        caplog.clear()
        task = BCResNet(max_seconds=0.5, width=width)
        with caplog.at_level(logging.INFO):
            build_parts(task, dataset, arguments(tmp_path), augmentation=Augmentation(masks=2))
        said.append("augment.masks: not used at width 1" in caplog.text)
    assert said == [True, False]


def test_what_was_drawn_is_all_that_the_augmentation_reads() -> None:
    windows = Windows(800, draws=Draws(Augmentation(masks=1, noise=1.0), seed=0))
    batch = windows([{"audio": sweep("flat", i, 0.05), "labels": 0, "epoch": 2, "example": i} for i in range(4)])
    draws = audio_windows.take_draws(batch)
    assert len(draws) >= 5 and not {"waveforms", "lengths", "labels"} & set(draws)


# ---- recipes ----


@pytest.mark.parametrize("model", MODELS)
def test_every_model_of_sound_goes_through_the_recipes(
    model: str,
    sounds: Path,
    speech_checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Any,
) -> None:
    alike = next((name for name in speech_checkpoints if model.startswith(name)), "wav2vec2")  # of a copied yaml
    family = FAMILY.get(model, alike)
    given = [f"model={model}", "data=folder", f"data.path={sounds}", f"runs={tmp_path}", "num_proc=1", "threads=1"]
    given += [f"model.checkpoint={speech_checkpoints[family]}"] if family else []
    given += ["model.max_seconds=1"] if model != "mfcc_svm" else []
    given += ["training=smoke", "precision=fp32"] if not model.endswith("_svm") else []
    code, output = run_and_read(capfd, "train", *given)
    assert code == 0, output
    (directory,) = tmp_path.glob("folder-*/*")
    record = json.loads((directory / "run.json").read_text())
    assert record["task"] == "audio_classification" and record["data"]["splits"]["test"]["rows"] == 18
    page = (directory / "report.html").read_text()
    assert "bootstrap over 2 groups (speaker)" in page
    if model != "mfcc_svm":
        assert "test: 3 of 18 examples are longer than 1 s" in output
        assert record["data"]["splits"]["test"]["truncated"] == 3
    metrics = json.loads((directory / "metrics.json").read_text())

    code, output = run_and_read(
        capfd, "evaluate", f"run={directory}", "data=folder", f"data.path={sounds}", "split=test"
    )
    assert code == 0, output
    (evaluated,) = directory.glob("evaluations/folder-*-test-*/metrics.json")
    again = json.loads(evaluated.read_text())
    assert again["splits"]["test"]["confusion_matrix"] == metrics["splits"]["test"]["confusion_matrix"]


def test_every_model_of_sound_is_tested() -> None:
    assert len(MODELS) >= 7 and {"bcresnet", "whisper", "mfcc_svm", "whisper_svm"} < set(MODELS)


@pytest.mark.parametrize("model", ["whisper", "wav2vec2", "hubert", "wavlm", "whisper_svm"])
def test_a_hub_out_of_reach_says_what_hears_without_it(
    model: str, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    code, output = run_and_read(
        capfd, "train", f"model={model}", "data=folder", f"data.path={sounds}", f"runs={tmp_path}"
    )
    assert code == 2
    line = next(line for line in output.splitlines() if line.startswith("error: "))
    assert "model=bcresnet" in line and "model.checkpoint=DIR" in line and " at revision " in line
    assert not list(tmp_path.iterdir()), "nothing half-written"


def test_augment_is_refused_by_what_does_not_use_it(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    for model in ("bert", "mfcc_svm", "tfidf_svm"):
        code, output = run_and_read(capfd, "train", f"model={model}", "augment=light")
        assert code == 2 and "does not use augment; leave it out" in output


def test_long_clips_are_counted(sounds: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = BCResNet(max_seconds=1)
    with caplog.at_level(logging.WARNING):
        encoded = fit.encode(load(sounds), task, None, VOCABULARY)
    assert "test: 3 of 18 examples are longer than 1 s" in caplog.text
    assert {split: rows.truncated for split, rows in encoded.items()} == {"train": 0, "validation": 0, "test": 3}


def test_a_precision_that_is_asked_for_wins_over_that_of_the_training_file(tmp_path: Path) -> None:
    for precision in ("fp32", "bf16"):
        config = program.compose("train", ["model=bcresnet", f"precision={precision}"])
        args = config_arguments.build_training_arguments(config, tmp_path, {"loss": False})
        assert args.bf16 is (precision == "bf16") and args.precision_reason == f"{precision}: asked for"


def test_an_audit_refuses_an_augmentation_that_it_would_not_show(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    given = ("data=folder", f"data.path={sounds}", "num_proc=1", "augment=strong")
    code, output = run_and_read(capfd, "audit", *given)
    assert code == 2 and "error: augment=strong: only used with samples=DIR" in output
    code, output = run_and_read(capfd, "audit", *given, f"samples={tmp_path / 'out'}")
    assert code == 0 and (tmp_path / "out/augmented.png").is_file()


def test_a_folder_of_noise_is_mixed_in_and_one_without_sound_is_refused(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    noises = tmp_path / "noises"
    (noises / "deep").mkdir(parents=True)
    given = ["data=folder", f"data.path={sounds}", "num_proc=1", "augment=light", f"augment.noise_folder={noises}"]
    given += ["augment.noise=1", "augment.noise_kinds=[]", "augment.shift=0", "augment.gain=0", "augment.speed=0"]
    code, output = run_and_read(capfd, "audit", *given, f"samples={tmp_path / 'none'}")
    assert code == 2 and f"error: augment.noise_folder={noises}: no audio file there" in output
    hum = audio_clips.to_int16((0.3 * np.sin(np.arange(32_000) * 2 * np.pi * 5000 / 16_000)).astype(np.float32))
    audio_clips.write_wav(noises / "deep" / "hum.WAV", hum)
    code, output = run_and_read(capfd, "audit", *given, f"samples={tmp_path / 'out'}")
    assert code == 0, output
    noisy = sorted((tmp_path / "out").glob("*_augmented.wav"))
    assert noisy

    def share_at_5_khz(path: Path) -> float:
        power = np.abs(np.fft.rfft(decode.read_audio(path).waveform)) ** 2
        peak = round(5000 * (len(power) - 1) / 8000)
        return float(power[peak - 20 : peak + 20].sum() / power.sum())

    for path in noisy:
        original = path.with_name(path.name.replace("augmented", "original"))
        assert share_at_5_khz(path) > 2 * share_at_5_khz(original)


@pytest.mark.slow
def test_two_ranks_measure_the_network_that_is_saved(sounds: Path, tmp_path: Path) -> None:
    """Batch norm's running statistics are each rank's own after a step; the test's 18 clips do not divide by 2 x 4."""
    import pyarrow.parquet as pq

    done = start_training(
        LAUNCH,
        ["model=bcresnet", "data=folder", f"data.path={sounds}", f"runs={tmp_path}", "threads=1", "num_proc=1",
         "model.max_seconds=0.3", "training=smoke", "training.max_steps=4", "training.load_best_model_at_end=false",
         "training.per_device_train_batch_size=4", "training.per_device_eval_batch_size=4", "early_stopping=null",
         "precision=fp32"],
        ACCELERATE_USE_CPU="true",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [r for r in pq.read_table(find_run(tmp_path) / "predictions.parquet").to_pylist() if r["split"] == "test"]
    model = voicecommand.load(find_run(tmp_path))
    expected = model.predict(audio_clips.Clips(load(sounds)["test"]))
    assert [row["probability"] for row in rows] == pytest.approx([e["probability"] for e in expected], abs=1e-6)
