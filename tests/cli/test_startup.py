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


@pytest.mark.parametrize(
    ("given", "version", "changed"),
    [
        (None, "0.7.2", True),
        (None, "0.10.0.dev1", True),
        (None, "0.11.0", False),
        (None, "1.0", False),
        ("--own", "0.7.2", False),
    ],
)
def test_quick_compilation(monkeypatch, given, version, changed):
    """The flags of the user are kept, and a flag that a newer compiler may not know is left out."""
    flags = given or startup._FEWER_PASSES
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    startup.compile_quickly()
    assert (os.environ["XLA_FLAGS"] != flags) == changed
    assert os.environ["XLA_FLAGS"].startswith(flags)


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
