"""What a user's program may do with a loaded model. `make lint` checks the types; it is never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import numpy as np

import voicecommand
from voicecommand.tasks.saved import Answer

model = voicecommand.load("runs/x")
assert_type(model("stop"), Answer)
assert_type(model("stop")["label"], str)
assert_type(model(["stop", "go on"]), list[Answer])
assert_type(model(("stop", "go on"))[1]["top_5"][0]["probability"], float)
assert_type(model(Path("clip.wav"))["accepted"], bool | None)
assert_type(model(np.zeros(16_000, np.int16)), Answer)
assert_type(model.predict([np.zeros(16_000, np.int16)]), list[Answer])
model(3)  # type: ignore[call-overload]
