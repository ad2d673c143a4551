"""Test how chains of NumPyro's NUTS run: one after another, or together."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.posterior import nuts_chains


def test_chains_advance_together_or_one_after_another(monkeypatch):
    """The draws and NumPyro's fields agree, and the progress bar counts the steps of all chains if they take turns."""
    starts = jnp.array([[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]])
    options = nuts_chains.ChainOptions(num_samples=5, num_chains=3, num_warmup=2, adapt=False, max_tree_depth=6, model=None)

    def run(together):
        monkeypatch.setattr(nuts_chains, "_run_together", lambda: together)
        kernel = nuts_chains.make_kernel(lambda u: u @ u / 2, jnp.array(0.8), None, options, len(starts))
        keys = jax.random.split(jax.random.key(0), len(starts))
        return jax.jit(lambda keys: nuts_chains.run_chains(keys, starts, kernel, options))(keys), kernel.num_steps

    (draws, fields), num_steps = run(together=False)
    (draws_together, fields_together), num_steps_together = run(together=True)
    assert (num_steps, num_steps_together) == (21, 7)
    assert draws.shape == (3, 5, 2)
    assert np.ptp(np.asarray(draws), axis=1).min() > 0
    np.testing.assert_allclose(draws, draws_together, rtol=1e-4, atol=1e-5)
    for name, field in fields.items():
        assert field.shape == (3, 5)
        np.testing.assert_allclose(field, fields_together[name], rtol=1e-4, atol=1e-5, err_msg=name)
