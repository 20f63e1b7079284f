"""The constants of the loss with a teacher."""

from __future__ import annotations

# With a teacher: both answers are softened by the temperature, and the labels keep this share of the loss.
TEMPERATURE, LABEL_SHARE = 2.0, 0.25
