"""Settings that must be there before torch or a Hugging Face library is imported; the shared fixtures."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import FAMILIES, ROOT, SENTENCES, write_recogniser

# What a recipe imports from its own folder, for those that run in this process; it takes the folder off the path again.
sys.path.append(str(ROOT / "recipes"))
importlib.import_module("environment")

# Its own cache, so that a test cannot pass on what an earlier run left in the user's; removed at exit.
_CACHE = tempfile.TemporaryDirectory(prefix="voicecommand-tests-")

os.environ.update(
    CUDA_VISIBLE_DEVICES="",
    HF_DATASETS_OFFLINE="1",
    HF_HOME=_CACHE.name,
    HF_HUB_OFFLINE="1",
    MPLBACKEND="Agg",
    TOKENIZERS_PARALLELISM="false",
    TRANSFORMERS_VERBOSITY="error",
)
# Many threads on tiny tensors only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _take_own_cores() -> None:
    """Each worker of xdist, with the processes that it starts, computes on its own share of the cores.

    A run takes as many threads as it sees cores. If every worker saw all of them, the threads of one would wait for
    those of another.
    """
    worker, count = os.environ.get("PYTEST_XDIST_WORKER"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    cores = sorted(os.sched_getaffinity(0))
    if worker and len(cores) >= count:
        os.sched_setaffinity(0, cores[int(worker.removeprefix("gw")) % count :: count])


_take_own_cores()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The README's commands first, then the files with the most slow tests: nobody waits for a long file at the end.

    The commands come before the other tests of their file, for a worker near the end of a file is given one more.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    longest = "test_the_commands_run", "test_readme.py"
    items.sort(key=lambda item: (item.name != longest[0], item.path.name != longest[1], -slow[item.path]))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A run in this process sets torch's threads to the cores; the tests after it have tiny tensors."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """What a recipe sets in a process that is about to end is taken back in this one."""
    root, environment, path, argv = logging.getLogger(), dict(os.environ), list(sys.path), sys.argv
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level, sys.path[:], sys.argv = handlers, level, path, argv
    os.environ.clear()
    os.environ.update(environment)
    if "hydra.core.global_hydra" in sys.modules:
        sys.modules["hydra.core.global_hydra"].GlobalHydra.instance().clear()
    if "hydra.core.hydra_config" in sys.modules:
        sys.modules["hydra.core.hydra_config"].HydraConfig.instance().cfg = None


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each family, 2 layers, 32 wide, random weights: {family: directory}."""
    root = tmp_path_factory.mktemp("checkpoints")
    for family in FAMILIES:
        _write_checkpoint(family, root / family)
    return {family: root / family for family in FAMILIES}


@pytest.fixture(scope="session")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of 2 + 2 layers with random weights and its tokenizer, for clips of up to 2 s, of English only."""
    return write_recogniser(tmp_path_factory.mktemp("recogniser") / "whisper.en", [])


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of train, validation and test: tones with transcripts, by speakers of whom each is in one split."""
    import numpy as np

    from voicecommand.audio.clips import write_wav

    root, number = tmp_path_factory.mktemp("recordings"), 0
    for split, speakers, count in (("train", "abc", 18), ("validation", "de", 6), ("test", "fg", 6)):
        (root / split).mkdir()
        rows = ["file_name,transcript,speaker"]
        for row in range(count):
            number += 1
            times = np.arange(int((1.3 + 0.1 * (number % 7)) * 16_000)) / 16_000
            tone = 6000 * np.sin(2 * np.pi * (200 + 40 * number) * times)
            write_wav(root / split / f"{number}.wav", tone.astype(np.int16))
            sentence = SENTENCES[number % (len(SENTENCES) - 1)]
            rows.append(f"{number}.wav,{sentence},{speakers[row % len(speakers)]}")
        (root / split / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for HF_DATASETS_CACHE that xdist's workers share: the 6,400 spoken commands are made once."""
    root = tmp_path_factory.getbasetemp()
    return (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "speech"


@pytest.fixture(scope="session")
def commands_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 distinct commands with three labels, as a file of one's own."""
    path = tmp_path_factory.mktemp("data") / "commands.csv"
    verbs = {"on": "turn on the {}", "off": "please turn the {} off now", "play": "play {}"}
    things = [f"{room} {what}" for room in ("kitchen", "living room", "hall") for what in ("lights", "fan", "music")]
    rows = [
        f"{verb.format(f'{thing} {n}'.strip())},{label}"
        for label, verb in verbs.items()
        for thing in things
        for n in ("", "one", "ten")
    ]
    path.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def _write_checkpoint(family: str, directory: Path) -> None:
    """Made without dropout, so that a forward pass in training gives what it gives in evaluation."""
    import torch
    import transformers as t

    tokenizer = _build_tokenizer(family)
    size = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    wide = {"initializer_range": 0.2}  # so that logits depend on the text as much as those of a trained network
    mlp = {**wide, "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": tokenizer.pad_token_id}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    torch.manual_seed(0)
    model: t.PreTrainedModel
    if family.startswith("bert"):
        model = t.BertForMaskedLM(t.BertConfig(**size, **mlp, **still))
    elif family == "roberta":
        model = t.RobertaForMaskedLM(t.RobertaConfig(**size, **mlp, **still, type_vocab_size=1))
    elif family == "distilbert":
        model = t.DistilBertForMaskedLM(
            t.DistilBertConfig(
                vocab_size=len(tokenizer), dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=64,
                pad_token_id=tokenizer.pad_token_id, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0,
                **wide,
            )
        )  # fmt: skip
    elif family == "modernbert":
        ends = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        model = t.ModernBertForMaskedLM(t.ModernBertConfig(**size, **mlp, **ends))
    else:
        model = t.GPT2LMHeadModel(
            t.GPT2Config(
                vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=0,
                eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **wide,
            )
        )  # fmt: skip
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _build_tokenizer(family: str) -> Any:
    """A stock tokenizer of the family over the words and letters of `SENTENCES`."""
    import tokenizers as tk
    import transformers as t

    if family in ("roberta", "modernbert", "gpt2"):
        first = {"roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "gpt2": ["<|endoftext|>"]}
        special = first.get(family, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
        trained = tk.ByteLevelBPETokenizer()
        trained.train_from_iterator(
            SENTENCES, vocab_size=400, min_frequency=1, special_tokens=special, show_progress=False
        )
        content = json.loads(trained.to_str())["model"]
        if family == "gpt2":
            return t.GPT2Tokenizer(
                vocab=content["vocab"], merges=[tuple(m) for m in content["merges"]], model_max_length=64
            )
        if family == "roberta":
            return t.RobertaTokenizer(
                vocab=content["vocab"], merges=[tuple(m) for m in content["merges"]], model_max_length=62
            )
        trained.post_processor = tk.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        return t.PreTrainedTokenizerFast(
            tokenizer_object=tk.Tokenizer.from_str(trained.to_str()), unk_token="[UNK]", pad_token="[PAD]",
            cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]", model_max_length=64,
            model_input_names=["input_ids", "attention_mask"],
        )  # fmt: skip
    # Not trained: BertWordPieceTokenizer draws among pairs that are as frequent anew in each process.
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    letters = sorted(set("".join(words)))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters, *(f"##{letter}" for letter in letters)]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    cls = t.DistilBertTokenizer if family == "distilbert" else t.BertTokenizer
    return cls(vocab=vocab, do_lower_case=family != "bert_cased", model_max_length=64)
