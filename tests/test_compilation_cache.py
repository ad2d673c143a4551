"""enable_compilation_cache: programs are kept in the folder, JAX's own folder wins, and errors are reported."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

import jaxgmm

OPTIONS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(autouse=True)
def configuration():
    """No folder is configured at first; the configuration is restored after the test."""
    before = {name: jax.config.values[name] for name in OPTIONS}
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_programs_are_kept_also_after_a_first_compilation(tmp_path):
    """JAX decides at its first compilation whether there is a cache; a later call still takes effect."""
    jax.jit(lambda x: x * 3 + 1)(jnp.ones(7)).block_until_ready()
    folder = jaxgmm.enable_compilation_cache(tmp_path / "programs")
    assert folder == tmp_path / "programs"
    assert not list(folder.iterdir())
    jax.jit(lambda x: x * 5 - 2)(jnp.ones(7)).block_until_ready()
    assert list(folder.iterdir())


def test_the_folder(monkeypatch, tmp_path):
    """By default it lies in the user's cache folder; a folder that JAX has already is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = jaxgmm.enable_compilation_cache()
    assert folder == tmp_path / "cache" / "jaxgmm"
    assert folder.is_dir()
    assert jax.config.values["jax_compilation_cache_dir"] == str(folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert jaxgmm.enable_compilation_cache() == folder
    assert jax.config.values["jax_persistent_cache_min_compile_time_secs"] == 1.0
    assert jaxgmm.enable_compilation_cache(str(tmp_path)) == tmp_path


def test_a_folder_that_cannot_be_used(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        jaxgmm.enable_compilation_cache(tmp_path / "file" / "programs")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(PermissionError, match="cannot be written to; give another path"):
        jaxgmm.enable_compilation_cache(tmp_path / "programs")
    assert jax.config.values["jax_compilation_cache_dir"] is None
