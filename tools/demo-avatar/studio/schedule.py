"""How the learning rate of all trainings goes: up at the start, then down as a cosine does."""

import math


def share_of_rate(step, done, rise, floor):
    """The part of the rate at `step`, when `done` (0 to 1) of the run is over: `rise` steps up, and down to `floor`."""
    return min(1, (step + 1) / rise) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
