"""Model files made by somebody who means harm: nothing of theirs runs, opened as a saved model or trained from.

Each attack leaves a sentinel file if its code runs. What transformers ignores may stay ignored, as long as the answers
are those of the folder's own weights; everything else is one line.
"""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import damage
import voicecommand
from voicecommand.errors import InputError
from voicecommand.tasks.audio_classification import AudioClassification, BCResNet, SpeechEmbeddingSvm
from voicecommand.tasks.base import Vocabulary
from voicecommand.tasks.text_classification import EmbeddingSvm, TextClassification
from voicecommand.training import save

LABELS = ("call", "off", "on")
SENTINEL = "ran"


class Harm:
    """Unpickled, it writes the sentinel."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> Any:
        return Path.write_text, (self.sentinel, "x")


def a_pickle(folder: Path) -> bytes:
    return pickle.dumps({"classifier.weight": Harm(folder.parent / SENTINEL)})


def a_torch_file(folder: Path) -> bytes:
    torch.save({"classifier.weight": Harm(folder.parent / SENTINEL)}, folder / "made.pt")
    content = (folder / "made.pt").read_bytes()
    (folder / "made.pt").unlink()
    return content


def some_code(folder: Path) -> str:
    return f"import pathlib\npathlib.Path({str(folder.parent / SENTINEL)!r}).write_text('x')\nclass C: pass\n"


def put(name: str, make: Callable[[Path], bytes], without: str = "") -> Callable[[Path], None]:
    """An attack: a file in the folder, in place of another."""

    def attack(folder: Path) -> None:
        content = make(folder)
        if without:
            (folder / without).unlink(missing_ok=True)
        (folder / name).write_bytes(content)

    return attack


def edit(name: str, **changes: Any) -> Callable[[Path], None]:
    """An attack: settings of a JSON file, with code beside it, and importable."""

    def attack(folder: Path) -> None:
        for module in ("evil", "tokenization_evil", "kernel"):
            (folder / f"{module}.py").write_text(some_code(folder))
        path = folder / name
        content = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(content | changes))

    return attack


def index_of(name: str) -> Callable[[Path], None]:
    """An attack: an index of shards that names a pickle."""

    def attack(folder: Path) -> None:
        (folder / name).write_bytes(a_torch_file(folder))
        weights = {"weight_map": {"classifier.weight": name}, "metadata": {}}
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps(weights))

    return attack


def link(name: str, to: str) -> Callable[[Path], None]:
    """An attack: a link out of the folder in place of a file."""

    def attack(folder: Path) -> None:
        content = (folder / name).read_bytes() if (folder / name).is_file() else b"{}"
        (folder.parent / "elsewhere").write_bytes(content)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(folder.parent / "elsewhere" if to == "elsewhere" else to)

    return attack


def adapter(folder: Path) -> None:
    """An adapter that names a network elsewhere, whose weights are a pickle."""
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    put("pytorch_model.bin", a_torch_file, "model.safetensors")(other)
    (other / "evil.py").write_text(some_code(folder))
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(other), "peft_type": "LORA"})
    )
    (folder / "adapter_model.bin").write_bytes(a_torch_file(folder))


AUTO = ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification", "AutoModelForAudioClassification")
MAP = dict.fromkeys(AUTO, "evil.C")
KERNEL = "kernels-community/flash-attn"
# Name -> the attack, and whether transformers may go on without it.
ATTACKS: dict[str, tuple[Callable[[Path], None], bool]] = {
    "pytorch_model.bin, a bare pickle": (put("pytorch_model.bin", a_pickle, "model.safetensors"), False),
    "pytorch_model.bin of torch": (put("pytorch_model.bin", a_torch_file, "model.safetensors"), False),
    "model.safetensors, a bare pickle": (put("model.safetensors", a_pickle), False),
    "model.safetensors of torch": (put("model.safetensors", a_torch_file), False),
    "a pickle beside the weights": (put("model.pkl", a_pickle), True),
    "training_args.bin": (put("training_args.bin", a_torch_file), True),
    "optimizer.pt": (put("optimizer.pt", a_torch_file), True),
    "tf_model.h5": (put("tf_model.h5", a_pickle, "model.safetensors"), False),
    "flax_model.msgpack": (put("flax_model.msgpack", a_pickle, "model.safetensors"), False),
    "an index of pickles": (index_of("model-00001-of-00001.bin"), False),
    "an index that leaves the folder": (index_of("../out.safetensors"), False),
    "config.json, a pickle": (put("config.json", a_pickle), False),
    "a type of code in config.json": (edit("config.json", model_type="evil", auto_map=MAP), False),
    "auto_map of a known type": (edit("config.json", auto_map=MAP), True),
    "auto_map of a repository": (edit("config.json", auto_map=dict.fromkeys(AUTO, "someone/evil--evil.C")), True),
    "transformers_weights": (edit("config.json", transformers_weights="../other.bin"), False),
    "attn_implementation": (edit("config.json", attn_implementation=KERNEL), False),
    "_attn_implementation": (edit("config.json", _attn_implementation="someone/kernel:run"), False),
    "_attn_implementation_internal": (edit("config.json", _attn_implementation_internal=KERNEL), False),
    "paged attention of a kernel": (edit("config.json", attn_implementation=f"paged|{KERNEL}"), False),
    "attention of flash_attention_2": (edit("config.json", attn_implementation="flash_attention_2"), False),
    "attention by part": (edit("config.json", attn_implementation={"text_config": KERNEL}), False),
    "attention in a part": (edit("config.json", text_config={"attn_implementation": KERNEL}), False),
    "experts_implementation": (edit("config.json", experts_implementation=KERNEL), False),
    "use_kernels": (edit("config.json", use_kernels=True, kernel_config={"x": KERNEL}), True),
    "a quantiser": (edit("config.json", quantization_config={"quant_method": "bitsandbytes"}), False),
    "a quantiser of somebody": (edit("config.json", quantization_config={"quant_method": "evil.C"}), False),
    "a compressed network": (edit("config.json", compression_config={"quant_method": "compressed-tensors"}), False),
    "_name_or_path": (edit("config.json", _name_or_path="../other"), True),
    "another library's network": (edit("config.json", model_type="timm_wrapper", architecture="hf-hub:a/b"), False),
    "a network of networks": (edit("config.json", model_type="encoder-decoder", encoder={}, decoder={}), False),
    "generation_config.json": (edit("generation_config.json", custom_generate="evil.C"), True),
    "processor_config.json": (edit("processor_config.json", auto_map={"AutoProcessor": "evil.C"}), True),
    "an adapter": (adapter, False),
}
OF_A_TOKENIZER: dict[str, tuple[Callable[[Path], None], bool]] = {
    "auto_map of a tokenizer": (
        edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_evil.C", None]}), True,
    ),
    "auto_map of a tokenizer of an odd class": (
        edit("tokenizer_config.json", auto_map={"AutoTokenizer": [None, "evil.C"]}, tokenizer_class="C"), True,
    ),
    "a class of tokenizers that is none": (edit("tokenizer_config.json", tokenizer_class="os.system"), True),
    "a tokenizer file elsewhere": (edit("tokenizer_config.json", tokenizer_file="/dev/zero", vocab_file="/x"), True),
    "a processor class": (edit("tokenizer_config.json", processor_class="evil.C"), True),
    "tokenizer.json, a pickle": (put("tokenizer.json", a_pickle), False),
    "tokenizer.model, a pickle": (put("tokenizer.model", a_pickle, "tokenizer.json"), False),
    "vocab.pkl in place of the vocabulary": (put("vocab.pkl", a_pickle, "tokenizer.json"), False),
}  # fmt: skip
OF_AN_EXTRACTOR: dict[str, tuple[Callable[[Path], None], bool]] = {
    "auto_map of a feature extractor": (
        edit("preprocessor_config.json", auto_map={"AutoFeatureExtractor": "evil.C"}), True,
    ),
    "a class of feature extractors that is none": (
        edit("preprocessor_config.json", feature_extractor_type="os.system"), False,
    ),
    "preprocessor_config.json, a pickle": (put("preprocessor_config.json", a_pickle), False),
}  # fmt: skip
# Only of saved models: a checkpoint to train from may be a folder of links.
LINKS: dict[str, tuple[Callable[[Path], None], bool]] = {
    "weights that are a link": (link("model.safetensors", "elsewhere"), False),
    "config.json, a link": (link("config.json", "elsewhere"), False),
    "a link to a device": (link("vocab.txt", "/dev/zero"), False),
}
TEXT, SPEECH = ATTACKS | OF_A_TOKENIZER, ATTACKS | OF_AN_EXTRACTOR


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder for the model, whose code must not run: not the sentinel, nor a module of it."""
    yield tmp_path / "model"
    assert not list(tmp_path.rglob(SENTINEL))
    assert not {"evil", "tokenization_evil", "kernel"} & set(sys.modules)


