import os

import numpy as np
import pytest

from tgscale.data.files import expect_random_reads, release_pages, scanning, write_atomically


def test_writes_and_replaces(tmp_path):
    file = tmp_path / "a.json"
    write_atomically(file, "one\n")
    write_atomically(file, "zwölf\n")
    assert file.read_text(encoding="utf-8") == "zwölf\n"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    write_atomically(file, "old")

    def no_room(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        write_atomically(file, "new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_pages_that_are_let_go_keep_their_content(tmp_path, mode):
    np.save(tmp_path / "column.npy", np.arange(100_000))
    column = np.load(tmp_path / "column.npy", mmap_mode=mode)
    expected = np.arange(100_000)
    if mode != "r":
        column[5000] = expected[5000] = -1
    expect_random_reads(column, np.arange(3))
    release_pages(column, column[10:20], np.arange(3))
    with scanning(column, np.arange(3)):
        np.testing.assert_array_equal(column, expected)
    np.testing.assert_array_equal(column, expected)
