"""Features of audio for estimators: one vector a clip, computed once and cached."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from voicecommand.audio import mfcc
from voicecommand.audio.clips import SAMPLING_RATE, Clips, to_float
from voicecommand.audio.windows import cut_windows
from voicecommand.errors import InputError
from voicecommand.files import cache_directory, read_json, write_json
from voicecommand.models.estimator import take_tensor
from voicecommand.models.pretrained import open_network, open_processor, open_saved
from voicecommand.models.vector_cache import hash_json, read_vectors, write_vectors
from voicecommand.run.device import find_device

logger = logging.getLogger(__name__)
LIMIT = 4  # standard deviations
BATCH = 32  # windows through an encoder at a time
CHUNK = 2_000  # clips between two writes of the cache
PART = 50  # clips that a process gets at a time


class AudioFeatures:
    """Features of audio: a vector for each clip, computed once and cached, standardised by those of train.

    A data set has a column `audio` of int16 samples at 16 kHz; in a dictionary instead of a `datasets.Dataset` it may
    be any sequence of arrays. Vectors of prepared splits (`voicecommand.data.prepared`; they have a column `content`)
    are cached under `cache_directory() / "features"` by the hash of a clip's samples, not of its file. So a changed
    clip is computed again, and a subset of a split uses the vectors of the whole split.
    """

    kind: str
    version = 1  # of the result of `_compute`

    def __init__(self) -> None:
        self.mean = self.deviation = np.zeros(0, dtype=np.float32)

    def fit(self, dataset: Any) -> np.ndarray:
        """The features of train; saves their mean and standard deviation (1 for a feature that is constant)."""
        rows = self._rows(dataset)
        self.mean, self.deviation = _moments(rows)
        return self._standardise(rows)

    def refit(self, matrix: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """As `Features.refit`."""
        mean, deviation = _moments(matrix[rows])
        return np.clip((matrix - mean) / deviation, -LIMIT, LIMIT)

    def __call__(self, dataset: Any) -> np.ndarray:
        """float32 `[n, width]`, standardised."""
        return self._standardise(self._rows(dataset))

    def _standardise(self, rows: np.ndarray) -> np.ndarray:
        # one feature of a clip unlike any of train, such as a silent one, must not dominate all others
        return np.clip((rows - self.mean) / self.deviation, -LIMIT, LIMIT)

    def _rows(self, dataset: Any) -> np.ndarray:
        prepared = "content" in getattr(dataset, "column_names", ())
        clips = Clips(dataset) if hasattr(dataset, "column_names") else dataset["audio"]
        keys = [hashlib.sha256(np.ascontiguousarray(clips[i]).data).digest() for i in range(len(clips))]
        folder = cache_directory() / "features" / f"{self.kind}-{self._settings_hash()}" if prepared else None
        known = {} if folder is None else read_vectors(folder, self.width())
        missing = list({key: i for i, key in enumerate(keys) if key not in known}.values())
        if missing:
            logger.info("features of %d clips, %d from the cache", len(keys), len(keys) - len(missing))
        with _progress(len(missing), f"{self.kind} features") as bar:
            for start in range(0, len(missing), CHUNK):
                chunk = missing[start : start + CHUNK]
                vectors = self._compute([clips[i] for i in chunk], bar)
                if not np.isfinite(vectors).all():
                    raise InputError(f"model: its {self.kind} features are NaN or infinite: the checkpoint is damaged")
                found = {keys[i]: vector for i, vector in zip(chunk, vectors, strict=True)}
                known |= found
                if folder is not None:
                    write_vectors(folder, found)
        return np.stack([known[key] for key in keys]) if keys else np.zeros((0, self.width()), dtype=np.float32)

    def _compute(self, clips: list[np.ndarray], bar: Any) -> np.ndarray:
        """int16 clips -> float32 `[n, width]`; calls `bar.update(count)` for finished clips."""
        raise NotImplementedError

    def _settings_hash(self) -> str:
        """A hash of everything that the vectors depend on, except the clip."""
        raise NotImplementedError

    def width(self) -> int:
        """The number of features."""
        raise NotImplementedError

    def save(self, directory: Path) -> dict[str, np.ndarray]:
        """Write features.json and the encoder, if there is one; returns the tensors for estimator.safetensors."""
        raise NotImplementedError

    def parameters(self) -> tuple[int, int]:
        """The number of (all, fitted here) parameters."""
        raise NotImplementedError

    def _tensors(self) -> dict[str, np.ndarray]:
        return {"feature_mean": self.mean, "feature_deviation": self.deviation}

    def _take(self, saved: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        """Restore what `_tensors` gave; ValueError if it does not fit."""
        if saved["version"] != self.version:
            found = f"version {saved['version']}, this code has {self.version}"
            raise ValueError(f"features.json: {found}: train the model again")
        self.mean = take_tensor(tensors, "feature_mean", (self.width(),))
        self.deviation = take_tensor(tensors, "feature_deviation", (self.width(),))
        if not (self.deviation > 0).all():
            raise ValueError("estimator.safetensors: feature_deviation is not above 0")


class MfccFeatures(AudioFeatures):
    """Statistics of a whole clip, float32 `[n, 732]`: see `voicecommand.audio.mfcc.describe`."""

    kind = "mfcc"
    version = 2

    def _compute(self, clips: list[np.ndarray], bar: Any) -> np.ndarray:
        vectors = []
        for part in _in_processes(_mfcc_rows, clips):
            vectors += part
            bar.update(len(part))
        return np.stack(vectors)

    def _settings_hash(self) -> str:
        from importlib.metadata import version

        return hash_json({"version": self.version, "librosa": version("librosa")})

    def save(self, directory: Path) -> dict[str, np.ndarray]:
        write_json(directory / "features.json", {"kind": self.kind, "version": self.version}, indent=None)
        return self._tensors()

    @classmethod
    def load(cls, directory: Path, tensors: dict[str, np.ndarray]) -> MfccFeatures:
        features = cls()
        features._take(read_json(directory / "features.json"), tensors)
        return features

    def width(self) -> int:
        return mfcc.WIDTH

    def parameters(self) -> tuple[int, int]:
        """(all, fitted here)."""
        return 2 * self.width(), 2 * self.width()


class SpeechFeatures(AudioFeatures):
    """Mean and standard deviation over time of a frozen speech encoder's last hidden state, float32 `[n, 2 x hidden]`.

    The weight of a frame is its loudness (`voicecommand.models.families.frame_amplitudes`): silence around a word
    hardly counts, and nothing after a clip's end does. With one training example of each of six keywords, 84 % of other
    speakers' clips were right with equal weights and 99.9 % with these (20 draws from train). A clip longer than
    `max_seconds` is read in windows (`voicecommand.audio.windows.cut_windows`), in fitting and in predicting; its
    vector is their mean, weighted by loudness. Windows are never padded to the length of others, so that a clip's
    vector does not depend on its batch.

    Args:
        encoder: from `voicecommand.models.families.load_encoder`.
        processor: its feature extractor.
        max_seconds: of a window.
    """

    kind = "speech_embedding"
    version = 3

    def __init__(self, encoder: Any, processor: Any, max_seconds: float) -> None:
        from voicecommand.models.families import build_inputs

        super().__init__()
        self.encoder, self.processor, self.max_seconds = encoder.eval(), processor, max_seconds
        self.front = build_inputs(encoder.config, processor, max_seconds)

    def _compute(self, clips: list[np.ndarray], bar: Any) -> np.ndarray:
        import torch

        from voicecommand.models.families import find_family

        device = find_device()
        self.encoder.to(device)
        self.front.to(device)
        size = round(self.max_seconds * SAMPLING_RATE)
        starts = [cut_windows(len(clip), size) for clip in clips]
        windows = [(i, clip[start : start + size]) for i, clip in enumerate(clips) for start in starts[i]]
        left = [len(of_clip) for of_clip in starts]  # windows of each clip that are not computed yet
        vectors = np.zeros((len(clips), self.width()), dtype=np.float32)
        weights = np.zeros((len(clips), 1), dtype=np.float32)
        is_fixed = find_family(self.encoder.config).is_fixed  # the front pads to `max_seconds` in any case
        for batch in _batches(windows, mixed=is_fixed):
            waveforms = np.zeros((len(batch), max(len(window) for _, window in batch)), dtype=np.float32)
            for row, (_, window) in zip(waveforms, batch, strict=True):
                row[: len(window)] = to_float(window)
            lengths = torch.tensor([len(window) for _, window in batch], device=device)
            with torch.inference_mode():
                pooled, loud = self._pool(torch.from_numpy(waveforms).to(device), lengths)
            for (i, _), vector, weight in zip(batch, pooled.cpu().numpy(), loud.cpu().numpy(), strict=True):
                vectors[i] += weight * vector
                weights[i] += weight
                left[i] -= 1
                bar.update(int(left[i] == 0))
        return vectors / weights

    def _pool(self, waveforms: Any, lengths: Any) -> tuple[Any, Any]:
        """Waveforms float32 `[b, samples]`, lengths int64 `[b]` -> mean and deviation float32 `[b, 2 x hidden]`, and
        the loudness of each window `[b]`."""
        import torch

        from voicecommand.models.families import frame_amplitudes, frame_mask

        states = self.encoder(**self.front(waveforms, lengths)).last_hidden_state.float()
        frames = states.shape[1]
        weights = frame_amplitudes(self.front.pad(waveforms), frames) * frame_mask(self.encoder, lengths, frames)
        loud = weights.sum(1)
        shares = (weights / loud[:, None]).unsqueeze(-1)
        mean = (states * shares).sum(1)
        variance = ((states - mean.unsqueeze(1)).square() * shares).sum(1)
        return torch.cat([mean, variance.sqrt()], dim=-1), loud

    def _settings_hash(self) -> str:
        import torch

        config = self.encoder.config.to_dict()
        for name in ("_name_or_path", "architectures"):  # the vectors do not depend on these
            config.pop(name, None)
        weights = hashlib.sha256()
        for name, tensor in sorted(self.encoder.state_dict().items()):
            weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            weights.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        settings = {"version": self.version, "seconds": self.max_seconds, "weights": weights.hexdigest()}
        return hash_json(settings | {"config": config, "processor": self.processor.to_dict()})

    def save(self, directory: Path) -> dict[str, np.ndarray]:
        saved = {"kind": self.kind, "version": self.version, "max_seconds": self.max_seconds}
        write_json(directory / "features.json", saved, indent=None)
        self.encoder.save_pretrained(directory / "encoder")
        self.processor.save_pretrained(directory / "encoder")
        return self._tensors()

    @classmethod
    def load(cls, directory: Path, tensors: dict[str, np.ndarray]) -> SpeechFeatures:
        from transformers import AutoConfig, AutoFeatureExtractor

        from voicecommand.models.families import check_extractor, find_family

        saved = read_json(directory / "features.json")
        where = directory / "encoder"
        loader = find_family(open_saved(AutoConfig, where)).load_encoder_class()
        processor = open_processor(AutoFeatureExtractor, where)
        check_extractor(processor, "preprocessor_config.json")
        encoder = open_network(loader, where)
        features = cls(encoder, processor, saved["max_seconds"])
        features._take(saved, tensors)
        return features

    def width(self) -> int:
        return 2 * self.encoder.config.hidden_size

    def parameters(self) -> tuple[int, int]:
        """(all, fitted here)."""
        fitted = 2 * self.width()
        return sum(p.numel() for p in self.encoder.parameters()) + fitted, fitted


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the standard deviation of each feature of rows `[n, width]`; 1 for a constant one."""
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = rows.std(axis=0, dtype=np.float64)
    return mean, np.where(deviation > 1e-6 * (1 + np.abs(mean)), deviation, 1).astype(np.float32)


def _mfcc_rows(clips: list[np.ndarray]) -> list[np.ndarray]:
    return [mfcc.describe(to_float(clip)) for clip in clips]


def _in_processes(work: Any, clips: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The results of `work` for parts of the clips, in order; for a full chunk, in a process for each core."""
    parts = [clips[start : start + PART] for start in range(0, len(clips), PART)]
    if len(clips) < CHUNK:  # starting processes would take as long
        yield from map(work, parts)
        return
    from joblib import Parallel, cpu_count, delayed

    yield from Parallel(n_jobs=cpu_count(), return_as="generator")(delayed(work)(part) for part in parts)


def _batches(windows: list[tuple[int, np.ndarray]], mixed: bool) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Batches of windows; each of one length, unless lengths may be mixed."""
    batch: list[tuple[int, np.ndarray]] = []
    for window in windows if mixed else sorted(windows, key=lambda pair: len(pair[1])):
        if batch and (len(batch) == BATCH or not (mixed or len(batch[0][1]) == len(window[1]))):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _progress(count: int, what: str) -> Any:
    from tqdm import tqdm

    return tqdm(total=count, desc=what, unit="clip", disable=count <= 200)
