"""Features of text for estimators: TF-IDF, or the mean token vector of a frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from voicecommand.files import read_json, write_json
from voicecommand.models.estimator import take_tensor
from voicecommand.models.pretrained import open_network, open_processor
from voicecommand.models.tokens import check_vocabulary
from voicecommand.run.device import find_device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset
    from scipy.sparse import csr_matrix
    from transformers import PreTrainedModel
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    Rows: TypeAlias = Dataset | Mapping[str, Sequence]


class TfidfFeatures:
    """TF-IDF of word and character n-grams (these within words) with sublinear counts, sparse `[n, terms]`."""

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

    def fit(self, dataset: Rows) -> csr_matrix:
        from scipy.sparse import hstack

        texts = list(dataset["text"][:])
        # texts of only emoji have no words
        self.vectorizers = {n: v for n, v in self.vectorizers.items() if any(map(v.build_analyzer(), texts))}
        return hstack([v.fit_transform(texts) for v in self.vectorizers.values()], format="csr")

    def refit(self, matrix: csr_matrix, rows: np.ndarray) -> csr_matrix:
        """As `Features.refit`: the columns of terms that `rows` lack are 0, so that unknown terms have no weight."""
        from scipy.sparse import diags, hstack
        from sklearn.preprocessing import normalize

        parts, start = [], 0
        for vectorizer in self.vectorizers.values():
            part = matrix[:, start : start + len(vectorizer.idf_)]
            start += part.shape[1]
            found = part[rows].getnnz(axis=0)
            idf = np.where(found > 0, np.log((1 + len(rows)) / (1 + found)) + 1, 0)
            parts.append(normalize(part @ diags(idf / vectorizer.idf_), copy=False))
        return hstack(parts, format="csr", dtype=np.float32)

    def __call__(self, dataset: Rows) -> csr_matrix:
        from scipy.sparse import hstack

        return hstack([v.transform(dataset["text"]) for v in self.vectorizers.values()], format="csr")

    def save(self, directory: Path) -> dict[str, np.ndarray]:
        terms = {name: sorted(v.vocabulary_, key=v.vocabulary_.get) for name, v in self.vectorizers.items()}
        write_json(directory / "features.json", {"kind": self.kind, "ngrams": self.ngrams, "terms": terms}, indent=None)
        return {f"idf_{name}": v.idf_.astype(np.float32) for name, v in self.vectorizers.items()}

    @classmethod
    def load(cls, directory: Path, tensors: dict[str, np.ndarray]) -> TfidfFeatures:
        saved = read_json(directory / "features.json")
        ngrams = [tuple(saved["ngrams"][name]) for name in ("word", "char_wb")]
        if not all(len(pair) == 2 and 1 <= pair[0] <= pair[1] for pair in ngrams):
            raise ValueError(f"features.json: ngrams {ngrams} are not [shortest, longest], from 1")
        features = cls(ngrams[0], ngrams[1])
        features.vectorizers = {name: features.vectorizers[name] for name in saved["terms"]}
        for name, vectorizer in features.vectorizers.items():
            vectorizer.vocabulary = {term: i for i, term in enumerate(saved["terms"][name])}
            if len(vectorizer.vocabulary) != len(saved["terms"][name]):
                raise ValueError(f"features.json: {name} has a term twice")
            vectorizer.idf_ = take_tensor(tensors, f"idf_{name}", (len(vectorizer.vocabulary),))
        return features

    def width(self) -> int:
        return sum(len(v.idf_) for v in self.vectorizers.values())

    def parameters(self) -> tuple[int, int]:
        """The number of (all, fitted here) parameters."""
        return self.width(), self.width()


class EncoderFeatures:
    """The mean of a frozen encoder's last token vectors (Reimers and Gurevych, arXiv:1908.10084), scaled to length 1,
    float32 `[n, width]`."""

    kind = "embedding"

    def __init__(self, encoder: PreTrainedModel, processor: PreTrainedTokenizerBase) -> None:
        self.encoder, self.processor = encoder.eval(), processor

    def fit(self, dataset: Rows) -> np.ndarray:
        return self(dataset)

    def refit(self, matrix: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """As `Features.refit`: nothing is fitted."""
        return matrix

    def __call__(self, dataset: Rows, batch_size: int = 64) -> np.ndarray:
        import torch

        device = find_device()
        self.encoder.to(device)
        rows = dataset["input_ids"][:]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        vectors = np.zeros((len(rows), self.width()), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            ids = {"input_ids": [rows[row] for row in chosen]}
            batch = self.processor.pad(ids, return_attention_mask=True, return_tensors="pt").to(device)
            with torch.inference_mode():
                states = self.encoder(**batch).last_hidden_state
                weights = batch["attention_mask"].unsqueeze(-1).float()
                mean = (states.float() * weights).sum(1) / weights.sum(1).clamp(min=1)
                vectors[chosen] = torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()
        return vectors

    def save(self, directory: Path) -> dict[str, np.ndarray]:
        write_json(directory / "features.json", {"kind": self.kind}, indent=None)
        self.encoder.save_pretrained(directory / "encoder")
        self.processor.save_pretrained(directory / "encoder")
        return {}

    @classmethod
    def load(cls, directory: Path, tensors: dict[str, np.ndarray]) -> EncoderFeatures:
        from transformers import AutoModel, AutoTokenizer

        where = directory / "encoder"
        encoder, processor = open_network(AutoModel, where), open_processor(AutoTokenizer, where)
        check_vocabulary(processor, encoder)
        return cls(encoder, processor)

    def width(self) -> int:
        return self.encoder.config.hidden_size

    def parameters(self) -> tuple[int, int]:
        """The number of (all, fitted here) parameters."""
        return sum(p.numel() for p in self.encoder.parameters()), 0
