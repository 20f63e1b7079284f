"""Augmentation of training audio: batches of waveforms and drawn parameters in, waveforms out.

`Augmentation` holds the settings (conf/augment/*.yaml) and draws the parameters, `Augmenter` applies them on the
device, in this order: speed, shift, reverberation, equaliser and band limit, noise, gain, clipping. Noise is added
after the room and the microphone, so the drawn signal-to-noise ratio is that of the result, apart from the samples
that clipping cuts off. Waveforms are float32 [b, n] within -1 to 1, and zero beyond `lengths` [b]. Measuring
robustness uses the same functions of `voicecommand.audio.effects`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from voicecommand.audio.effects import (
    BANDS,
    band_db,
    clip,
    equaliser_db,
    fft_size,
    from_db,
    inverse_transform,
    is_between,
    mix_noise,
    multiply_spectra,
    octaves,
    power_of,
    transform,
)
from voicecommand.audio.noise import (
    FOLDER_SECONDS,
    MADE_NOISE,
    NOISE_KINDS,
    NOISE_SECONDS,
    join_recordings,
    make_babble,
    make_noise,
)
from voicecommand.errors import InputError

logger = logging.getLogger(__name__)
HALF = 8  # taps on each side of the interpolator
BLOCK = 100  # output samples interpolated at once; speed is in whole percent, so they need a whole number of inputs
ROOM_GAP = 0.002  # seconds between the direct sound and the first reflections
ROOM_SHARE = 0.6  # of the reverberation time is simulated: down to -36 dB
Range = tuple[float, float]
EFFECTS = ("speed", "shift", "reverb", "equaliser", "band_limit", "noise", "gain", "clipping")
# The limits of each range setting.
RANGES: dict[str, Range] = {
    "speed_range": (0.5, 2),
    "shift_seconds": (-10, 10),
    "reverb_seconds": (0.02, 3),
    "reverb_direct_db": (-20, 40),
    "band_low_hz": (0, 24_000),
    "band_high_hz": (1, 24_000),
    "noise_snr_db": (-40, 100),
    "gain_db": (-60, 60),
    "clipping_share": (0, 0.9),
}


@dataclass(frozen=True)
class Augmentation:
    """The effects on a training example: `speed` and so on are probabilities (0 to 1), `speed_range` and so on the
    ranges that an effect's parameters are drawn from, uniformly.

    Raises:
        InputError: a value out of its range.
    """

    speed: float = 0.0
    speed_range: Range = (0.85, 1.15)  # above 1 is faster and higher; in whole percent
    shift: float = 0.0
    shift_seconds: Range = (-0.1, 0.1)  # above 0 is later
    reverb: float = 0.0
    reverb_seconds: Range = (0.1, 0.5)  # until the reverberation has fallen by 60 dB
    reverb_direct_db: Range = (0.0, 12.0)  # level of the direct sound over the reverberation
    equaliser: float = 0.0
    equaliser_db: float = 6.0  # the gain of each of 8 bands is between minus and plus this
    band_limit: float = 0.0
    band_low_hz: Range = (50.0, 400.0)
    band_high_hz: Range = (3000.0, 7000.0)
    noise: float = 0.0
    noise_snr_db: Range = (0.0, 30.0)
    noise_kinds: Sequence[str] = NOISE_KINDS
    noise_folder: str | None = None  # of recordings, which are one more kind
    gain: float = 0.0
    gain_db: Range = (-12.0, 6.0)
    clipping: float = 0.0
    clipping_share: Range = (0.001, 0.05)  # of the samples that are cut off
    masks: int = 0  # SpecAugment: the number of frequency masks, and of time masks

    def __post_init__(self) -> None:
        for name in EFFECTS:
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augment.{name}={getattr(self, name)}: a probability; give 0 to 1")
        for name, (lowest, highest) in RANGES.items():
            value = getattr(self, name)
            if len(value) != 2 or not lowest <= value[0] <= value[1] <= highest:
                hint = f"[least, most] within {lowest} to {highest}"
                raise InputError(f"augment.{name}={list(value)}: give {hint}")
        kinds = self.noise_kinds
        if isinstance(kinds, str) or not isinstance(kinds, Sequence):
            raise InputError(f"augment.noise_kinds={kinds}: give a list of {', '.join(NOISE_KINDS)}")
        if unknown := [kind for kind in kinds if kind not in NOISE_KINDS]:
            raise InputError(f"augment.noise_kinds: no {unknown[0]}; there are {', '.join(NOISE_KINDS)}")
        if self.noise and not kinds and not self.noise_folder:
            raise InputError("augment.noise_kinds=[]: name kinds of noise, give augment.noise_folder, or set noise=0")
        if not 0 <= self.equaliser_db <= 40:
            raise InputError(f"augment.equaliser_db={self.equaliser_db}: give 0 to 40 dB")
        if not 0 <= self.masks <= 100:
            raise InputError(f"augment.masks={self.masks}: give a whole number from 0 to 100")

    def draw(self, seed: int, epoch: int, examples: Sequence[int]) -> dict[str, NDArray[np.float32]]:
        """Draw the parameters of some examples (numbers of rows of the training split) in one epoch.

        They depend only on seed, epoch and example: numpy's Philox takes seed and epoch as its key and the example as
        its counter. Order, batches, workers, ranks and resuming change nothing. Each parameter has its own place in
        the stream, so changing one probability does not change the other draws.

        Returns:
            float32 [b] by name, `equaliser_db` [b, 8], and where masks > 0 `mask_bands` and `mask_times`
            [b, masks, 2] for `mask_spectrogram`. An effect that is not applied has a neutral value: speed_percent
            100, reverb_seconds 0, noise_snr_db infinite and so on.
        """
        # A generator for each example. Its numbers are, in order: one for each effect, which decides whether it is
        # applied; the 12 parameters of `draws` below; the gains of the bands; 4 for each pair of masks.
        streams = (np.random.Philox(key=[seed, epoch], counter=[0, example, 0, 0]) for example in examples)
        count = len(EFFECTS) + 12 + BANDS + 4 * self.masks
        uniform = np.stack([np.random.Generator(stream).random(count, dtype=np.float32) for stream in streams])
        happens = dict(zip(EFFECTS, uniform.T, strict=False))
        value = uniform[:, len(EFFECTS) :].T

        def drawn(effect: str, limits: Range, place: int, otherwise: float) -> NDArray:
            values = limits[0] + (limits[1] - limits[0]) * value[place]
            return np.where(happens[effect] < getattr(self, effect), values, otherwise)

        draws = {
            "speed_percent": np.round(100 * drawn("speed", self.speed_range, 0, 1.0)),
            "shift_seconds": drawn("shift", self.shift_seconds, 1, 0.0),
            "reverb_seconds": drawn("reverb", self.reverb_seconds, 2, 0.0),
            "reverb_direct_db": drawn("reverb", self.reverb_direct_db, 3, 0.0),
            "reverb_offset": value[4],
            "band_low_hz": drawn("band_limit", self.band_low_hz, 5, 0.0),
            "band_high_hz": drawn("band_limit", self.band_high_hz, 6, math.inf),
            "noise_snr_db": drawn("noise", self.noise_snr_db, 7, math.inf),
            "noise_kind": value[8],
            "noise_offset": value[9],
            "gain_db": drawn("gain", self.gain_db, 10, 0.0),
            "clipping_share": drawn("clipping", self.clipping_share, 11, 0.0),
        }
        gains = self.equaliser_db * (2 * value[12 : 12 + BANDS].T - 1)  # from [0, 1) to plus and minus equaliser_db
        draws["equaliser_db"] = np.where((happens["equaliser"] < self.equaliser)[:, None], gains, 0.0)
        if self.masks:
            masks = value[12 + BANDS :].T.reshape(len(uniform), 2, self.masks, 2)
            draws["mask_bands"], draws["mask_times"] = masks[:, 0], masks[:, 1]
        return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in draws.items()}

    def build(
        self,
        clips: Sequence[NDArray[np.int16]] | None,
        sampling_rate: int,
        seed: int,
        recordings: Sequence[NDArray[np.int16]] = (),
    ) -> Augmenter:
        """The module that applies the draws, with a minute of each kind of noise made from `seed`.

        Args:
            clips: int16 [samples] each, the training clips that babble is made from; None if babble is not wanted.
            recordings: int16 [samples] each, the files of `noise_folder`, at `sampling_rate`: one more kind.

        Raises:
            InputError: there are no clips or recordings to make a wanted kind of noise from.
        """
        samples = NOISE_SECONDS * sampling_rate
        bank: dict[str, NDArray[np.float32]] = {}
        if self.noise:
            for kind in self.noise_kinds:
                made = kind in MADE_NOISE
                bank[kind] = make_noise(kind, samples, seed) if made else make_babble(clips or (), samples, seed)
            if self.noise_folder is not None:
                bank["folder"] = join_recordings(recordings, FOLDER_SECONDS * sampling_rate, self.noise_folder)
            durations = ", ".join(f"{kind} {len(noise) / sampling_rate:.0f} s" for kind, noise in bank.items())
            logger.info("noise for augmentation: %s", durations)
        return Augmenter(self, bank, sampling_rate, seed)


class Augmenter(nn.Module):
    """Applies the draws to waveforms. `Augmentation.build` makes it; its noise moves with it between devices."""

    def __init__(
        self, augmentation: Augmentation, bank: dict[str, NDArray[np.float32]], sampling_rate: int, seed: int
    ) -> None:
        super().__init__()
        self.sampling_rate = sampling_rate
        self.kinds = list(bank)
        self.kind_samples = [len(noise) for noise in bank.values()]
        self.room_samples = math.ceil(ROOM_SHARE * augmentation.reverb_seconds[1] * sampling_rate)
        low, high = (round(100 * factor) for factor in augmentation.speed_range)
        # a block of BLOCK samples at the highest speed needs `high` input samples and HALF on each side
        self.slowest, self.span = min(low, 100), max(high, 100) + 2 * HALF
        noise = np.concatenate([*bank.values(), np.empty(0, np.float32)])
        self.noise: Tensor
        self.room: Tensor
        self.interpolators: Tensor
        self.register_buffer("noise", torch.from_numpy(noise), persistent=False)
        room = make_noise("white", 10 * self.room_samples, seed)
        self.register_buffer("room", torch.from_numpy(room), persistent=False)
        interpolators = np.stack([_interpolator(p, self.span) for p in range(self.slowest, max(high, 100) + 1)])
        self.register_buffer("interpolators", torch.from_numpy(interpolators), persistent=False)

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """Augmented waveforms, a new float32 [b, n].

        Speed, shift and reverberation move a clip's end, and noise fills the whole window. What leaves the window is
        cut; a clip that has become too long for it is cut at both ends equally. Otherwise zero padding stays zero.
        On a CPU a row does not depend on the other rows, bit for bit.

        Args:
            waveforms: float32 [b, n] within -1 to 1, zero beyond lengths [b].
            draws: from `Augmentation.draw`, as tensors; best on the CPU, wherever the waveforms are.
        """
        drawn = {name: value.cpu() for name, value in draws.items()}
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms, begin, end = self._move(waveforms, lengths.cpu(), drawn)
            self._filter(waveforms, begin, end, drawn)
            self._disturb(waveforms, begin, end, drawn)
            gain = from_db(drawn["gain_db"]).to(waveforms.device)
            # a clip that the gain would take beyond full scale is scaled to full scale, not cut off
            loudest = torch.linalg.vector_norm(waveforms, math.inf, dim=1) * gain
            waveforms *= (gain / loudest.clamp(min=1))[:, None]
            rows = drawn["clipping_share"].nonzero()[:, 0].to(waveforms.device)
            if len(rows):
                waveforms[rows] = clip(waveforms[rows], drawn["clipping_share"][drawn["clipping_share"] > 0])
        return waveforms

    def _move(self, waveforms: Tensor, lengths: Tensor, drawn: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Speed and shift: the moved waveforms [b, n], and where each clip now begins and ends, int64 [b].

        A block of 100 samples at speed p/100 needs p samples of the clip and a few on both sides, and the weights are
        the same for every block. So the blocks are gathered and multiplied by the matrix of their speed.
        """
        device, (rows, samples) = waveforms.device, waveforms.shape
        percent = drawn["speed_percent"].long()
        # `overflow`: half of the output samples that do not fit; `later`: the shift, in input samples.
        overflow = (_ceil_divide(lengths * 100, percent) - samples).clamp(min=0) / 2
        later = ((drawn["shift_seconds"].double() * self.sampling_rate - overflow) * percent / 100).round().long()
        blocks = torch.arange(math.ceil(samples / BLOCK))
        # `starts` [b, blocks]: the first input sample of each block, in the padded waveform of which `windows`
        # [b, n + span + 1, span] is a view; blocks wholly before or after the clip read zeros of the padding.
        starts = (blocks * percent[:, None] - later[:, None] - HALF).clamp(-self.span, samples) + self.span
        windows = functional.pad(waveforms, (self.span, self.span)).unfold(1, self.span, 1)
        gathered = windows[torch.arange(rows, device=device)[:, None], starts.to(device)]
        moved = gathered[..., HALF : HALF + BLOCK]
        changed = (percent != 100).nonzero()[:, 0]
        if len(changed):
            moved = moved.contiguous()
            matrices = self.interpolators[(percent[changed] - self.slowest).to(device)]
            moved[changed.to(device)] = torch.bmm(gathered[changed.to(device)], matrices)
        begin = _ceil_divide(later * 100, percent)
        end = _ceil_divide((later + lengths) * 100, percent)
        return moved.reshape(rows, -1)[:, :samples].contiguous(), begin, end

    def _filter(self, waveforms: Tensor, begin: Tensor, end: Tensor, drawn: dict[str, Tensor]) -> None:
        """Reverberation, equaliser and band limit in one transform, in place."""
        device, samples = waveforms.device, waveforms.shape[1]
        in_room = drawn["reverb_seconds"] > 0
        shaped = (drawn["equaliser_db"] != 0).any(1) | (drawn["band_low_hz"] > 0) | drawn["band_high_hz"].isfinite()
        rows = (in_room | shaped).nonzero()[:, 0]
        if not len(rows):
            return
        size = fft_size(samples + self.room_samples)  # long enough that the convolution does not wrap around
        places = octaves(size, self.sampling_rate, device)
        spectra = transform(waveforms[rows.to(device)], size)
        curve = equaliser_db(places, drawn["equaliser_db"][rows].to(device))
        curve += band_db(places, drawn["band_low_hz"][rows], drawn["band_high_hz"][rows])
        torch.view_as_real(spectra).mul_(from_db(curve)[..., None])
        rooms = in_room[rows].nonzero()[:, 0].to(device)
        if len(rooms):
            responses = transform(self._room_responses({name: value[in_room] for name, value in drawn.items()}), size)
            spectra[rooms] = multiply_spectra(spectra[rooms], responses)
        filtered = inverse_transform(spectra, size)[:, :samples]
        # A filter without delay also rings before and after the clip: that is cut. Reverberation goes on to the end.
        kept = is_between(begin[rows], end[rows].where(~in_room[rows], torch.tensor(samples)), samples, device)
        waveforms[rows.to(device)] = filtered.mul_(kept)

    def _room_responses(self, drawn: dict[str, Tensor]) -> Tensor:
        """Impulse responses [b, room_samples]: the direct sound, then noise that decays by 60 dB in reverb_seconds.

        Polack's model of late reverberation (1988), without single early reflections.
        """
        device = self.room.device
        starts = (drawn["reverb_offset"].double() * (len(self.room) - self.room_samples)).long().to(device)
        time = torch.arange(self.room_samples, device=device) / self.sampling_rate
        decay = (-math.log(1000) * time / drawn["reverb_seconds"].to(device)[:, None]).exp() * (time > ROOM_GAP)
        late = self.room.unfold(0, self.room_samples, 1)[starts] * decay  # [b, room_samples], a piece of noise each
        power = power_of(late, torch.ones_like(late, dtype=torch.bool)) * self.room_samples
        late *= (from_db(-drawn["reverb_direct_db"]).to(device) / power.sqrt())[:, None]
        late[:, 0] = 1
        return late

    def _disturb(self, waveforms: Tensor, begin: Tensor, end: Tensor, drawn: dict[str, Tensor]) -> None:
        """Noise at the drawn signal-to-noise ratio, from the drawn place of the bank, in place."""
        device, samples = waveforms.device, waveforms.shape[1]
        rows = drawn["noise_snr_db"].isfinite().nonzero()[:, 0]
        if not len(rows):
            return
        # The bank holds all kinds one after another: `starts` is where a kind begins, `room` the greatest offset in it.
        kinds = (drawn["noise_kind"][rows] * len(self.kinds)).long()
        kind_samples = torch.tensor(self.kind_samples)
        starts = (kind_samples.cumsum(0) - kind_samples)[kinds]
        room = kind_samples[kinds] - samples
        offsets = (drawn["noise_offset"][rows].double() * (room + 1).clamp(min=1)).long()
        if (room >= 0).all():
            noise = self.noise.unfold(0, samples, 1)[(starts + offsets).to(device)]
        else:  # a kind shorter than the window is repeated
            places = (offsets[:, None] + torch.arange(samples)) % kind_samples[kinds][:, None] + starts[:, None]
            noise = self.noise[places.to(device)]
        valid, ratio = is_between(begin[rows], end[rows], samples, device), drawn["noise_snr_db"][rows].to(device)
        waveforms[rows.to(device)] = mix_noise(waveforms[rows.to(device)], noise, ratio, valid)


def _ceil_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    return -(-numerator // denominator)


def _interpolator(percent: int, span: int) -> NDArray[np.float32]:
    """The weights [span, BLOCK] that turn `span` samples of a clip into BLOCK samples at speed percent/100.

    A sinc of 2 * HALF taps under a Hann window, cut off just below half of the lower of both rates (see J. O.
    Smith, Digital Audio Resampling Home Page); the weights of each output sample sum to 1.
    """
    places = HALF + np.arange(BLOCK) * percent / 100
    distance = np.arange(span)[:, None] - places
    cutoff = 0.95 * min(1.0, 100 / percent)
    window = np.where(np.abs(distance) < HALF, np.cos(np.pi * distance / (2 * HALF)) ** 2, 0.0)
    weights = np.sinc(cutoff * distance) * window
    return (weights / weights.sum(0)).astype(np.float32)
