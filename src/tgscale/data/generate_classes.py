"""Classes for a generated stream: any number of them per event, of which most can be known beforehand."""

from __future__ import annotations

import numpy as np

from tgscale.errors import ConfigError

TOPICS = 3.0  # mean number of an item's topics
TOPIC_SHARE, HABIT_SHARE, NOISE_SHARE = 0.8, 0.9, 0.02
HABIT_LENGTH = 30.0  # mean events of a user before the habit changes
MOST_MARKS = 1 << 24  # drawn at once


def generate_classes(src: np.ndarray, dst: np.ndarray, nodes: int, classes: int, seed: int) -> np.ndarray:
    """Classes of events: those of the item, the user's present habit, and noise.

    * **Topics**: every class is a topic of an item with chance ``3 / classes``. An event has each of its item's topics
      with probability 0.8.
    * **Habit**: every user has one class that all of the user's events have with probability 0.9; it changes after 30
      events on average.
    * **Noise**: any other class, with probability 0.02.

    Who knows topics and habits and expects just these finds ``2 * 3.3 / (2 * 3.3 + 0.7 + 0.02 * (classes - 4))`` as
    F1-micro, about, if a habit is none of the topics: 0.866 for 20 classes. No model can do better.

    Args:
        src, dst: users and items of the events in time order, ``[E]``.
        nodes: number of nodes.
        classes: number of classes L; 2 or more.
        seed: of everything.

    Returns:
        ``[E, L]``, uint8.

    Raises:
        ConfigError: fewer than two classes.
    """
    if classes < 2:
        raise ConfigError(f"edge_classes is {classes}: give 2 or more, or 0 for none.")
    rng = np.random.default_rng([seed, classes])
    topic = rng.random((nodes, classes)) < TOPICS / classes
    habit = _habits(rng, src, classes)
    marks = np.empty((len(src), classes), np.uint8)
    step = max(1, MOST_MARKS // classes)
    for first in range(0, len(src), step):
        some = slice(first, first + step)
        chance = np.where(topic[dst[some]], TOPIC_SHARE, NOISE_SHARE)
        chance[np.arange(len(chance)), habit[some]] = HABIT_SHARE
        marks[some] = rng.random(chance.shape) < chance
    return marks


def _habits(rng: np.random.Generator, src: np.ndarray, classes: int) -> np.ndarray:
    """The habit of each event's user, ``[E]``."""
    drawn, changes = rng.integers(0, classes, len(src)), rng.random(len(src)) * HABIT_LENGTH < 1
    order = np.argsort(src, kind="stable")
    begins = changes[order] | np.diff(src[order], prepend=-1).astype(bool)
    since = np.maximum.accumulate(np.where(begins, np.arange(len(src)), 0))
    habit = np.empty(len(src), np.int64)
    habit[order] = drawn[order][since]
    return habit
