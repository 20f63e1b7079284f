"""Pretrained checkpoints: where they are, how they are loaded, and their name in saved files."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from voicecommand.data.sources.hub import CACHE, is_within_reach
from voicecommand.errors import InputError
from voicecommand.files import read_json
from voicecommand.run import exits

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

# Settings of config.json that a checkpoint can't have.
REFUSED = {
    "quantization_config": "is set, and quantised networks can't be trained or opened; give the one it was made from",
    "compression_config": "is set, and compressed networks can't be trained or opened; give the one it was made from",
    "transformers_weights": "names another file of weights; remove it",
}
# The endings of files that a network, tokenizer or feature extractor is read from, and files with one that are not.
DECIDING = (".safetensors", ".bin", ".json", ".txt", ".model", ".jinja", ".tiktoken")
NOT_DECIDING = (
    "voicecommand.json", "manifest.json", "generation_config.json", "trainer_state.json", "training_args.bin",
)  # fmt: skip
ATTENTION = ("eager", "sdpa")
FLOATS = ("F64", "F32", "F16", "BF16")
# Tensors of a body that checkpoints may lack: the layer over the first token's vector, of which only a head makes use,
# and the vector of masked frames, which only pretraining and SpecAugment use.
OPTIONAL = re.compile(r"(^|\.)(pooler\.|masked_spec_embed$)")


def resolve_checkpoint(checkpoint: str) -> str:
    """The place of the weights: a hub id or a directory as given, or the directory of `package://NAME/PATH`.

    The package is searched for, but never imported.

    Raises:
        InputError: there is no such directory, or the package is not installed.
    """
    if not checkpoint.startswith("package://"):
        if checkpoint.startswith((".", "/", "~")) and not Path(checkpoint).expanduser().is_dir():
            raise InputError(f"model.checkpoint={checkpoint}: no such directory")
        return str(Path(checkpoint).expanduser()) if checkpoint.startswith("~") else checkpoint
    name, _, inner = checkpoint.removeprefix("package://").partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"model.checkpoint={checkpoint}: the package {name!r} is not installed; run make setup")
    root = Path(spec.submodule_search_locations[0]).resolve()
    directory = (root / inner).resolve()
    if not directory.is_dir() or not directory.is_relative_to(root):
        raise InputError(f"model.checkpoint={checkpoint}: the package {name!r} has no directory {inner!r}")
    return str(directory)


def load_pretrained(loader: Any, checkpoint: str, revision: str | None, instead: str, **kwargs: Any) -> Any:
    """`loader.from_pretrained` without remote code, and with an error of one line.

    Args:
        instead: the advice in that line for when the hub is out of reach.

    Raises:
        InputError: there is no such checkpoint, revision or file, or it would run code or read other files; or the hub
            is out of reach, and its cache lacks it.
    """
    where = resolve_checkpoint(checkpoint)
    is_local = not where or Path(where).is_dir()
    at = f"model.checkpoint={checkpoint}" + (f" at revision {revision}" if revision else "")
    within_reach = is_local or _find_on_hub(where, revision, at)
    if not within_reach:
        kwargs["local_files_only"] = True
    try:
        _check_before(where, revision, local_files_only=not within_reach)
        return loader.from_pretrained(where, revision=revision, trust_remote_code=False, **kwargs)
    except Exception as error:  # the files may hold anything
        if exits.is_storage_error(error):
            raise
        reason = describe_refusal(error) or " ".join(str(error).split())[:200]
        if within_reach:
            raise InputError(f"{at}: not a usable checkpoint: {reason}") from error
        lacking = "the hub cannot be reached, and the checkpoint is not in the cache"
        raise InputError(f"{at}: {lacking}; {CACHE}, or {instead}") from error


def hash_checkpoint(checkpoint: str, revision: str | None) -> dict[str, str]:
    """File -> hash of each file of a checkpoint that can decide a weight, in its directory or in the hub's cache; {} if
    it is in neither."""
    where = Path(resolve_checkpoint(checkpoint))
    if not where.is_dir():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(checkpoint, "config.json", revision=revision)
        if not isinstance(cached, str):
            return {}
        where = Path(cached).parent
    found = {}
    for path in sorted(where.iterdir()):
        if path.is_file() and path.suffix in DECIDING and path.name not in NOT_DECIDING:
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return found


@functools.cache
def _find_on_hub(name: str, revision: str | None, at: str) -> bool:
    """Whether the hub is within reach: asked once in a process.

    Raises:
        InputError: it has no such checkpoint or revision.
    """
    from huggingface_hub import errors

    try:
        return is_within_reach(name, revision, "model")
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{at}: the hub has no such revision (model.revision)") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise InputError(
            f"{at}: the hub has no such checkpoint, or it is private or gated (HF_TOKEN); a directory is given as ./DIR"
        ) from error


def load_network(
    loader: Any, checkpoint: str, revision: str | None, instead: str, body: str = "", **kwargs: Any
) -> PreTrainedModel:
    """As `load_pretrained`, for a network: all of its body comes from the checkpoint. A head that the checkpoint lacks,
    or has for other labels, is a new one of random weights.

    Args:
        loader: a class of transformers that opens networks.
        body: the attribute of the network that holds all but its head; empty takes its `base_model_prefix`.

    Raises:
        InputError: as `load_pretrained`, or tensors are missing, of another shape, NaN or infinite.
    """
    settings = {"output_loading_info": True, "ignore_mismatched_sizes": True} | kwargs
    model, found = load_pretrained(loader, checkpoint, revision, instead, **settings)
    body = body or model.base_model_prefix
    prefix = f"{body}." if hasattr(model, body) else ""  # a network without a head is all body
    mismatched = {entry[0] for entry in found["mismatched_keys"]}
    lost = {name for name in {*found["missing_keys"], *mismatched} if name.startswith(prefix)}
    lost = {name for name in lost if not OPTIONAL.search(name)}
    try:
        _refuse_tensors("missing or of another shape", lost)
        _check_finite(model)
    except ValueError as error:
        raise InputError(f"model.checkpoint={checkpoint}: not a usable checkpoint: {error}") from error
    return cast("PreTrainedModel", model)


def _check_before(where: str, revision: str | None, local_files_only: bool) -> None:
    """Refuse what transformers would follow to other files or to code: see `_check_config`."""
    from transformers import PretrainedConfig

    if where and Path(where).is_dir():
        _check_files(Path(where))
    try:
        content, _ = PretrainedConfig.get_config_dict(where, revision=revision, local_files_only=local_files_only)
    except OSError:  # the loader says it better
        return
    _check_config(content)


def _check_files(directory: Path) -> None:
    """Refuse an adapter in place of a network, for transformers would open the network that it names, wherever that is;
    and an index of weights that names other files than safetensors of the folder."""
    if (directory / "adapter_config.json").exists():
        raise ValueError("has an adapter_config.json, so it is an adapter of another network; merge them and save that")
    index = directory / "model.safetensors.index.json"
    for name in set(read_json(index)["weight_map"].values()) if index.exists() else ():
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{index.name}: {name!r} is no safetensors file of the folder")


def describe_refusal(error: Exception) -> str:
    """What transformers refused to run, without its advice on how to run it after all; empty for another error."""
    if isinstance(error, pickle.UnpicklingError):
        return "its weights are a pickle with more than tensors, which could run code; give one of safetensors"
    if "custom code" in str(error):
        return "its type is unknown to transformers and needs code of its own, which is never run"
    return ""


def _check_config(content: object) -> None:
    """Refuse the settings of config.json, at any depth, that make transformers import or download code, or read other
    files than those of the checkpoint."""
    if isinstance(content, list):
        for value in content:
            _check_config(value)
    if not isinstance(content, dict):
        return
    for name, value in content.items():
        if name in REFUSED and value:
            raise ValueError(f"config.json: {name} {REFUSED[name]}")
        if str(name).strip("_").startswith(("attn_implementation", "experts_implementation")):
            named = value.values() if isinstance(value, dict) else [value]
            if not all(one is None or one in ATTENTION for one in named):
                raise ValueError(f"config.json: {name} names code of elsewhere; remove it, or give eager or sdpa")
        _check_config(value)


def check_links(directory: Path) -> None:
    """Check that all files of a folder are its own: regular files, no links out of it but those of the hub's cache.

    Raises:
        InputError: one is not.
    """
    top = directory.resolve()
    # of the hub's cache, where files are links: blobs beside snapshots/COMMIT, which is a model folder or a whole run
    blobs = next((parent.with_name("blobs") for parent in top.parents if parent.name == "snapshots"), None)
    for path in directory.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            continue
        target = path.resolve()
        if not (target.is_relative_to(top) or target.parent == blobs):
            raise InputError(f"{path}: is a link out of its folder; copy the file itself there")
        if not path.is_file() and not path.is_dir():
            raise InputError(f"{path}: is not a file; remove it")


def open_saved(loader: Any, directory: Path, **kwargs: Any) -> Any:
    """`loader.from_pretrained` of what we saved: without remote code, and without a bar for each loading of weights.

    Raises:
        OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError: files are missing or damaged; or they
            would make transformers run code or read other files.
    """
    from transformers.utils import logging

    _check_files(directory)
    _check_config(read_json(directory / "config.json"))
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return loader.from_pretrained(str(directory), trust_remote_code=False, local_files_only=True, **kwargs)
    finally:
        if shown:
            logging.enable_progress_bar()


def open_network(loader: Any, directory: Path) -> PreTrainedModel:
    """A network that we saved, in float32: every tensor comes from its safetensors, and none is left over.

    Raises:
        As `open_saved`; ValueError: tensors are missing or unexpected, of another shape or type, NaN or infinite.
    """
    import torch

    settings = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    settings["ignore_mismatched_sizes"] = True  # they are refused below, by name
    model, found = open_saved(loader, directory, **settings)
    _refuse_tensors("missing", found["missing_keys"])
    _refuse_tensors("unexpected", found["unexpected_keys"])
    _refuse_tensors("of another shape", {entry[0] for entry in found["mismatched_keys"]})
    _check_types(directory, model)
    _check_finite(model)
    return cast("PreTrainedModel", model)


def open_processor(loader: Any, directory: Path) -> Any:
    """A tokenizer or feature extractor that we saved.

    Raises:
        As `open_saved`; ValueError: a tokenizer lacks its files, in place of which transformers would make one.
    """
    processor = open_saved(loader, directory)
    tokenizer = getattr(processor, "tokenizer", processor)
    vocabulary = getattr(tokenizer, "vocab_files_names", None)
    if vocabulary is not None:
        files = {"tokenizer.json", *vocabulary.values()}
        for names in ({"tokenizer_config.json"}, files):
            if not any((directory / name).is_file() for name in names):
                raise ValueError(f"the tokenizer is not whole: {' or '.join(sorted(names))} is missing")
        if not has_vocabulary(tokenizer):
            raise ValueError("the tokenizer is not whole: it has no vocabulary")
    return processor


def has_vocabulary(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer has tokens of text: transformers makes one without if its files are missing."""
    return len(tokenizer) > len(tokenizer.all_special_tokens)


def _refuse_tensors(problem: str, names: Iterable[str]) -> None:
    if names := sorted(names):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise ValueError(f"the weights are not whole: {names[0]}{more} {problem}")


def _check_types(directory: Path, model: PreTrainedModel) -> None:
    """Refuse tensors of another type in the file than the network computes with: they would be converted."""
    from safetensors import safe_open

    state = model.state_dict()
    for path in directory.glob("*.safetensors"):
        with safe_open(path, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (no mapping)
                kind = tensors.get_slice(name).get_dtype()
                if name in state and (kind in FLOATS) != state[name].is_floating_point():
                    raise ValueError(f"{path.name}: {name} is of type {kind}")


def _check_finite(model: PreTrainedModel) -> None:
    """Refuse weights that are NaN or infinite."""
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        low, high = tensor.aminmax()  # both are NaN if any value is, and this takes no memory
        if not (low.isfinite() and high.isfinite()):
            raise ValueError(f"the weights are damaged: {name} is NaN or infinite")


def public_name(checkpoint: str) -> str:
    """The name of a checkpoint in saved files: a hub id, or "" for a package or a directory of this machine."""
    return "" if checkpoint.startswith("package://") or Path(checkpoint).expanduser().is_dir() else checkpoint
