"""Settings that must be there before torch or a Hugging Face library is imported; the shared fixtures."""

from __future__ import annotations

import os
import tempfile

# Its own cache, so that a test cannot pass on what an earlier run left in the user's; removed at exit.
_CACHE = tempfile.TemporaryDirectory(prefix="voicecommand-tests-")

os.environ.update(
    CUDA_VISIBLE_DEVICES="",
    HF_DATASETS_OFFLINE="1",
    HF_HOME=_CACHE.name,
    HF_HUB_OFFLINE="1",
    MPLBACKEND="Agg",
    TOKENIZERS_PARALLELISM="false",
)
# Many threads on tiny tensors only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))

# Fixtures for tiny checkpoints go below this line.
