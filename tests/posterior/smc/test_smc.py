"""smc: evidence and draws against exact sums over labels, status, weights, jit and vmap, invalid input.

Statistical checks compare with exact values at 5 standard errors, each of which fails by chance with probability 6e-7.
"""

import dataclasses
import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_evidence import exact_log_evidence
from scipy.special import gammaln

import jaxgmm
from jaxgmm.posterior.result import PosteriorStatus

from helpers import COVARIANCE_TYPES, check_log_density, independent_prior

# calls with one of these, one feature and at most 16 rows share a program if all have weights, or none
RUN = dict(num_samples=1000, num_chains=8)
SHORT = dict(num_components=2, num_samples=100, num_chains=2)


def overlapping(num_features):
    """Return ten rows of two overlapping groups."""
    rng = np.random.default_rng(3)
    return (rng.normal(size=(10, num_features)) + 2.0 * (np.arange(10) < 4)[:, None]).astype(np.float32)


def small_prior(num_features, covariance_type, concentration=(1.5, 1.5)):
    """Return a proper conjugate prior for two components."""
    d = num_features
    scale = 2.0 * np.eye(d) if covariance_type in ("full", "tied") else 2.0 * np.ones(d if covariance_type == "diag" else ())
    values = (concentration, [0.5] * d, 0.5, d + 3.0, scale)
    return jaxgmm.Prior(*(jnp.asarray(value, jnp.float32) for value in values))


def evidence_of(posterior):
    """Return the estimate of log p(x) from all runs, and its error."""
    runs = np.array(posterior.stats["log_evidence"], float)
    return np.logaddexp.reduce(runs) - np.log(len(runs)), float(posterior.stats["log_evidence_error"])


@pytest.mark.slow
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("tempering", ["data", "likelihood"])
def test_evidence_is_the_sum_over_all_allocations(tempering, covariance_type):
    """The estimate is within 5 of its stated errors of the exact value; the tests below are small twins with one feature."""
    x, prior = overlapping(2), small_prior(2, covariance_type)
    options = {"covariance_type": covariance_type, "tempering": tempering}
    posterior = jaxgmm.smc(jax.random.key(0), x, prior, num_components=2, **options, **RUN)
    estimate, error = evidence_of(posterior)
    exact = exact_log_evidence(x, prior, covariance_type)
    print(covariance_type, tempering, exact, estimate, error)
    assert error < 0.1
    assert abs(estimate - exact) < 5 * error
    check_log_density(posterior, x, prior)
    assert int(posterior.status) == PosteriorStatus.OK


def half_normal_log_evidence(x, prior, weight):
    """Return log p(x) of one or two components in one dimension, by quadrature over each standard deviation.

    The sum is over all allocations of the points (N,), and the weights are exponents; with two components they must be 1.
    """
    c, m, v, sd = (
        np.asarray(value, float) for value in (prior.weight_concentration, prior.mean[0], prior.mean_covariance, prior.scale.sd)
    )
    nodes, areas = np.polynomial.legendre.leggauss(200)
    sigma = 6 * sd * (nodes + 1) / 2
    density = 6 * sd / 2 * areas * np.sqrt(2 / np.pi) / sd * np.exp(-0.5 * (sigma / sd) ** 2)

    def log_marginal(x, w):  # of the points of one component
        n = w.sum()
        mean = w @ x / n if n else 0.0
        inside = -n / 2 * np.log(2 * np.pi * sigma**2) - (w @ (x - mean) ** 2) / (2 * sigma**2)
        total = v[0, 0] + sigma**2 / n if n else 1.0
        between = 0.5 * np.log(sigma**2 / n / total) - (mean - m) ** 2 / (2 * total) if n else 0.0
        return np.log(density @ np.exp(inside + between))

    terms = []
    for labels in itertools.product(range(len(c)), repeat=len(x)):
        mine = [np.array(labels) == k for k in range(len(c))]
        counts = np.array([weight[one].sum() for one in mine])
        allocation = gammaln(c.sum()) - gammaln(c.sum() + counts.sum()) + (gammaln(c + counts) - gammaln(c)).sum()
        terms.append(allocation + sum(log_marginal(x[one], weight[one]) for one in mine))
    return np.logaddexp.reduce(terms)