def save_network(task: Any, folder: Path) -> None:
    vocabulary = Vocabulary(labels=LABELS)
    processor = task.load_processor(vocabulary)
    save.save(task.load_model(vocabulary, processor), task, processor, vocabulary, folder)


@pytest.fixture(scope="module")
def text_model(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text") / "model"
    save_network(TextClassification(checkpoint=str(checkpoints["bert_uncased"])), folder)
    damage.unseal(folder)  # whoever means harm has made the manifest again
    return folder


@pytest.fixture(scope="module")
def audio_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio") / "model"
    save_network(BCResNet(), folder)
    damage.unseal(folder)
    return folder


def attempt(do: Callable[[], Any], may_go_on: bool) -> None:
    """Nothing but one line, or the model's own answers where the attack may be ignored."""
    try:
        do()
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert may_go_on, "refused"


def test_the_harm_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    pickle.loads(a_pickle(tmp_path / "model"))
    assert (tmp_path / SENTINEL).is_file()
    (tmp_path / SENTINEL).unlink()
    torch.load(tmp_path / "x.pt", weights_only=False) if put("../x.pt", a_torch_file)(tmp_path / "model") else None
    with zipfile.ZipFile(tmp_path / "x.pt") as opened:
        assert any(name.endswith("data.pkl") for name in opened.namelist())
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert (tmp_path / SENTINEL).is_file()


@pytest.mark.parametrize("name", TEXT | LINKS)
def test_nothing_runs_in_opening_a_model_of_text(name: str, text_model: Path, place: Path) -> None:
    attack, may_go_on = (TEXT | LINKS)[name]
    shutil.copytree(text_model, place)
    attack(place)
    attempt(lambda: voicecommand.load(place).predict("turn it on"), may_go_on)


@pytest.mark.parametrize("name", SPEECH | LINKS)
def test_nothing_runs_in_opening_a_model_of_audio(name: str, audio_model: Path, place: Path) -> None:
    attack, may_go_on = (SPEECH | LINKS)[name]
    shutil.copytree(audio_model, place)
    attack(place)
    attempt(lambda: voicecommand.load(place), may_go_on)


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("kind", [TextClassification, EmbeddingSvm])
def test_nothing_runs_in_training_from_a_checkpoint_of_text(
    name: str, kind: Any, checkpoints: dict[str, Path], place: Path
) -> None:
    attack, may_go_on = TEXT[name]
    shutil.copytree(checkpoints["bert_uncased"], place)
    attack(place)
    task, vocabulary = kind(checkpoint=str(place)), Vocabulary(labels=LABELS)
    attempt(lambda: task.load_model(vocabulary, task.load_processor(vocabulary)), may_go_on)


@pytest.fixture(scope="module")
def speech_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers as t

    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    config = t.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, classifier_proj_size=8,
    )  # fmt: skip
    t.Wav2Vec2Model(config).save_pretrained(folder)
    t.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", SPEECH)
