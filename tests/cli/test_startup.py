"""Test the settings of the command's process."""

import gc
import importlib.metadata
import os

import pytest

from jaxgmm.cli import startup


@pytest.mark.parametrize(
    ("plugins", "given", "flags"),
    [([], None, "--xla_backend_optimization_level=1"), ([], "--own", "--own"), (["a GPU's"], None, None)],
)
def test_fewer_compiler_passes_on_a_cpu(monkeypatch, plugins, given, flags):
    """XLA_FLAGS that the user has set are kept."""
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: plugins)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if given:
        monkeypatch.setenv("XLA_FLAGS", given)
    startup.tune_startup()
    assert os.environ.get("XLA_FLAGS") == flags


@pytest.mark.parametrize("error", [None, OSError, RuntimeError])
def test_the_cache_is_used_if_it_can_be_written(monkeypatch, error):
    """A folder that cannot be used is no reason for a command to fail."""
    calls = []

    def enable():
        calls.append("enabled")
        if error:
            raise error

    monkeypatch.setattr(startup, "enable_compilation_cache", enable)
    startup.use_compilation_cache()
    assert calls == ["enabled"]
