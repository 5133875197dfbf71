import os

import pytest

from tgscale.data.files import write_atomically


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
