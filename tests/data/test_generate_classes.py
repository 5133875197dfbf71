import numpy as np
import pytest

from tgscale.data.generate import generate_stream
from tgscale.data.generate_classes import HABIT_LENGTH, generate_classes
from tgscale.errors import ConfigError


def test_all_else_is_the_same_with_and_without():
    with_classes, without = generate_stream(2_000, 100, edge_classes=5), generate_stream(2_000, 100)
    for name in ("src", "dst", "time", "edge_features", "label"):
        np.testing.assert_array_equal(getattr(with_classes, name), getattr(without, name))
    assert without.edge_classes is None
    assert with_classes.edge_classes.shape == (2_000, 5)
    np.testing.assert_array_equal(with_classes.edge_classes, generate_stream(2_000, 100, edge_classes=5).edge_classes)
    assert not np.array_equal(
        with_classes.edge_classes, generate_stream(2_000, 100, seed=1, edge_classes=5).edge_classes
    )


def test_topics_and_habits_are_there():
    rng = np.random.default_rng(0)
    src, dst = rng.integers(0, 50, 60_000), rng.integers(50, 90, 60_000)
    marks = generate_classes(src, dst, 90, 20, seed=0)
    assert marks.mean(axis=0).sum() == pytest.approx(3 * 0.8 + 0.9 + 0.02 * 16, abs=0.35)
    of_item = np.stack([marks[dst == item].mean(axis=0) for item in range(50, 90)])
    topics = of_item > 0.5  # what an item's events mostly have; habits spread over all classes
    assert topics.sum(axis=1).mean() == pytest.approx(3, abs=0.7)
    assert of_item[topics].mean() == pytest.approx(0.8, abs=0.03)
    # Of one user's events, those that follow one another share the habit's class, those far apart do not.
    own = marks[src == 7].astype(float)
    near, far = (np.mean((own[:-gap] * own[gap:]).sum(axis=1)) for gap in (1, int(10 * HABIT_LENGTH)))
    assert near > far + 0.4


@pytest.mark.parametrize("classes", [1, -3])
def test_too_few_classes_are_refused(classes):
    with pytest.raises(ConfigError, match="edge_classes is"):
        generate_stream(100, 20, edge_classes=classes)
