"""Traditional and hybrid models with Trainer's three verbs: train, predict, save_model.

An `Estimator` is features that stay as they are (`TfidfFeatures`, `EncoderFeatures` of texts, `MfccFeatures`,
`SpeechFeatures` of sound) and a linear support vector machine whose scores are calibrated by one temperature. It is
saved as safetensors and JSON, never as a pickle.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from voicecommand import mfcc
from voicecommand.audio import SAMPLING_RATE, Clips, cache_directory, cut_windows, to_float
from voicecommand.device import find_device
from voicecommand.errors import InputError

logger = logging.getLogger(__name__)

GROUPS = ("speaker", "template")  # examples that share one stay in one fold
FOLDS = 5
LIMIT = 4  # standard deviations
BATCH = 32  # windows through an encoder at a time
CHUNK = 2_000  # clips between two writes of the cache
PART = 50  # clips that go to a process at a time


class TfidfFeatures:
    """Word and character (inside word borders) TF-IDF with sublinear counts, side by side, sparse `[n, terms]`."""

    kind = "tfidf"

    def __init__(self, word_ngrams: tuple[int, int], character_ngrams: tuple[int, int]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.ngrams = {"word": list(word_ngrams), "char_wb": list(character_ngrams)}
        self.vectorizers = {
            analyzer: TfidfVectorizer(
                analyzer=analyzer,
                ngram_range=tuple(ngrams),
                sublinear_tf=True,
                dtype=np.float32,
                **({"token_pattern": r"(?u)\b\w+\b"} if analyzer == "word" else {}),
            )
            for analyzer, ngrams in self.ngrams.items()
        }

    def fit(self, dataset: Any) -> Any:
        from scipy.sparse import hstack

        return hstack([v.fit_transform(dataset["text"]) for v in self.vectorizers.values()], format="csr")

    def __call__(self, dataset: Any) -> Any:
        from scipy.sparse import hstack

        return hstack([v.transform(dataset["text"]) for v in self.vectorizers.values()], format="csr")

    def save(self, directory: Path) -> dict[str, np.ndarray]:
        terms = {name: sorted(v.vocabulary_, key=v.vocabulary_.get) for name, v in self.vectorizers.items()}
        _write_json(directory / "features.json", {"kind": self.kind, "ngrams": self.ngrams, "terms": terms})
        return {f"idf_{name}": v.idf_.astype(np.float32) for name, v in self.vectorizers.items()}

    @classmethod
    def load(cls, directory: Path, tensors: dict[str, np.ndarray]) -> TfidfFeatures:
        saved = _read_json(directory / "features.json")
        features = cls(tuple(saved["ngrams"]["word"]), tuple(saved["ngrams"]["char_wb"]))
        for name, vectorizer in features.vectorizers.items():
            vectorizer.vocabulary = {term: i for i, term in enumerate(saved["terms"][name])}
            if len(vectorizer.vocabulary) != len(tensors[f"idf_{name}"]):
                raise ValueError(f"features.json: {name} has another number of terms than estimator.safetensors")
            vectorizer.idf_ = tensors[f"idf_{name}"]
        return features

    def width(self) -> int:
        return sum(len(v.idf_) for v in self.vectorizers.values())

    def parameters(self) -> tuple[int, int]:
        """(all, fitted here)."""
        return self.width(), self.width()


class EncoderFeatures:
    """The mean of a frozen encoder's last token vectors, scaled to length 1 (Reimers and Gurevych,
    arXiv:1908.10084), float32 `[n, width]`."""

    kind = "embedding"

    def __init__(self, encoder: Any, processor: Any) -> None:
        self.encoder, self.processor = encoder.eval(), processor

    def fit(self, dataset: Any) -> np.ndarray:
        return self(dataset)

    def __call__(self, dataset: Any, batch_size: int = 64) -> np.ndarray:
        import torch

        device = find_device()
        self.encoder.to(device)
        rows = dataset["input_ids"][:]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        vectors = np.zeros((len(rows), self.width()), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            longest = len(rows[chosen[-1]])
            ids = torch.full((len(chosen), longest), self.processor.pad_token_id)
            mask = torch.zeros((len(chosen), longest), dtype=torch.long)
            for i, row in enumerate(chosen):
                ids[i, : len(rows[row])] = torch.as_tensor(rows[row])
                mask[i, : len(rows[row])] = 1
            with torch.inference_mode():
                states = self.encoder(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
                weights = mask.to(device).unsqueeze(-1).float()
                mean = (states.float() * weights).sum(1) / weights.sum(1).clamp(min=1)
                vectors[chosen] = torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()
        return vectors

    def save(self, directory: Path) -> dict[str, np.ndarray]:
        _write_json(directory / "features.json", {"kind": self.kind})
        self.encoder.save_pretrained(directory / "encoder")
        self.processor.save_pretrained(directory / "encoder")
        return {}

    @classmethod
    def load(cls, directory: Path, tensors: dict[str, np.ndarray]) -> EncoderFeatures:
        from transformers import AutoModel, AutoTokenizer

        where = str(directory / "encoder")
        encoder = AutoModel.from_pretrained(where, trust_remote_code=False, use_safetensors=True)
        return cls(encoder, AutoTokenizer.from_pretrained(where, trust_remote_code=False))

    def width(self) -> int:
        return self.encoder.config.hidden_size

    def parameters(self) -> tuple[int, int]:
        """(all, fitted here)."""
        return sum(p.numel() for p in self.encoder.parameters()), 0


class _SoundFeatures:
    """What features of sound share: vectors computed once for each clip and cached, standardised by those of train.

    A data set has a column `audio` of int16 samples at 16 kHz; where it is not a `datasets.Dataset` but a dictionary,
    that is any sequence of arrays. Vectors of prepared splits
    (`voicecommand.data.sound`; they have a column `content`) are cached under `cache_directory() / "features"`, by
    the hash of a clip's samples, not of its file: a clip that was changed after it was read is another clip, and
    subsets of a split find what the whole split has computed.
    """

    kind: str
    version = 1  # of what `_compute` makes

    def __init__(self) -> None:
        self.mean = self.deviation = np.zeros(0, dtype=np.float32)

    def fit(self, dataset: Any) -> np.ndarray:
        """The features of train; keeps their mean and standard deviation, 1 for a feature that never changes."""
        rows = self._rows(dataset)
        self.mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        deviation = rows.std(axis=0, dtype=np.float64)
        self.deviation = np.where(deviation > 1e-6 * (1 + np.abs(self.mean)), deviation, 1).astype(np.float32)
        return self._standardise(rows)

    def __call__(self, dataset: Any) -> np.ndarray:
        """float32 `[n, width]`, standardised."""
        return self._standardise(self._rows(dataset))

    def _standardise(self, rows: np.ndarray) -> np.ndarray:
        # a clip unlike any of train (a silent one) must not outvote everything by a single feature
        return np.clip((rows - self.mean) / self.deviation, -LIMIT, LIMIT)

    def _rows(self, dataset: Any) -> np.ndarray:
        prepared = "content" in getattr(dataset, "column_names", ())
        clips = Clips(dataset) if hasattr(dataset, "column_names") else dataset["audio"]
        keys = [hashlib.sha256(np.ascontiguousarray(clips[i]).data).digest() for i in range(len(clips))]
        folder = cache_directory() / "features" / f"{self.kind}-{self._settings_hash()}" if prepared else None
        known = {} if folder is None else _read_vectors(folder, self.width())
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
                    _write_vectors(folder, found)
        return np.stack([known[key] for key in keys]) if keys else np.zeros((0, self.width()), dtype=np.float32)

    def _compute(self, clips: list[np.ndarray], bar: Any) -> np.ndarray:
        """int16 clips -> float32 `[n, width]`; `bar.update(count)` as they get done."""
        raise NotImplementedError

    def _settings_hash(self) -> str:
        """Of all that the vectors depend on but the clip."""
        raise NotImplementedError

    def width(self) -> int:
        raise NotImplementedError

    def _tensors(self) -> dict[str, np.ndarray]:
        return {"feature_mean": self.mean, "feature_deviation": self.deviation}

    def _take(self, saved: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        """Take over what `_tensors` gave; ValueError where it does not fit."""
        if saved["version"] != self.version:
            made = f"version {saved['version']}, this code makes {self.version}"
            raise ValueError(f"features.json: {made}: train the model again")
        self.mean, self.deviation = tensors["feature_mean"], tensors["feature_deviation"]
        if self.mean.shape != (self.width(),) or self.deviation.shape != (self.width(),):
            raise ValueError(f"estimator.safetensors: its features are not {self.width()}")


class MfccFeatures(_SoundFeatures):
    """Statistics of a whole clip, float32 `[n, 732]`: see `voicecommand.mfcc.describe`."""

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

        return _hash_json({"version": self.version, "librosa": version("librosa")})

    def save(self, directory: Path) -> dict[str, np.ndarray]:
        _write_json(directory / "features.json", {"kind": self.kind, "version": self.version})
        return self._tensors()

    @classmethod
    def load(cls, directory: Path, tensors: dict[str, np.ndarray]) -> MfccFeatures:
        features = cls()
        features._take(_read_json(directory / "features.json"), tensors)
        return features

    def width(self) -> int:
        return mfcc.WIDTH

    def parameters(self) -> tuple[int, int]:
        """(all, fitted here)."""
        return 2 * self.width(), 2 * self.width()


class SpeechFeatures(_SoundFeatures):
    """Mean and standard deviation over time of a frozen speech encoder's last hidden state, float32 `[n, 2 x hidden]`.

    A frame weighs as much as its sound is loud (`voicecommand.features.frame_amplitudes`): a word amid silence is
    described by the word, and nothing counts after a clip's end. From one example of each of six keywords, 84 % of
    other speakers' clips were right with equal weights and 99.9 % with these (20 draws from train). A clip longer
    than `max_seconds` is read in windows (`voicecommand.audio.cut_windows`) whose vectors are averaged by loudness
    too, in fitting as in predicting. Windows of different lengths are never padded to one another, so that a clip's
    vector does not depend on the clips beside it.

    Args:
        encoder: Whisper's encoder with its positions cut to `max_seconds`, or a wav2vec 2.0, HuBERT or WavLM model.
        processor: its feature extractor.
        max_seconds: of a window.
    """

    kind = "speech_embedding"
    version = 3

    def __init__(self, encoder: Any, processor: Any, max_seconds: float) -> None:
        from voicecommand.features import build_front

        super().__init__()
        self.encoder, self.processor, self.max_seconds = encoder.eval(), processor, max_seconds
        self.front = build_front(encoder.config, processor, max_seconds)

    def _compute(self, clips: list[np.ndarray], bar: Any) -> np.ndarray:
        import torch

        device = find_device()
        self.encoder.to(device)
        self.front.to(device)
        size = round(self.max_seconds * SAMPLING_RATE)
        starts = [cut_windows(len(clip), size) for clip in clips]
        windows = [(i, clip[start : start + size]) for i, clip in enumerate(clips) for start in starts[i]]
        left = [len(of_clip) for of_clip in starts]
        vectors = np.zeros((len(clips), self.width()), dtype=np.float32)
        weights = np.zeros((len(clips), 1), dtype=np.float32)
        is_padded = self.encoder.config.model_type == "whisper"  # to `max_seconds` in any case, by the front
        for batch in _batches(windows, mixed=is_padded):
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
        """float32 `[b, samples]`, int64 `[b]` -> float32 `[b, 2 x hidden]`, and how loud each window is `[b]`."""
        import torch

        from voicecommand.features import frame_amplitudes, frame_mask

        states = self.encoder(**self.front(waveforms, lengths)).last_hidden_state.float()
        frames = states.shape[1]
        weights = frame_amplitudes(self.encoder, waveforms, frames) * frame_mask(self.encoder, lengths, frames)
        loud = weights.sum(1)
        shares = (weights / loud[:, None]).unsqueeze(-1)
        mean = (states * shares).sum(1)
        variance = ((states - mean.unsqueeze(1)).square() * shares).sum(1)
        return torch.cat([mean, variance.sqrt()], dim=-1), loud

    def _settings_hash(self) -> str:
        import torch

        config = self.encoder.config.to_dict()
        for name in ("_name_or_path", "architectures"):  # where it came from is not what it is
            config.pop(name, None)
        weights = hashlib.sha256()
        for name, tensor in sorted(self.encoder.state_dict().items()):
            weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            weights.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        settings = {"version": self.version, "seconds": self.max_seconds, "weights": weights.hexdigest()}
        return _hash_json(settings | {"config": config, "processor": self.processor.to_dict()})

    def save(self, directory: Path) -> dict[str, np.ndarray]:
        saved = {"kind": self.kind, "version": self.version, "max_seconds": self.max_seconds}
        _write_json(directory / "features.json", saved)
        self.encoder.save_pretrained(directory / "encoder")
        self.processor.save_pretrained(directory / "encoder")
        return self._tensors()

    @classmethod
    def load(cls, directory: Path, tensors: dict[str, np.ndarray]) -> SpeechFeatures:
        import torch
        from transformers import AutoConfig, AutoFeatureExtractor, AutoModel
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        saved = _read_json(directory / "features.json")
        where = str(directory / "encoder")
        family = AutoConfig.from_pretrained(where, trust_remote_code=False).model_type
        loader = WhisperEncoder if family == "whisper" else AutoModel
        settings: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True, "dtype": torch.float32}
        processor = AutoFeatureExtractor.from_pretrained(where, trust_remote_code=False)
        features = cls(loader.from_pretrained(where, **settings), processor, saved["max_seconds"])
        features._take(saved, tensors)
        return features

    def width(self) -> int:
        return 2 * self.encoder.config.hidden_size

    def parameters(self) -> tuple[int, int]:
        """(all, fitted here)."""
        fitted = 2 * self.width()
        return sum(p.numel() for p in self.encoder.parameters()) + fitted, fitted


def _mfcc_rows(clips: list[np.ndarray]) -> list[np.ndarray]:
    return [mfcc.describe(to_float(clip)) for clip in clips]


def _in_processes(work: Any, clips: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """`work` on parts of the clips, in order; a full chunk of them in a process for each core."""
    parts = [clips[start : start + PART] for start in range(0, len(clips), PART)]
    if len(clips) < CHUNK:  # to start processes takes as long
        yield from map(work, parts)
        return
    from joblib import Parallel, cpu_count, delayed

    yield from Parallel(n_jobs=cpu_count(), return_as="generator")(delayed(work)(part) for part in parts)


def _batches(windows: list[tuple[int, np.ndarray]], mixed: bool) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Batches of windows; of one length each, unless lengths may be mixed."""
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


