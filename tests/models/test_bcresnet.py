"""BC-ResNet: the paper's network, the same answers whatever is around a clip, and opened by stock transformers."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForAudioClassification, Wav2Vec2FeatureExtractor

from voicecommand.errors import InputError
from voicecommand.models.bcresnet import BCResNetConfig, BCResNetForAudioClassification, RowNorm
from voicecommand.models.tuning import Head

RATE = 16_000


def make_model(**settings: object) -> BCResNetForAudioClassification:
    """12 labels; running statistics are those of some clips, so that answers differ as in a trained network."""
    torch.manual_seed(0)
    model = BCResNetForAudioClassification(BCResNetConfig(num_labels=12, **{"seconds": 0.25, **settings})).train()
    norms = [module for module in model.modules() if isinstance(module, RowNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(make_waveforms(8))
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def make_waveforms(clips: int = 3, samples: int = 4_000) -> Tensor:
    """Tones of 300, 700, 1100 ... Hz that swell, in noise: clips that a network tells apart."""
    times = torch.arange(samples) / RATE
    tones = torch.sin(2 * torch.pi * (300 + 400 * torch.arange(clips)[:, None]) * times) * times / times.max()
    return 0.3 * tones + 0.01 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(1))


class PlainBlock(nn.Module):
    """The paper's block of stock layers on [b, channels, bins, frames]."""

    def __init__(self, before: int, after: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.is_transition = before != after
        if self.is_transition:
            self.transition = nn.Conv2d(before, after, 1, bias=False)
            self.transition_norm = nn.BatchNorm2d(after)
        self.frequency = nn.Conv2d(after, after, (3, 1), (stride, 1), (1, 0), groups=after, bias=False)
        self.frequency_norm = nn.BatchNorm2d(after * 5)
        self.time = nn.Conv2d(after, after, (1, 3), 1, (0, dilation), (1, dilation), groups=after, bias=False)
        self.time_norm = nn.BatchNorm2d(after)
        self.mixing = nn.Conv2d(after, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.transition_norm(self.transition(x)).relu() if self.is_transition else x
        y = self.frequency(y)
        b, channels, bins, frames = y.shape
        y = self.frequency_norm(y.view(b, channels * 5, bins // 5, frames)).view(y.shape)
        z = self.mixing(functional.silu(self.time_norm(self.time(y.mean(2, keepdim=True)))))
        return (y + z if self.is_transition else x + y + z).relu()


class PlainBCResNet(nn.Module):
    """The paper's network of stock layers, [b, 40, frames] -> [b, 12], to compare with; no dropout."""

    def __init__(self, width: float) -> None:
        super().__init__()
        first, last, out = int(16 * width), int(20 * width), int(32 * width)
        self.stem, self.stem_norm = nn.Conv2d(1, first, 5, (2, 1), 2, bias=False), nn.BatchNorm2d(first)
        blocks, channels = [], first
        for count, base, stride, dilation in ((2, 8, 1, 1), (2, 12, 2, 2), (4, 16, 2, 4), (4, 20, 1, 8)):
            for i in range(count):
                blocks.append(PlainBlock(channels, int(base * width), stride if i == 0 else 1, dilation))
                channels = int(base * width)
        self.blocks = nn.Sequential(*blocks)
        self.depthwise = nn.Conv2d(last, last, 5, padding=(0, 2), groups=last, bias=False)
        self.mixing, self.norm = nn.Conv2d(last, out, 1, bias=False), nn.BatchNorm2d(out)
        self.classifier = nn.Linear(out, 12)

    def forward(self, features: Tensor) -> Tensor:
        x = self.blocks(self.stem_norm(self.stem(features[:, None])).relu())
        return self.classifier(self.norm(self.mixing(self.depthwise(x))).relu().mean((2, 3)))

    def take_weights(self, model: BCResNetForAudioClassification) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Copies the weights of ours; pairs of (ours, plain) parameters."""
        pairs = [(model.bcresnet.stem_weight, self.stem.weight), (model.head.mixing_weight, self.mixing.weight)]
        pairs += list(zip(model.classifier.parameters(), self.classifier.parameters(), strict=True))
        for ours, plain in zip(model.bcresnet.blocks, self.blocks, strict=True):
            for name in ("transition", "frequency", "time", "mixing"):
                if hasattr(plain, name):
                    pairs.append((getattr(ours, f"{name}_weight"), getattr(plain, name).weight))
            pairs.append((ours.frequency_norm.weight, plain.frequency_norm.weight))
        with torch.no_grad():
            for ours, plain in pairs:
                plain.copy_(ours.view(plain.shape))
            # ours is [channels, frames x bins]
            plain_view = model.head.depthwise_weight.view(-1, 1, 5, 5).transpose(2, 3)
            self.depthwise.weight.copy_(plain_view)
        return pairs


@pytest.mark.parametrize(("width", "parameters"), [(1, 9.2), (1.5, None), (2, 27.3), (3, 54.2), (6, 188), (8, 321)])
def test_widths_have_the_papers_number_of_parameters(width: float, parameters: float | None) -> None:
    model = BCResNetForAudioClassification(BCResNetConfig(width=width, num_labels=12))
    count = model.num_parameters() / 1000
    assert parameters is None or float(f"{count:.3g}" if count >= 100 else f"{count:.1f}") == parameters
    assert model.num_parameters() == sum(p.numel() for p in PlainBCResNet(width).parameters())


def test_training_and_evaluation_equal_a_network_of_stock_layers() -> None:
    torch.manual_seed(0)
    model = BCResNetForAudioClassification(BCResNetConfig(width=1.5, num_labels=12, dropout=0.0)).double().train()
    plain = PlainBCResNet(1.5).double().train()
    pairs = plain.take_weights(model)
    features = torch.randn(4, 40, 31, dtype=torch.float64)

    def logits() -> Tensor:
        return model.classifier(model.head(model.bcresnet(features), len(features)))

    ours, expected = logits(), plain(features)
    torch.testing.assert_close(ours, expected)
    for output in (ours, expected):
        functional.cross_entropy(output, torch.arange(4)).backward()
    for mine, other in pairs:
        torch.testing.assert_close(mine.grad, other.grad.view(mine.shape))
    model.eval(), plain.eval()
    torch.testing.assert_close(logits(), plain(features))


def test_an_answer_depends_on_neither_batch_mates_nor_trailing_zeros_nor_sample_type() -> None:
    model = make_model(seconds=0.5)
    waveforms = make_waveforms(samples=5_000)
    with torch.no_grad():
        together = model(waveforms).logits
        assert together.std(0).max() > 1e-3, "the test cannot tell: every clip gets the same answer"
        for row, clip in zip(together, waveforms, strict=True):
            torch.testing.assert_close(model(clip[None]).logits[0], row, atol=1e-5, rtol=0)
            padded = functional.pad(clip[None], (0, 3_000))
            torch.testing.assert_close(model(padded).logits[0], row, atol=1e-5, rtol=0)
        whole = (waveforms * 32767).round().to(torch.int16)
        assert torch.equal(model(whole).logits, model(whole.float() / 32768).logits)


def test_a_longer_clip_is_cut_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    model = make_model(seconds=0.2)
    waveforms = make_waveforms()
    with torch.no_grad(), caplog.at_level(logging.WARNING, "voicecommand"):
        cut = model(waveforms).logits
        assert "longer than 0.2 s" in caplog.text
        assert torch.equal(cut, model(waveforms[:, :3_200]).logits)


def test_a_saved_model_comes_back_bit_for_bit(tmp_path: Path) -> None:
    model = make_model(width=1.5)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    loaded = AutoModelForAudioClassification.from_pretrained(tmp_path)
    assert type(loaded) is BCResNetForAudioClassification and loaded.config.mask_bins == 1
    ours, theirs = dict(model.state_dict()), dict(loaded.state_dict())
    assert ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())
    with torch.no_grad():
        assert torch.equal(model(make_waveforms()).logits, loaded(make_waveforms()).logits)


def test_spec_augment_is_of_the_papers_size_for_the_width() -> None:
    drawn = {"mask_bands": torch.full((3, 2, 2), 0.9), "mask_times": torch.full((3, 2, 2), 0.5)}
    sizes = {}
    for width in (1, 1.5, 2, 3, 4, 6, 8):
        config = BCResNetConfig(width=width)
        sizes[width] = (config.mask_bins, config.mask_frames)
    assert sizes == {1: (0, 0), 1.5: (1, 20), 2: (3, 20), 3: (5, 20), 4: (5, 20), 6: (7, 20), 8: (7, 20)}
    for width, is_masked in ((1, False), (2, True)):
        model = make_model(width=width)
        with torch.no_grad():
            plain, masked = model(make_waveforms()).logits, model(make_waveforms(), **drawn).logits
        assert torch.equal(plain, masked) != is_masked


def test_it_learns_to_tell_tones_apart() -> None:
    torch.manual_seed(0)
    model = BCResNetForAudioClassification(BCResNetConfig(num_labels=3, seconds=0.2)).train()
    labels = torch.arange(24) % 3
    times = torch.arange(3_200) / RATE
    pitch = torch.tensor([400.0, 900.0, 2000.0])[labels] * (1 + 0.1 * torch.rand(24))
    waveforms = 0.3 * torch.sin(2 * torch.pi * pitch[:, None] * times) + 0.01 * torch.randn(24, 3_200)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(60):  # after 30 it is right only for some seeds: the running statistics lag behind the weights
        optimizer.zero_grad()
        model(waveforms, labels=labels).loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert (model.eval()(waveforms).logits.argmax(1) == labels).all()


def test_tuning_the_head_leaves_the_trunk_alone() -> None:
    model = Head().prepare(make_model())
    moving = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert moving == {"head", "classifier"}


def test_bfloat16_answers_like_float32() -> None:
    model = make_model()
    with torch.no_grad():
        expected = model(make_waveforms()).logits
        with torch.autocast("cpu", torch.bfloat16):
            autocast = model(make_waveforms()).logits
        narrow = model.bfloat16()(make_waveforms()).logits
    assert (autocast - expected).abs().max() < 0.1 and (narrow - expected).abs().max() < 0.2


@pytest.mark.parametrize("settings", [{"width": 0}, {"width": 1.3}, {"seconds": 0.0}, {"seconds": 100.0}])
def test_sizes_that_cannot_be_built_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"model\.(width|max_seconds)="):
        BCResNetConfig(**settings)


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = "import sys, voicecommand; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("order", ["our networks first", "transformers first"])
def test_the_stock_pipeline_opens_a_saved_model(order: str, tmp_path: Path) -> None:
    model = make_model()
    model.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=False).save_pretrained(tmp_path)
    np.save(tmp_path / "clip.npy", make_waveforms(1)[0].numpy())
    imports = {
        "our networks first": "import voicecommand.models; from transformers import pipeline",
        "transformers first": "from transformers import pipeline; import voicecommand.models",
    }[order]
    code = f"""
{imports}
import sys, numpy
answers = pipeline("audio-classification", model=sys.argv[1])(numpy.load(sys.argv[1] + "/clip.npy"), top_k=12)
print(answers[0]["label"], len(answers), round(sum(a["score"] for a in answers), 3))
"""
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    with torch.no_grad():
        label = model.config.id2label[int(model(make_waveforms(1)).logits.argmax())]
    assert ran.stdout.split() == [label, "12", "1.0"]
