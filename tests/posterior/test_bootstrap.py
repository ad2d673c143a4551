"""bootstrap: the distribution of the weights, published standard errors, labels, jit, priors and warnings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.result import Status
from jaxgmm.padding import as_count
from jaxgmm.posterior.bootstrap import SCHEMES, _dirichlet_weights, _multinomial_counts

from helpers import log_prior, log_prob, slow_unless


@pytest.fixture(scope="module")
def acidity():
    """Return data, and the tied fit with two components."""
    x = jaxgmm.datasets.load("acidity")
    start = jaxgmm.from_labels(x, (x[:, 0] > 5.3).astype(int), num_components=2, covariance_type="tied")
    return x, jaxgmm.fit(start, x)


@pytest.mark.parametrize("scheme", slow_unless(SCHEMES, ("nonparametric",)))
def test_spread_is_the_standard_error(acidity, scheme):
    """Standard deviations of 150 replicates are within 30 % of the standard errors, around the fit, with its labels.

    A standard deviation of 150 numbers has a standard error of 6 % (1 / sqrt(300)): 30 % are 5 sigma, and a number fails
    falsely with probability below 1e-5.
    """
    x, fit = acidity
    draws = jaxgmm.bootstrap(jax.random.key(1), fit.mixture, x, kind=scheme, num_samples=75, num_chains=2, tol=1e-6)
    errors = jaxgmm.standard_errors(fit.mixture, x, kind="observed" if scheme == "parametric" else "sandwich")
    for name in ("weights", "means", "covariances"):
        spread = np.asarray(getattr(draws.mixture, name)).std((0, 1))
        np.testing.assert_allclose(spread, getattr(errors, name), rtol=0.3, err_msg=name)
        assert (abs(np.asarray(getattr(draws.mixture, name)).mean((0, 1)) - getattr(fit.mixture, name)) < 0.6 * spread).all()
    assert draws.log_density.shape == (2, 75)
    assert float(draws.log_density.max()) <= float(fit.log_likelihood) + 1e-3
    assert bool(draws.stats["labels_identified"])
    assert draws.method == "bootstrap"


@pytest.mark.slow
def test_published_errors(acidity, x64):
    """Acidity, tied, K = 2, 999 replicates: 0.0413 (weight), 0.0467 and 0.0672 (means), 0.0238 (variance).

    The published numbers and ours have standard errors of 2.2 % each: 4 sigma of the difference are 13 %.
    """
    x, fit = acidity
    draws = jaxgmm.bootstrap(jax.random.key(2), fit.mixture, x, num_samples=999)
    means = np.sort(np.asarray(draws.mixture.means)[..., 0], -1).std((0, 1))
    found = [np.asarray(draws.mixture.weights)[..., 0].std(), *means, np.asarray(draws.mixture.covariances).std()]
    print(found)
    np.testing.assert_allclose(found, [0.0413, 0.0467, 0.0672, 0.0238], rtol=0.13)


def test_weights_of_replicates():
    """Counts are multinomial, smooth weights are N times Dirichlet; rows of weight 0 get 0.

    With 4000 replicates and bounds at 5 sigma the probability of a false failure of any number is below 1e-5.
    """
    weight = jnp.array([1.0, 0.0, 3.0, 2.0, 4.0, 0.0])
    keys, x = jax.random.split(jax.random.key(0), 4000), jnp.zeros((6, 1))
    counts = np.asarray(_multinomial_counts(keys, x, weight, as_count(10), 16))
    smooth = np.asarray(_dirichlet_weights(keys, x, weight))
    assert (counts == counts.round()).all()
    assert (counts.sum(1) == 10).all()
    assert (counts[:, 1] == 0).all()
    np.testing.assert_allclose(smooth.sum(1), 10, rtol=1e-5)
    share = np.asarray(weight) / 10
    variances = {"counts": 10 * share * (1 - share), "smooth": 100 * share * (1 - share) / 11}
    for name, draws in (("counts", counts), ("smooth", smooth)):
        bound = 5 * np.sqrt(variances[name] / 4000) + 1e-6
        assert (abs(draws.mean(0) - weight) < bound).all(), name
        np.testing.assert_allclose(draws.var(0)[share > 0], variances[name][share > 0], rtol=0.2)


def test_under_jit_and_with_a_prior(acidity):
    """Inside jit the results are the same; the density includes that of the prior; replicates cut short give a warning."""
    x, fit = acidity
    prior = jaxgmm.default_prior(x, num_components=2, covariance_type="tied")
    run = lambda key: jaxgmm.bootstrap(key, fit.mixture, x, prior, num_samples=4, max_iter=2)  # noqa: E731
    with pytest.warns(RuntimeWarning, match="4 of 4 replicates did not converge"):
        eager = run(jax.random.key(3))
    traced = jax.jit(run)(jax.random.key(3))
    np.testing.assert_allclose(traced.mixture.means, eager.mixture.means, rtol=1e-4)
    expected = log_prob(eager.mixture, x).sum(-1) + log_prior(eager.mixture, prior)
    np.testing.assert_allclose(eager.log_density, expected, rtol=1e-5)
    assert (eager.stats["fit_status"] == Status.MAX_ITER).all()


def test_errors(acidity):
    """Errors name the argument."""
    x, fit = acidity
    with pytest.raises(ValueError, match="kind is 'jackknife'"):
        jaxgmm.bootstrap(jax.random.key(0), fit.mixture, x, kind="jackknife")
    with (
        pytest.warns(RuntimeWarning, match="weights count observations"),
        pytest.raises(ValueError, match=r"sums to 0\.155, .*weights count observations"),
    ):
        jaxgmm.bootstrap(jax.random.key(0), fit, x, sample_weight=np.full(len(x), 1e-3))
    with pytest.raises(ValueError, match="num_samples is 0"):
        jaxgmm.bootstrap(jax.random.key(0), fit.mixture, x, num_samples=0)


def test_degenerate_replicates_give_a_warning(acidity):
    """A component of equal points is held up by the regularisation in every replicate: a statistic and a warning say so."""
    x = np.append(acidity[0], np.full((6, 1), 60.0), 0)
    start = jaxgmm.make_mixture([0.95, 0.05], [[5.0], [60.0]], np.ones((2, 1, 1)))
    with pytest.warns(RuntimeWarning, match="5 of 5 replicates have a degenerate component"):
        draws = jaxgmm.bootstrap(jax.random.key(0), start, x, num_samples=5, tol=1e-3)
    assert bool(draws.stats["spike"].all())
