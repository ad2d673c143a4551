"""Draws from several modes are combined by mass: shares, order, statistics, refusals, and a posterior of known masses."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln

import jaxgmm
from jaxgmm.posterior.combined_modes import combine, sample_modes
from jaxgmm.posterior.result import PosteriorStatus

KEY = jax.random.key(0)
CHAINS, DRAWS = 2, 50


def chains_at(mode, status=PosteriorStatus.OK):
    """Return a posterior of one component whose log densities say from which mode, chain and draw they are."""
    number = 1000.0 * mode + 100.0 * np.arange(CHAINS)[:, None] + np.arange(DRAWS)
    number = number.astype(np.float32)
    shape = (CHAINS, DRAWS, 1)
    mixture = jaxgmm.Mixture(np.ones(shape, np.float32), number[..., None, None], np.ones((*shape, 1, 1), np.float32))
    stats = {
        "diverging": number > 1e9,
        "energy": number,
        "sites": {"a": number},
        "step_size": np.full(CHAINS, 0.1 * mode, np.float32),
        "counts": np.full(1, 10.0 * mode, np.float32),
        "rhat": np.float32(1.0 + 0.1 * mode),
        "ess": np.float32(100.0 + mode),
    }
    return jax.tree.map(jnp.asarray, jaxgmm.Posterior(mixture, number, None, np.array(int(status)), stats, "nuts"))


def test_draws_are_shared_out_by_mass():
    """Each chain holds draws of both modes in proportion; the draws of a mode are spread over its chain, in order."""
    found = combine(KEY, [chains_at(0), chains_at(1, PosteriorStatus.DIVERGENCES)], jnp.array([0.7, 0.3]))
    number = np.asarray(found.log_density)
    mode, place = number // 1000, number % 100
    np.testing.assert_array_equal(found.stats["mode"], mode)
    np.testing.assert_allclose((mode == 0).mean(1), 0.7, atol=1 / DRAWS)
    np.testing.assert_array_equal(number % 1000 // 100, np.arange(CHAINS)[:, None] * np.ones(DRAWS))
    for c in range(CHAINS):
        for m in (0, 1):
            kept = place[c][mode[c] == m]
            assert (np.diff(kept) > 0).all()
            assert kept[0] < 4
            assert kept[-1] >= DRAWS - 4
        assert len(set(np.diff(np.flatnonzero(mode[c] == 1)))) > 1  # at random, not every third
    np.testing.assert_array_equal(found.mixture.means[..., 0, 0], number)
    np.testing.assert_array_equal(found.stats["sites"]["a"], number)
    assert "energy" not in found.stats
    assert found.stats["step_size"].shape == (2, CHAINS)
    assert float(found.stats["rhat"]) == pytest.approx(1.1)
    assert float(found.stats["ess"]) == 100
    assert int(found.status) == PosteriorStatus.DIVERGENCES


def test_modes_without_a_draw_are_not_sampled():
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]]))
    sampled = []

    def sample(key, start):
        sampled.append(start)
        return chains_at(len(sampled))

    found = sample_modes(KEY, sample, starts, [3.0, 1e-9, 1.0], CHAINS * DRAWS)
    assert len(sampled) == 2
    np.testing.assert_allclose((found.stats["mode"] == 0).mean(), 0.75)
    with pytest.raises(ValueError, match=r"one mass for each of 3 starts was expected: \(3,\)"):
        sample_modes(KEY, sample, starts, [1.0], CHAINS * DRAWS)
    with pytest.raises(ValueError, match="positive sum"):
        sample_modes(KEY, sample, starts, [1.0, np.nan, 0.0], CHAINS * DRAWS)


def test_one_start_is_refused():
    """`nuts` hands the masses on."""
    start = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
    with pytest.raises(ValueError, match="a stack"):
        jaxgmm.nuts(KEY, start, [[0.0], [1.0]], None, start_mass=[1.0])


# Three tight groups, of which two share a component: the posterior has one mode with the middle group on the left, and one with
# the middle group on the right. Nearly all of the posterior belongs to these two partitions of the rows, whose probabilities
# have a closed form under a conjugate prior.
SPLITS = (15, 10)  # number of rows on the left
PRIOR = jaxgmm.Prior(*(jnp.asarray(v, jnp.float32) for v in ([2.0, 2.0], [0.0], 0.02, 30.0, [30.0])))


def three_groups():
    """Return ten rows on the left, five in the middle, and ten on the right."""
    rng = np.random.default_rng(3)
    return np.concatenate([rng.normal(at, 0.5, (n, 1)) for at, n in ((-6, 10), (0.36, 5), (6, 10))]).astype(np.float32)


def log_marginal(y):
    """Return the log marginal likelihood of rows in one component: a normal distribution with a normal-inverse-gamma prior."""
    n, kappa, shape, rate = len(y), 0.02, 15.0, 15.0
    after = rate + 0.5 * (n * y.var() + kappa * n / (kappa + n) * y.mean() ** 2)
    value = gammaln(shape + n / 2) - gammaln(shape) + shape * np.log(rate) - (shape + n / 2) * np.log(after)
    return value + 0.5 * np.log(kappa / (kappa + n)) - n / 2 * np.log(2 * np.pi)


def test_masses_of_the_example():
    """The example has two modes, each of which holds a considerable share."""
    mass = exact_masses(three_groups()[:, 0].astype(float))
    assert 0.1 < mass.min() < 0.4
    assert mass.sum() == pytest.approx(1)


def exact_masses(y):
    """Return the probabilities of the two partitions of the rows."""
    found = []
    for n in SPLITS:
        rest = len(y) - n
        found.append(log_marginal(y[:n]) + log_marginal(y[n:]) + gammaln(2 + n) + gammaln(2 + rest))
    found = np.exp(np.array(found) - max(found))
    return found / found.sum()


@pytest.mark.slow
def test_a_posterior_of_known_masses():
    """NUTS at both modes, combined by mass, has the posterior's mean, within 5 errors; `smc` finds the masses."""
    x = three_groups()
    y, mass = x[:, 0].astype(float), exact_masses(x[:, 0].astype(float))
    options = {"num_components": 2, "covariance_type": "diag"}
    fits = [jaxgmm.fit(jaxgmm.from_labels(x, (np.arange(25) >= n).astype(int), **options), x, PRIOR).mixture for n in SPLITS]
    starts = jax.tree.map(lambda *leaves: jnp.stack(leaves), *fits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        posterior = jaxgmm.nuts(KEY, starts, x, PRIOR, start_mass=mass)
    low = np.sort(np.asarray(posterior.mixture.means)[..., 0], -1)[..., 0]
    exact = sum(m * n * y[:n].mean() / (0.02 + n) for m, n in zip(mass, SPLITS, strict=True))
    assert low.mean() == pytest.approx(exact, abs=0.05)
    assert float(posterior.stats["rhat"]) < 1.02
    particles = jaxgmm.smc(KEY, x, PRIOR, num_chains=8, **options)
    found = jaxgmm.modes(particles, x, num_starts=2000)
    assert len(found.mass) >= 2
    np.testing.assert_allclose(found.mass[:2], np.sort(mass)[::-1], atol=5 * float(found.mass_error[0]))
    comparison = jaxgmm.compare(jaxgmm.fit(fits[0], x, PRIOR), posterior, x, modes=found, laplace=False, scores=False)
    assert comparison.samplers["nuts"].r_hat_max < 1.02