@pytest.mark.parametrize("num_present", [2, 1])
def test_likelihood_tempering_of_a_prior_without_closed_forms(num_present):
    """The evidence is that of quadrature, with two components, and with one component and fractional weights."""
    x = overlapping(1)[2:8]
    array = lambda value: jnp.asarray(value, jnp.float32)  # noqa: E731
    prior = jaxgmm.IndependentPrior(
        array([1.5, 0.8]), array([0.5]), array([[4.0]]), jaxgmm.HalfNormal(array([1.5]), array(1.0))
    )
    weight = np.float32([1, 1, 1, 1, 1, 1] if num_present == 2 else [0.5, 1, 2.25, 0, 1.5, 1])
    present = np.arange(2) < num_present
    posterior = jaxgmm.smc(jax.random.key(7), x, prior, num_components=2, sample_weight=weight, present=present, **RUN)
    estimate, error = evidence_of(posterior)
    known = dataclasses.replace(prior, weight_concentration=prior.weight_concentration[:num_present])
    exact = half_normal_log_evidence(x[:, 0].astype(float), known, weight.astype(float))
    print(num_present, exact, estimate, error)
    assert error < 0.1
    assert abs(estimate - exact) < 5 * error
    check_log_density(posterior, x, prior, weight)
    assert (posterior.mixture.weights[..., ~present] == 0).all()
    assert int(posterior.status) == PosteriorStatus.OK


OUTLIER = np.float32([[-1.2], [0.3], [0.1], [0.9], [-0.4], [60.0], [0.7]])


def narrow_prior(concentration=(1.5, 1.5)):
    """Return a prior under which the outlier's density varies by many nats from particle to particle."""
    values = (concentration, [0.0], 0.05, 4.0, [[2.0]])
    return jaxgmm.Prior(*(jnp.asarray(value, jnp.float32) for value in values))


@pytest.mark.parametrize("concentration", [(1.5, 1.5), pytest.param((0.3, 4.0), marks=pytest.mark.slow)])
def test_rows_that_enter_by_a_power_leave_the_evidence_exact(concentration):
    """An outlier takes the effective size below one half, so that it enters in several stages."""
    prior = narrow_prior(concentration)
    posterior = jaxgmm.smc(jax.random.key(1), OUTLIER, prior, num_components=2, sample_weight=np.ones(len(OUTLIER)), **RUN)
    estimate, error = evidence_of(posterior)
    exact = exact_log_evidence(OUTLIER, prior, "full")
    print(exact, estimate, error, posterior.stats["num_stages"])
    assert error < 0.15
    assert abs(estimate - exact) < 5 * error


def test_weights_repeat_rows_and_zero_silences():
    """Weights 2, 1, 0, ... give the evidence of the repeated rows, whatever the silenced row holds."""
    x, prior = overlapping(1)[:7], small_prior(1, "full")
    weight = np.float32([2, 1, 1, 0, 1, 2, 1])
    repeated = np.repeat(x, weight.astype(int), 0)
    x[3] = np.nan
    posterior = jaxgmm.smc(jax.random.key(2), x, prior, num_components=2, sample_weight=weight, **RUN)
    estimate, error = evidence_of(posterior)
    assert error < 0.1
    assert abs(estimate - exact_log_evidence(repeated, prior, "full")) < 5 * error
    check_log_density(posterior, x, prior, weight)


@pytest.fixture(scope="module")
def batch():
    """Data sets (64, 10, 1) that were drawn from the prior, the true mixtures, and posteriors from one call.

    Three data sets that were not drawn from the prior come first: one, the same moved by 3, and one of NaN.
    """
    prior, rng, num = small_prior(1, "full"), np.random.default_rng(0), 64
    variances = 1 / rng.gamma(2.0, 1.0, (num, 2))
    means = 0.5 + rng.normal(size=(num, 2)) * np.sqrt(variances / 0.5)
    weights = rng.dirichlet([1.5, 1.5], num)
    first = rng.random((num, 10)) < weights[:, :1]
    x = np.where(first, means[:, :1], means[:, 1:]) + rng.normal(size=(num, 10)) * np.sqrt(
        np.where(first, variances[:, :1], variances[:, 1:])
    )
    known = overlapping(1)
    xs = jnp.asarray(np.concatenate([[known, known + 3, np.full(known.shape, np.nan)], x[..., None]]), jnp.float32)
    keys = jax.random.split(jax.random.key(3), len(xs))
    posteriors = jax.jit(jax.vmap(lambda key, x: jaxgmm.smc(key, x, prior, **SHORT)))(keys, xs)
    return keys, xs, posteriors, (weights, means, variances)


