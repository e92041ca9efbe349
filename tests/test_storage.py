"""Files are there whole, or not at all."""

import errno

import pytest
import torch

from precis.errors import StorageError
from precis.storage import WorkFolder, key_of, write_atomically


def test_values_come_back(tmp_path):
    work = WorkFolder(tmp_path / "new")
    assert work.read_json("a") is None
    assert work.read_tensors("a") is None
    work.write_json("a", {"ö": [1, 2]})
    work.write_tensors("a", {"x": torch.arange(3)}, {"step": 1})
    assert work.read_json("a") == {"ö": [1, 2]}
    tensors, note = work.read_tensors("a")
    assert tensors["x"].tolist() == [0, 1, 2]
    assert note == {"step": 1}


def test_damaged_files_count_as_missing(tmp_path):
    work = WorkFolder(tmp_path)
    work.write_tensors("a", {"x": torch.arange(300)})
    path = tmp_path / "a.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    (tmp_path / "a.json").write_text('{"x": ')
    assert work.read_tensors("a") is None
    assert work.read_json("a") is None


def test_a_full_disk_is_told_in_words_and_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_is_no_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "a", b"x")


def test_keys_depend_on_every_part():
    assert key_of(1, "a") == key_of(1, "a") != key_of(1, "b")
