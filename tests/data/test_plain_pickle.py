import os
import pickle

import numpy as np
import pytest

from tgscale.data.plain_pickle import load_plain_pickle
from tgscale.errors import DataError


def written(path, value, protocol):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_numbers_containers_and_arrays_come_back(tmp_path, protocol):
    key = (np.int64(3), np.int32(-4), np.float64(0.5))
    value = {
        key: np.arange(5),
        (1, 2, 3): np.arange(6, dtype=">f4").reshape(2, 3).T,
        "text": [1, 2.5, None, True, np.array([], np.int16), (np.arange(3, dtype=np.uint8)[::2],)],
    }
    read = load_plain_pickle(written(tmp_path / "a.pkl", value, protocol))
    assert list(read) == [(3, -4, 0.5), (1, 2, 3), "text"]
    assert all(type(each) in (int, float) for each in next(iter(read)))
    assert np.array_equal(read[3, -4, 0.5], np.arange(5))
    assert np.array_equal(read[1, 2, 3], value[1, 2, 3])
    assert read["text"][:4] == [1, 2.5, None, True]
    assert read["text"][4].dtype == np.int16
    assert read["text"][5][0].tolist() == [0, 2]


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize(
    ("function", "arguments"), [(os.mkdir, ("{}/made",)), (eval, ("1",)), (np.load, ("x",)), (np.dtype, ("O",))]
)
def test_whatever_else_a_pickle_asks_for_is_not_run(tmp_path, protocol, function, arguments):
    arguments = tuple(each.format(tmp_path) for each in arguments)
    value = {(1, 2, 3): Runs(function, *arguments)}
    if function is np.dtype:
        value = np.array([{"a": 1}], object)
    path = written(tmp_path / "b.pkl", value, protocol)
    with pytest.raises(DataError, match=r"b\.pkl"):
        load_plain_pickle(path)
    assert not (tmp_path / "made").exists()


def test_broken_files_are_named(tmp_path):
    path = written(tmp_path / "c.pkl", {(1, 2, 3): np.arange(100)}, 5)
    for cut in (0, 1, 10, 60, len(path.read_bytes()) - 5):
        (tmp_path / "cut.pkl").write_bytes(path.read_bytes()[:cut])
        with pytest.raises(DataError, match=r"cut\.pkl"):
            load_plain_pickle(tmp_path / "cut.pkl")
    with pytest.raises(DataError, match="does not exist"):
        load_plain_pickle(tmp_path / "none.pkl")
