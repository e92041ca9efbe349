"""What tests of the server share: surroundings for the processes that it starts."""

import os
import sys

import pytest


def surround(patch, folder):
    """Let processes that are started keep to a folder and one thread, and find what this one finds."""
    patch.setenv("PRECIS_CACHE", str(folder / "cache"))
    patch.setenv("OMP_NUM_THREADS", "1")
    patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


@pytest.fixture
def surroundings(tmp_path, monkeypatch):
    surround(monkeypatch, tmp_path)


@pytest.fixture
def library(tmp_path):
    folder = tmp_path / "library"
    folder.mkdir()
    return folder
