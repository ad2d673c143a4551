"""Run NumPyro's NUTS from several starts inside one jitted function.

On a CPU, the chains run one after another. No chain then waits for the longest trajectory of the others, and JAX traces the
sampler in half the time. With 5000 rows, the draws took a third of the time. On an accelerator, all chains advance together,
because one chain has too little parallel work for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from numpyro.infer import MCMC, NUTS
from numpyro.infer.hmc import HMCState

from ..chunking import on_cpu
from ..progress import advance

# Step size at the beginning of the warm-up. Dual averaging soon tries a step size that is ten times as large. With NumPyro's
# default of 1.0, this larger step would move chains that start far from the mode to places from which they do not come back.
_FIRST_STEP_SIZE = 0.3
_FIELDS = ("diverging", "num_steps", "accept_prob", "energy", "potential_energy", "adapt_state.step_size")


class ChainOptions(NamedTuple):
    """Static options of `sample_chains`.

    If adapt is True, the warm-up adapts a dense mass matrix as well as the step size. If mesh is not None, each of its devices
    runs its own chains.
    """

    num_samples: int
    num_chains: int
    num_warmup: int
    adapt: bool
    max_tree_depth: int
    model: Callable[..., object] | None
    mesh: Mesh | None = None


class _NUTS(NUTS):
    """NumPyro's NUTS, which also advances a progress bar.

    Attributes:
        bar: (), the number that identifies the progress bar, or None.
        num_steps: the total number of steps of the bar.
        first_step: (), the number of steps of the bar before the first step of this kernel.
    """

    bar: jax.Array | None = None
    num_steps: int = 0
    first_step: jax.Array | int = 0

    def sample(self, state: HMCState, model_args: tuple, model_kwargs: dict[str, object]) -> HMCState:
        """Do one step of one chain, or of all chains together."""
        advance(self.bar, self.first_step + jnp.ravel(state.i)[0], self.num_steps)
        return super().sample(state, model_args, model_kwargs)


def make_kernel(
    potential: Callable[[jax.Array], jax.Array],
    target_accept_prob: jax.Array | np.ndarray,
    bar: jax.Array | None,
    options: ChainOptions,
    num_chains: int,
) -> _NUTS:
    """Return NumPyro's kernel for a potential, which is a function of the coordinates u = root^-1 (z - mode)."""
    kernel = _NUTS(
        potential_fn=potential,
        step_size=_FIRST_STEP_SIZE,
        adapt_mass_matrix=options.adapt,
        dense_mass=options.adapt,
        target_accept_prob=target_accept_prob,  # pyright: ignore[reportArgumentType]  # an array works too, and can be traced
        max_tree_depth=options.max_tree_depth,
    )
    kernel.bar, kernel.num_steps = bar, num_bar_steps(num_chains, options.num_warmup + options.num_samples)
    return kernel


def run_chains(
    keys: jax.Array, starts: jax.Array, kernel: _NUTS, options: ChainOptions
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Run one chain for each of the keys (C,) and starts (C, P). Return the draws (C, S, P) and NumPyro's fields (C, S)."""
    num_chains, num_steps = len(starts), options.num_warmup + options.num_samples

    def run(key: jax.Array, start: jax.Array, first_step: jax.Array | int, num_chains: int) -> MCMC:
        kernel.first_step = first_step
        sampler = MCMC(
            kernel,
            num_warmup=options.num_warmup,
            num_samples=options.num_samples,
            num_chains=num_chains,
            chain_method="vectorized",
            progress_bar=False,  # NumPyro's bar would compile every call anew
        )
        sampler.run(key, init_params=start, extra_fields=_FIELDS)
        return sampler

    if _run_together() and num_chains > 1:
        sampler = run(keys, starts, 0, num_chains)
        return sampler.get_samples(group_by_chain=True), sampler.get_extra_fields(group_by_chain=True)

    def run_one(inputs: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        sampler = run(*inputs, 1)
        return sampler.get_samples(), sampler.get_extra_fields()

    return jax.lax.map(run_one, (keys, starts, num_steps * jnp.arange(num_chains)))


def num_bar_steps(num_chains: int, num_steps: int) -> int:
    """Return how many steps a progress bar counts if each of the chains does `num_steps` steps."""
    return num_steps if _run_together() else num_chains * num_steps


def _run_together() -> bool:
    """Return whether all chains advance together, as the module docstring explains."""
    return not on_cpu()
