"""The stages of a compile, by the names that everything which shows them uses."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """What a compile is doing, in the order in which it does it."""

    ASKING = "asking"
    TEACHING = "teaching"
    SCORING = "scoring"
    FITTING = "fitting"
    TRAINING = "training"
    CALIBRATING = "calibrating"


# What the time of a whole compile goes to, where nothing limits it: measured on documents of a few pages.
SHARES = {
    Stage.ASKING: 0.36,
    Stage.TEACHING: 0.22,
    Stage.SCORING: 0.05,
    Stage.FITTING: 0.03,
    Stage.TRAINING: 0.3,
    Stage.CALIBRATING: 0.04,
}
# Of the time that --minutes gives, the share that is left for calibrating confidence after training.
CALIBRATING = 0.05
# Of the rest: by when these stages must end.
ENDS = {Stage.ASKING: 0.3, Stage.TEACHING: 0.5, Stage.SCORING: 0.65, Stage.CALIBRATING: 1 / (1 - CALIBRATING)}