def test_jit_and_vmap_give_the_same_draws(batch):
    """A batch of data sets gives the numbers of single calls, and a data set that fails does not affect the others."""
    keys, xs, many, _ = batch
    assert many.mixture.means.shape == (67, 2, 100, 2, 1)
    assert int(many.status[2]) == PosteriorStatus.NONFINITE
    assert not (many.status[3:] == PosteriorStatus.NONFINITE).any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = jaxgmm.smc(keys[1], xs[1], small_prior(1, "full"), **SHORT, progress=True)
    np.testing.assert_allclose(many.stats["log_evidence"][1], one.stats["log_evidence"], rtol=1e-3)


@pytest.mark.parametrize("broken", [False, True])
def test_draws_are_calibrated(batch, broken):
    """Truths that were drawn from the prior have uniform ranks among the draws; in the broken twin, the draws are too narrow.

    The components are sorted by their means. The mean of the ranks u and that of (u - 1/2)^2 are within 5 standard errors of
    their expectations for all five quantities; a correct sampler fails with a probability of about 1e-5.
    """
    *_, many, (weights, means, variances) = batch

    def sorted_quantities(weights, means, variances):
        lower, upper = means.argmin(-1)[..., None], means.argmax(-1)[..., None]
        take = lambda values, index: np.take_along_axis(values, index, -1)[..., 0]  # noqa: E731
        leaves = [take(means, lower), take(means, upper), take(weights, lower)]
        return np.stack([*leaves, *(np.log(take(variances, index)) for index in (lower, upper))])

    mixture = jax.tree.map(lambda leaf: np.asarray(leaf[3:]), many.mixture)
    draws = sorted_quantities(mixture.weights, mixture.means[..., 0], mixture.covariances[..., 0, 0])  # (Q, 64, C, S)
    if broken:
        draws = draws.mean((2, 3), keepdims=True) + 0.5 * (draws - draws.mean((2, 3), keepdims=True))
    below = (draws < sorted_quantities(weights, means, variances)[..., None, None]).mean(-1)
    rank = (below * np.asarray(many.stats["chain_weight"][3:])).sum(-1)  # (Q, 64)
    count = rank.shape[1]
    first = (rank.mean(1) - 1 / 2) / np.sqrt(1 / 12 / count)
    second = (((rank - 1 / 2) ** 2).mean(1) - 1 / 12) / np.sqrt(1 / 180 / count)
    print(first.round(1), second.round(1))
    assert (max(abs(first).max(), abs(second).max()) > 5) == broken


def test_labels_are_exchanged():
    """Each component has each label in half of the draws, although the groups are far apart."""
    x = np.concatenate([overlapping(1)[:6] - 4, overlapping(1)[:6] + 4])
    posterior = jaxgmm.smc(jax.random.key(4), x, small_prior(1, "full"), num_components=2, sample_weight=np.ones(12), **RUN)
    first_is_left = float((posterior.mixture.means[..., 0, 0] < posterior.mixture.means[..., 1, 0]).mean())
    assert abs(first_is_left - 0.5) < 5 * 0.5 / np.sqrt(1000 * 8)


@pytest.mark.slow
def test_float64_data_give_float64_draws(x64):
    x, prior = overlapping(1), jax.tree.map(lambda leaf: leaf.astype(float), small_prior(1, "full"))
    posterior = jaxgmm.smc(jax.random.key(0), x.astype(float), prior, num_components=2, num_samples=100, num_chains=2)
    assert posterior.mixture.means.dtype == jnp.float64
    check_log_density(posterior, x.astype(float), prior)


