"""Test the settings of the command's process."""

import gc
import importlib.metadata
import os

import pytest

from jaxgmm.cli import startup


@pytest.mark.parametrize(
    ("plugins", "given", "flags"),
    [([], None, startup._compiler_flags("0.10.2")), ([], "--own", "--own"), (["a GPU's"], None, None)],
)
def test_fewer_compiler_passes_on_a_cpu(monkeypatch, plugins, given, flags):
    """XLA_FLAGS that the user has set are kept."""
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: plugins)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if given:
        monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.10.2")
    startup.tune_startup()
    assert os.environ.get("XLA_FLAGS") == flags


@pytest.mark.parametrize(("version", "number"), [("0.7.2", 2), ("0.10.0.dev1", 2), ("0.11.0", 1), ("1.0", 1)])
def test_flags_that_a_newer_compiler_may_not_know_are_left_out(version, number):
    assert len(startup._compiler_flags(version).split()) == number


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
