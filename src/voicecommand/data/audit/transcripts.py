"""Checks of transcripts: more text than the recording has time for, and one recording with two transcripts."""

from __future__ import annotations

from collections import defaultdict

from voicecommand.data.audit.problem import AuditedSplit, Problem, name_rows
from voicecommand.data.text import normalise

# 230 words a minute, which is fast, are about 21 characters a second with their spaces; with more, the transcript is
# likely that of another recording, or the recording was cut. A single short word may be cut tightly.
FAST, GRACE = 25.0, 10


def check_transcripts(split: AuditedSplit) -> list[Problem]:
    """Transcripts with more characters than anyone says in the time of the recording."""
    if split.clips is None or "transcript" not in split.columns:
        return []
    from voicecommand.audio.clips import SAMPLING_RATE

    pairs = zip(split.columns["transcript"], split.columns["length"], strict=True)
    rows = [row for row, (text, length) in enumerate(pairs) if len(text) > GRACE + FAST * length / SAMPLING_RATE]
    if not rows:
        return []
    message = (
        f"{len(rows):,} transcripts in {split.name} have more than {FAST:g} characters for each second of their "
        "recording: is it the right one, and whole?"
    )
    return [Problem("warning", "fast_transcript", message, name_rows(split, rows))]


def find_disagreements(splits: list[AuditedSplit]) -> list[Problem]:
    """Recordings that are there twice, with two transcripts; differences in case and punctuation do not count."""
    seen: dict[str, dict[str, str]] = defaultdict(dict)
    for split in splits:
        if split.in_scope and split.clips is not None:
            for key, text, origin in zip(split.keys, split.columns["transcript"], split.origins, strict=True):
                if key:
                    seen[key].setdefault(normalise(text), origin)
    found = [tuple(texts.values()) for texts in seen.values() if len(texts) > 1]
    if not found:
        return []
    message = f"{len(found):,} recordings have more than one transcript"
    return [Problem("warning", "conflicting_transcripts", message, tuple(" / ".join(origins) for origins in found))]