INVALID = {
    "few": ({"num_samples": 50}, "num_samples"),
    "components": ({"num_components": 3}, "K=2"),
    "fractions": ({"sample_weight": np.full(10, 0.5)}, 'integers .* use tempering="likelihood"'),
    "tempering": ({"tempering": "rows"}, "one of 'data', 'likelihood'"),
    "type": ({"covariance_type": "round"}, "covariance_type"),
    "absent": ({"present": np.zeros(2, bool)}, "at least one True"),
    "numbers": ({"present": np.ones(2)}, "booleans"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_input(case):
    changes, message = INVALID[case]
    options = {"num_components": 2, "num_samples": 100} | changes
    with pytest.raises(ValueError, match=message):
        jaxgmm.smc(jax.random.key(0), overlapping(1), small_prior(1, "full"), **options)


def test_gibbs_sweeps_refuse_priors_without_closed_forms():
    prior = independent_prior("full", 2, 1, half_normal=True)
    with pytest.raises(TypeError, match=r'closed form; for smc use .* or use tempering="likelihood"'):
        jaxgmm.smc(jax.random.key(0), overlapping(1), prior, num_components=2, tempering="data")


def test_data_without_rows_are_refused():
    with pytest.raises(ValueError, match="no rows"):
        jaxgmm.smc(jax.random.key(0), np.zeros((0, 1), np.float32), small_prior(1, "full"), num_components=2)


def test_improper_and_missing_priors_are_refused():
    """Particles cannot be drawn from them."""
    x, prior = overlapping(1), small_prior(1, "full")
    with pytest.raises(ValueError, match="mean_precision"):
        jaxgmm.smc(jax.random.key(0), x, dataclasses.replace(prior, mean_precision=jnp.float32(0)), num_components=2)
    with pytest.raises(TypeError, match="default_prior"):
        jaxgmm.smc(jax.random.key(0), x, None, num_components=2)  # pyright: ignore[reportArgumentType]


def test_absent_components():
    """With one component absent, the evidence is that of K=1, and its weight is 0 in every draw."""
    x, prior = overlapping(1), small_prior(1, "full")
    present = np.array([True, False])
    posterior = jaxgmm.smc(jax.random.key(5), x, prior, num_components=2, sample_weight=np.ones(len(x)), present=present, **RUN)
    assert (posterior.mixture.weights[..., 0] == 1).all()
    assert (posterior.mixture.weights[..., 1] == 0).all()
    estimate, error = evidence_of(posterior)
    one = dataclasses.replace(prior, weight_concentration=jnp.array([1.5]))
    assert error < 0.1
    assert abs(estimate - exact_log_evidence(x, one, "full")) < 5 * error


def test_bar_counts_the_rows_of_all_runs(capsys):
    x = overlapping(1)
    jaxgmm.smc(jax.random.key(0), x, small_prior(1, "full"), **SHORT, progress=True)
    assert "20/20" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "covariance_type", "published"),
    [(2, "tied", -239.762), (3, "tied", -226.811), (2, "diag", -232.879), (3, "diag", -226.789)],
)
def test_galaxies_under_chibs_prior(k, covariance_type, published):
    """mu ~ N(20, 10^2), variance ~ IG(3, 20), Dir(1); 40 runs: within three standard errors and .1 of the published value."""
    x = np.asarray(jaxgmm.datasets.load("galaxies"), np.float32)
    array = lambda v: jnp.asarray(v, jnp.float32)  # noqa: E731
    tied = jaxgmm.InverseWishart(array(6.0), array([[40.0]]))
    scale = tied if covariance_type == "tied" else jaxgmm.InverseGamma(array(3.0), array([20.0]))
    prior = jaxgmm.IndependentPrior(array(np.ones(k)), array([20.0]), array([[100.0]]), scale)
    posterior = jaxgmm.smc(
        jax.random.key(0), x, prior, num_components=k, covariance_type=covariance_type, num_samples=1000, num_chains=40
    )
    estimate, error = evidence_of(posterior)
    print(k, covariance_type, published, estimate, error, posterior.status, np.std(posterior.stats["log_evidence"]))
    assert abs(estimate - published) < max(3 * error, 0.01)
    assert abs(estimate - published) < 0.1
