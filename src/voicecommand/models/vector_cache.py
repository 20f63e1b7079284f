"""The cache of clips' feature vectors on disk, by the hash of a clip's samples."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from voicecommand.errors import StorageError
from voicecommand.files import write_bytes

logger = logging.getLogger(__name__)


def read_vectors(folder: Path, width: int) -> dict[bytes, np.ndarray]:
    """All vectors in a folder of the cache, by the sha256 of the clip's samples; damaged files are skipped."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    known: dict[bytes, np.ndarray] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            tensors = load_file(file)
            keys, vectors = tensors["keys"], tensors["vectors"]
            if keys.shape != (len(vectors), 32) or vectors.shape[1:] != (width,):
                raise ValueError("its vectors have another shape")
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            logger.warning("%s is not whole (%s): its features are computed again", file, error)
            continue
        known |= zip((key.tobytes() for key in keys), vectors, strict=True)
    return known


def write_vectors(folder: Path, found: dict[bytes, np.ndarray]) -> None:
    """Write one more file of the cache, atomically; processes with the same vectors write the same file."""
    from safetensors.numpy import save

    keys = np.frombuffer(b"".join(found), dtype=np.uint8).reshape(len(found), 32)
    file = folder / f"{hashlib.sha256(keys.tobytes()).hexdigest()[:32]}.safetensors"
    try:
        write_bytes(file, save({"keys": keys, "vectors": np.stack(list(found.values()))}))
    except StorageError as error:  # the next run computes them again
        logger.warning("features can't be cached: %s", error)


def hash_json(content: dict[str, Any]) -> str:
    """A hash of JSON content, 32 hex digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]