@pytest.mark.parametrize("kind", [AudioClassification, SpeechEmbeddingSvm])
def test_nothing_runs_in_training_from_a_checkpoint_of_audio(
    name: str, kind: Any, speech_checkpoint: Path, place: Path
) -> None:
    attack, may_go_on = SPEECH[name]
    shutil.copytree(speech_checkpoint, place)
    attack(place)
    task, vocabulary = kind(checkpoint=str(place)), Vocabulary(labels=LABELS)
    attempt(lambda: task.load_model(vocabulary, task.load_processor(vocabulary)), may_go_on)


def test_a_pytorch_model_bin_of_tensors_only_is_a_checkpoint_of_audio(speech_checkpoint: Path, place: Path) -> None:
    """Several speech encoders of the hub have no other."""
    from safetensors.torch import load_file

    shutil.copytree(speech_checkpoint, place)
    torch.save(load_file(place / "model.safetensors"), place / "pytorch_model.bin")
    (place / "model.safetensors").unlink()
    task, vocabulary = AudioClassification(checkpoint=str(place)), Vocabulary(labels=LABELS)
    task.load_model(vocabulary, task.load_processor(vocabulary))
    put("pytorch_model.bin", a_torch_file)(place)
    with pytest.raises(InputError, match="its weights are a pickle with more than tensors, which could run code; give"):
        task.load_model(vocabulary, task.load_processor(vocabulary))
