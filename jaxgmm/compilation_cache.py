"""Keep compiled programs in a folder, with JAX's own persistent cache. Only this module changes the configuration of JAX."""

from __future__ import annotations

import os
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from .calls import public


@public
def enable_compilation_cache(path: str | os.PathLike[str] | None = None) -> Path:
    """Keep the programs that JAX compiles from now on in a folder, so that later processes read them instead of compiling.

    The function switches on JAX's persistent compilation cache for all JAX programs of this process. It sets two options of
    JAX. The option jax_compilation_cache_dir becomes the folder. The option jax_persistent_cache_min_compile_time_secs becomes
    0, because most programs of jaxgmm are small. `import jaxgmm` never calls this function, but the `jaxgmm` command does.
    Results do not change. Use a folder that only you can write to, because JAX runs the programs that it finds there.

    Args:
        path: the folder, which is created if it does not exist. If it is None and JAX has a folder already, for example
            from the environment variable JAX_COMPILATION_CACHE_DIR, no option is changed. Otherwise, None stands for the
            subfolder jaxgmm of the user's cache folder, which is $XDG_CACHE_HOME or ~/.cache.

    Returns:
        The folder.

    Raises:
        OSError: the folder cannot be created or written to.

    Example:
        >>> import jaxgmm
        >>> folder = jaxgmm.enable_compilation_cache()  # doctest: +SKIP
    """
    configured = jax.config.values["jax_compilation_cache_dir"]
    if path is None and configured:
        return Path(configured)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxgmm" if path is None else Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"the folder {folder} cannot be written to; give another path to enable_compilation_cache.")
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    # Small programs are stored too. A second run then takes a quarter of the time of the first run. If only large programs are
    # stored, the second run takes half of the time of the first run.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # JAX decides at its first compilation whether there is a cache, and this compilation may already have happened
    compilation_cache.reset_cache()
    return folder
