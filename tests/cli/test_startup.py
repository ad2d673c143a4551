"""Test the settings of the command's process."""

import gc
import importlib.metadata
import os

import jax
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


@pytest.fixture
def updates(monkeypatch):
    """The changes that would be made to the configuration of JAX."""
    found = {}
    monkeypatch.setattr(jax.config, "update", found.__setitem__)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    return found


def test_the_cache_lies_in_the_users_cache_folder(monkeypatch, tmp_path, updates):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    startup.use_compilation_cache()
    assert updates["jax_compilation_cache_dir"] == str(tmp_path / "cache" / "jaxgmm")
    assert (tmp_path / "cache" / "jaxgmm").is_dir()


def test_no_cache_where_it_cannot_be_written_or_is_set(monkeypatch, tmp_path, updates):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    startup.use_compilation_cache()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    startup.use_compilation_cache()
    assert updates == {}