def _read_vectors(folder: Path, width: int) -> dict[bytes, np.ndarray]:
    """All vectors of a folder of the cache, by the sha256 of the clip's samples; files that are not whole are not."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    known: dict[bytes, np.ndarray] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            tensors = load_file(file)
            keys, vectors = tensors["keys"], tensors["vectors"]
            if keys.shape != (len(vectors), 32) or vectors.shape[1:] != (width,):
                raise ValueError("of another shape")
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            logger.warning("%s is not whole (%s): its features are computed again", file, error)
            continue
        known |= zip((key.tobytes() for key in keys), vectors, strict=True)
    return known


def _write_vectors(folder: Path, found: dict[bytes, np.ndarray]) -> None:
    """One more file of the cache, all or nothing. Two processes that write the same write the same file."""
    from safetensors.numpy import save

    keys = np.frombuffer(b"".join(found), dtype=np.uint8).reshape(len(found), 32)
    file = folder / f"{hashlib.sha256(keys.tobytes()).hexdigest()[:32]}.safetensors"
    staging = folder / f".{file.name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging.write_bytes(save({"keys": keys, "vectors": np.stack(list(found.values()))}))
        os.replace(staging, file)
    except OSError as error:  # the next run computes them again
        logger.warning("%s: features can't be cached: %s", folder, error.strerror or error)


def _hash_json(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


class Estimator:
    """Features and a linear classifier, with the verbs of `Trainer`.

    Predictions are logits `[n, labels]`: one-against-rest scores divided by a temperature (Guo et al.,
    arXiv:1706.04599) fitted to out-of-fold scores of train, folds disjoint by speaker or template where known.
    """

    def __init__(
        self, features: Any, train: Any, label_names: list[str], C: float, class_weights: Any = None, seed: int = 0
    ) -> None:
        self.features, self.train_dataset = features, train
        self.label_names, self.C, self.class_weights, self.seed = label_names, C, class_weights, seed
        self.coefficients = self.intercepts = np.zeros(0)
        self.temperature = 1.0

    def train(self, resume_from_checkpoint: Any = None) -> SimpleNamespace:
        """Fit; there is no middle to resume from."""
        from sklearn.svm import LinearSVC

        start = time.perf_counter()
        labels = np.asarray(self.train_dataset["labels"])
        matrix = self.features.fit(self.train_dataset)
        weights = None if self.class_weights is None else dict(enumerate(map(float, self.class_weights)))
        classifier = LinearSVC(C=self.C, class_weight=weights, random_state=self.seed)
        scores = _out_of_fold(classifier, matrix, labels, self._groups(), self.seed)
        classifier.fit(matrix, labels)
        # single precision, as saved: the figures of the run are those of the file
        self.coefficients = classifier.coef_.astype(np.float32)
        self.intercepts = classifier.intercept_.astype(np.float32)
        if len(self.label_names) == 2:  # scikit-learn keeps one row for two labels
            self.coefficients = np.concatenate([-self.coefficients, self.coefficients])
            self.intercepts = np.concatenate([-self.intercepts, self.intercepts])
        self.temperature = float(np.float32(_fit_temperature(scores, labels)))
        seconds = time.perf_counter() - start
        return SimpleNamespace(
            global_step=0, metrics={"train_runtime": seconds, "train_samples_per_second": len(labels) / seconds}
        )

    def predict(self, dataset: Any) -> SimpleNamespace:
        scores = np.asarray(self.features(dataset) @ self.coefficients.T) + self.intercepts
        return SimpleNamespace(predictions=scores / self.temperature)

    def save_model(self, directory: str | Path) -> None:
        from safetensors.numpy import save_file

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        tensors = self.features.save(directory)
        tensors |= {
            "coefficients": np.ascontiguousarray(self.coefficients),
            "intercepts": self.intercepts,
            "temperature": np.array([self.temperature], dtype=np.float32),
        }
        save_file(tensors, directory / "estimator.safetensors")

    @classmethod
    def load(cls, directory: str | Path, label_names: list[str]) -> Estimator:
        """Open what `save_model` wrote.

        Raises:
            OSError, ValueError, KeyError, TypeError, SafetensorError: the files are not whole, or do not fit together.
        """
        from safetensors.numpy import load_file

        directory = Path(directory)
        tensors = load_file(directory / "estimator.safetensors")
        kinds: dict[str, Any] = {c.kind: c for c in (TfidfFeatures, EncoderFeatures, MfccFeatures, SpeechFeatures)}
        kind = _read_json(directory / "features.json")["kind"]
        if kind not in kinds:
            raise ValueError(f"features.json: kind {kind!r} is none of {', '.join(kinds)}")
        features = kinds[kind].load(directory, tensors)
        estimator = cls(features, None, label_names, C=1.0)
        estimator.coefficients, estimator.intercepts = tensors["coefficients"], tensors["intercepts"]
        estimator.temperature = float(tensors["temperature"][0])
        wanted = (len(label_names), features.width())
        if estimator.coefficients.shape != wanted or estimator.intercepts.shape != wanted[:1]:
            raise ValueError(f"estimator.safetensors: not a classifier of {wanted[0]} labels and {wanted[1]} features")
        return estimator

    def count_parameters(self) -> tuple[int, int]:
        """(all, fitted here)."""
        classifier = self.coefficients.size + self.intercepts.size
        total, fitted = self.features.parameters()
        return classifier + total, classifier + fitted

    def _groups(self) -> np.ndarray | None:
        column = next((c for c in GROUPS if c in self.train_dataset.column_names), None)
        return np.asarray(self.train_dataset[column]) if column else None


def _out_of_fold(classifier: Any, matrix: Any, labels: np.ndarray, groups: Any, seed: int) -> np.ndarray:
    """Scores `[n, labels]` of each example from a classifier that did not see its fold; labels too rare: NaN rows."""
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.arange(len(labels)) if groups is None else groups
    counts = np.bincount(labels)
    count = len(counts)
    scores = np.full((len(labels), count), np.nan)
    folds = min(FOLDS, len(np.unique(groups)), int(counts.max()))
    if folds < 2:
        return scores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of labels with fewer examples than folds, see below
        splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(matrix, labels, groups))
    for fit, held in splits:
        if len(np.unique(labels[fit])) < count:
            continue
        decision = clone(classifier).fit(matrix[fit], labels[fit]).decision_function(matrix[held])
        scores[held] = np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision
    return scores


def _fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least log loss; 1 where no out-of-fold score exists."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    known = ~np.isnan(scores[:, 0])
    if not known.any():
        return 1.0
    scores, labels = scores[known], labels[known]

    def log_loss(log_temperature: float) -> float:
        return -log_softmax(scores / np.exp(log_temperature), axis=1)[np.arange(len(labels)), labels].mean()

    return float(np.exp(minimize_scalar(log_loss, bounds=(-5, 5), method="bounded").x))


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
