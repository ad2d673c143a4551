"""chains: the status of given chains, starts of chains, and R-hat beside other modes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior import chains
from jaxgmm.posterior.diagnostics import split_rhat
from jaxgmm.posterior.gaussian_approximation import approximate_posterior
from jaxgmm.posterior.mixing import Mixing
from jaxgmm.posterior.nuts_chains import ChainOptions
from jaxgmm.posterior.result import PosteriorStatus

from helpers import check_log_density, two_groups

chains_status = jax.jit(chains.chains_status, static_argnums=4)  # whole: step by step it compiles eighty programs


@pytest.fixture(scope="module")
def groups():
    """Return two groups of one feature, a start, a prior, and the approximations at the start and its other labelling."""
    x, start, prior = two_groups(0, 60, 1, "spherical")
    prior = dataclasses.replace(prior, weight_concentration=jnp.ones(2, jnp.float32))
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]) if leaf.ndim else leaf, start)
    problem, found = approximate_posterior(jax.random.key(0), starts, jnp.asarray(x), None, prior)
    main, others = (jax.tree.map(lambda leaf, part=part: leaf[part], found) for part in (0, slice(1, None)))
    return x, prior, chains.Approximations(problem, main, others)


def options(**changes):
    """Return options of a short run of two chains."""
    default = dict(num_samples=50, num_chains=2, num_warmup=50, adapt=False, max_tree_depth=6, model=None)
    return ChainOptions(**default | changes)


def test_status_is_the_most_severe_finding(groups):
    """Divergences, chains that disagree, chains that stand still and NaN each have their status."""
    main = groups[2].main
    good, quiet = jax.random.normal(jax.random.key(0), (4, 400)), np.zeros((4, 400), bool)
    diverging, stuck, broken = quiet.copy(), np.array(good), np.array(good)
    diverging[0, 0], stuck[0], broken[0, 0] = True, 1.0, np.nan

    def status(log_density=good, diverging=quiet, rhat=1.0, ess=400, approximation=main, adapted=False):
        mixing = Mixing(jnp.float32(rhat), jnp.float32(ess))
        return int(chains_status(approximation, log_density, diverging, mixing, adapted))

    assert status() == PosteriorStatus.OK
    assert status(adapted=True) == PosteriorStatus.FULL_WARMUP
    assert status(approximation=main._replace(sound=jnp.array(False))) == PosteriorStatus.POOR_METRIC
    assert status(diverging=diverging) == PosteriorStatus.DIVERGENCES
    assert status(rhat=1.2) == status(rhat=np.nan) == status(ess=79) == PosteriorStatus.UNMIXED
    for adapted in (False, True):
        assert status(ess=399, adapted=adapted) == status(rhat=1.02, adapted=adapted) == PosteriorStatus.FEW_DRAWS
    assert status(ess=399, approximation=main._replace(sound=jnp.array(False))) == PosteriorStatus.POOR_METRIC
    assert status(diverging=~quiet) == status(log_density=stuck) == PosteriorStatus.ALL_DIVERGENT
    assert status(log_density=broken) == PosteriorStatus.NONFINITE
    shifted = good + 100 * jnp.arange(4)[:, None]
    assert float(split_rhat(shifted)) > 2 > float(split_rhat(good))


def test_chains_from_other_modes_are_reported_and_left_out(groups):
    """The draws are those of the first chains; the other labelling has half of the mass, and its chain agrees with them."""
    x, prior, approximations = groups
    found = chains.sample_chains(jax.random.key(1), approximations, prior, jnp.float32(0.8), options=options())
    assert found.mixture.batch_shape == found.stats["diverging"].shape == (2, 50)
    assert found.stats["step_size"].shape == (2,)
    assert found.stats["other_log_density"].shape == (1, 50)
    np.testing.assert_allclose(found.stats["other_share"], 0.5, atol=0.01)
    assert int(found.status) != PosteriorStatus.MULTIMODAL
    check_log_density(found, x, prior)


def test_starts_are_the_over_dispersed_ones_then_the_other_modes(groups):
    """In the approximation's coordinates u, whose origin is its mode."""
    approximations = groups[2]
    _, main, others = approximations
    starts = chains._chain_starts(jax.random.key(0), approximations, options(num_chains=3))
    assert starts.shape == (4, len(main.mode))
    np.testing.assert_allclose(main.mode + main.root @ starts[3], others.mode[0], rtol=1e-4, atol=1e-4)


def test_the_target_is_the_posterior(groups):
    """The described log density is that of jaxgmm.log_prob and jaxgmm.log_prior in data units."""
    x, prior, (problem, main, _) = groups

    @jax.jit
    def described(problem, main):
        target = chains.make_target(problem, main.start, None)
        return target.describe(main.mode[None, None], target.potential(main.mode)[None, None])

    mixture, log_density, further = described(problem, main)
    expected = jaxgmm.log_prob(mixture, x).sum(-1) + jaxgmm.log_prior(mixture, prior)
    np.testing.assert_allclose(log_density, expected, rtol=1e-5)
    assert further == {}
