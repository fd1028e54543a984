"""The fake GPU as a fixture."""

import importlib.util
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("fake_gpu", Path(__file__).with_name("fake_gpu.py"))
module = sys.modules.setdefault("fake_gpu", importlib.util.module_from_spec(spec))
spec.loader.exec_module(module)


@pytest.fixture
def gpu(monkeypatch):
    """`with gpu(watch=("rms_norm",)) as it:` … `it.waits`, `it.dtypes`."""
    return lambda watch=(): module.fake_gpu(monkeypatch, watch)
