"""The sentences of a grammar that a network with a CTC head heard: a beam search over its frames.

The prefix beam search of Hannun et al. 2014 (arXiv:1408.2873) without a language model: a beginning of a text has one
probability for the frames that end in its last character and one for those that end in a blank, so that all ways to
write it count. A beginning is only followed where a sentence of the grammar goes on.
"""

from __future__ import annotations

import math

from torch import Tensor

from voicecommand.models.confined import TokenAutomaton, Tokens

NEVER = -math.inf


def search_frames(log_probs: Tensor, tokens: TokenAutomaton, blank: int, beams: int) -> list[tuple[Tokens, float]]:
    """The most likely sentences of one clip, best first, each with its log-likelihood over the ways that were followed.

    Args:
        log_probs: float32 `[frames, characters]`, those of the clip only.
        tokens: the grammar by the numbers of characters.
        blank: the number of the blank.
        beams: how many beginnings are followed, and how many sentences are returned at most.
    """
    # text -> state of the grammar, log-probability of ending in a blank, and in the last character
    open_: dict[Tokens, tuple[int, float, float]] = {(): (tokens.start, 0.0, NEVER)}
    for frame in log_probs.float().cpu().tolist():
        after: dict[Tokens, list[float]] = {}
        states: dict[Tokens, int] = {}
        for text, (state, in_blank, in_last) in open_.items():
            both = _add(in_blank, in_last)
            same = after.setdefault(text, [NEVER, NEVER])
            states[text] = state
            same[0] = _add(same[0], both + frame[blank])
            if text:
                same[1] = _add(same[1], in_last + frame[text[-1]])
            for token, reached in tokens.arcs(state).items():
                # a character that is there twice in a row needs a blank between
                before = in_blank if text and token == text[-1] else both
                longer = (*text, token)
                states[longer] = reached
                found = after.setdefault(longer, [NEVER, NEVER])
                found[1] = _add(found[1], before + frame[token])
        best = sorted(after, key=lambda text: (-_add(*after[text]), text))[:beams]
        open_ = {text: (states[text], after[text][0], after[text][1]) for text in best if _add(*after[text]) > NEVER}
    finished = [
        (text, _add(in_blank, in_last)) for text, (state, in_blank, in_last) in open_.items() if tokens.is_final(state)
    ]
    return sorted(finished, key=lambda found: -found[1])


def _add(first: float, second: float) -> float:
    """log(exp(first) + exp(second))."""
    high, low = max(first, second), min(first, second)
    return high if low == NEVER else high + math.log1p(math.exp(low - high))
