"""telescope: numbers of components against exact sums over labels, published tables and evidences; jit, vmap, bad input.

Statistical checks compare the averages of 64 chains with exact values at 5 standard errors. By Student's distribution with 63
degrees of freedom, each number fails by chance with probability 5e-6.
"""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_evidence import exact_numbers

import jaxgmm
from jaxgmm.density import log_prob
from jaxgmm.posterior import telescope_moves
from jaxgmm.posterior.result import PosteriorStatus

from helpers import independent_prior

PRIOR_ON_K = np.array([0.5, 0.3, 0.2])
X = np.float32([[0.3], [-0.8], [0.5], [3.0], [2.2], [3.9]])
# calls with these options, no weights and at most 16 rows share a program
RUN = dict(max_components=3, prior_on_k=5 * PRIOR_ON_K, num_samples=400, num_warmup=50, num_chains=64)
SHORT = dict(max_components=4, num_samples=20, num_warmup=5, num_chains=2)


def prior_of(k=1, concentration=1.5, covariance_type="full", num_features=1):
    d = num_features
    scale = 2.0 * np.eye(d) if covariance_type in ("full", "tied") else 2.0 * np.ones(d if covariance_type == "diag" else ())
    values = (np.full(k, concentration), [0.5] * d, 0.5, d + 3.0, scale)
    return jaxgmm.Prior(*(jnp.asarray(value, jnp.float32) for value in values))


def quiet(function, *args, **options):
    """Call a function without warnings: in small cases, the largest number of components is often occupied."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)


@pytest.fixture(scope="module")
def posterior():
    with pytest.warns(RuntimeWarning, match="reached max_components"):
        return jaxgmm.telescope(jax.random.key(0), X, prior_of(), **RUN)


def standard_errors(posterior, expected):
    """Return by how many standard errors the frequencies of the numbers in `expected`, a dict, differ from their values."""
    found = []
    for name, exact in expected.items():
        hits = (np.asarray(posterior.stats[name])[..., None] == np.arange(1, len(exact) + 1)).mean(1)
        found += list((hits.mean(0) - exact) / (hits.std(0, ddof=1) / np.sqrt(len(hits))))
    return np.array(found)


def exact_probabilities(x, prior_of, covariance_type="full"):
    return dict(zip(("num_components", "num_occupied"), exact_numbers(x, prior_of, PRIOR_ON_K, covariance_type), strict=True))


def test_numbers_are_sums_over_all_allocations(posterior):
    exact = exact_probabilities(X, prior_of)
    print(exact, standard_errors(posterior, exact))
    assert np.abs(standard_errors(posterior, exact)).max() < 5
    for name, size in (("components", 0.01), ("occupied", 1e-5)):  # p(K | labels) is averaged, and not the drawn K
        frequencies = np.bincount(np.asarray(posterior.stats[f"num_{name}"]).ravel(), minlength=4)[1:] / 25600
        np.testing.assert_allclose(posterior.stats[f"prob_{name}"], frequencies, atol=size)


def test_result(posterior):
    """Absent components have weight 0, the rows are counted, and densities are those of the smaller mixtures plus log p(K)."""
    stats, mixture = posterior.stats, posterior.mixture
    np.testing.assert_array_equal((mixture.weights > 0).sum(-1), stats["num_components"])
    np.testing.assert_array_equal((stats["counts"] > 0).sum(-1), stats["num_occupied"])
    assert (stats["counts"].sum(-1) == len(X)).all()
    assert (np.asarray(mixture.weights)[np.asarray(stats["counts"]) > 0] > 0).all()
    np.testing.assert_allclose(mixture.weights.sum(-1), 1, rtol=1e-5)
    assert posterior.prior.weight_concentration.shape == (3,)
    few = jax.tree.map(lambda leaf: leaf[0, :50], mixture)
    expected = log_prob(few, X).sum(-1) + jaxgmm.log_prior(few, posterior.prior)
    expected += np.log(PRIOR_ON_K)[np.asarray(stats["num_components"])[0, :50] - 1]
    np.testing.assert_allclose(posterior.log_density[0, :50], expected, rtol=1e-4)
    assert int(posterior.status) == PosteriorStatus.TRUNCATED
    assert "p(k occupied)" in str(posterior)


def test_one_row_says_nothing_about_the_number():
    """For one row, p(K | x) is p(K)."""
    posterior = quiet(jaxgmm.telescope, jax.random.key(1), X[:1], prior_of(), **RUN)
    np.testing.assert_allclose(posterior.stats["prob_components"], PRIOR_ON_K, rtol=1e-5)
    assert np.abs(standard_errors(posterior, {"num_components": PRIOR_ON_K})).max() < 5
    assert (posterior.stats["num_occupied"] == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("covariance_type", "concentration"),
    [("full", "dynamic"), ("tied", "static"), ("diag", "dynamic"), ("spherical", "static")],
)
def test_numbers_are_exact_for_other_options(covariance_type, concentration):
    x = np.concatenate([X, X[::-1] / 2], 1)  # no number of components is so rare that most chains miss it

    def of(k):
        return prior_of(k, 1.5 / (k if concentration == "dynamic" else 1), covariance_type, 2)

    options = RUN | dict(covariance_type=covariance_type, concentration=concentration)
    posterior = quiet(jaxgmm.telescope, jax.random.key(2), x, of(1), **options)
    exact = exact_probabilities(x, of, covariance_type)
    print(exact, standard_errors(posterior, exact))
    assert np.abs(standard_errors(posterior, exact)).max() < 5


@pytest.mark.slow
def test_a_sampler_without_a_factor_fails(monkeypatch):
    """Without K! / (K - K+)!, the numbers differ by many standard errors."""
    monkeypatch.setattr(telescope_moves, "gammaln", lambda value: 0.0 * value)
    posterior = quiet(jaxgmm.telescope, jax.random.key(0), X, prior_of(), **RUN | dict(num_samples=399))
    assert np.abs(standard_errors(posterior, exact_probabilities(X, prior_of))).max() > 20


@pytest.mark.slow
def test_weights_repeat_rows_and_zero_silences():
    weight = np.float32([2, 1, 0, 1, 2, 0])
    x = X.copy()
    x[2] = np.nan
    posterior = quiet(jaxgmm.telescope, jax.random.key(3), x, prior_of(), sample_weight=weight, **RUN)
    exact = exact_probabilities(np.repeat(X, weight.astype(int), 0), prior_of)
    assert np.abs(standard_errors(posterior, exact)).max() < 5


@pytest.mark.slow
def test_jit_and_vmap_give_the_same_draws(posterior):
    """A data set that fails does not affect the others; the prior may have any number of equal concentrations."""
    concentrations = jnp.array([[1.5, 1.5], [1.5, 1.5], [1.0, 2.0]])
    prior = dataclasses.replace(prior_of(2), weight_concentration=concentrations)
    axes = dataclasses.replace(jax.tree.map(lambda leaf: None, prior), weight_concentration=0)
    run = jax.jit(jax.vmap(lambda x, prior: jaxgmm.telescope(jax.random.key(0), x, prior, **RUN), (0, axes)))
    many = run(jnp.stack([jnp.full(X.shape, jnp.nan), X, X]), prior)
    assert many.mixture.means.shape == (3, 64, 400, 3, 1)
    assert many.status.tolist() == [PosteriorStatus.NONFINITE, PosteriorStatus.TRUNCATED, PosteriorStatus.NONFINITE]
    np.testing.assert_array_equal(many.stats["num_components"][1, :, :5], posterior.stats["num_components"][:, :5])
    np.testing.assert_allclose(many.log_density[1, :, :5], posterior.log_density[:, :5], rtol=1e-3)


def test_numbers_with_missing_values():
    """The sum over allocations is known for diagonal covariances, where each feature has its own factor."""
    x = np.float32([[0.3, np.nan], [np.nan, 3.0], [-0.8, 0.2], [3.0, 2.5], [2.2, np.nan]])
    options = RUN | dict(covariance_type="diag", max_components=2, prior_on_k=[0.6, 0.4], num_samples=300)
    posterior = quiet(
        jaxgmm.telescope, jax.random.key(0), jaxgmm.observations(x), prior_of(1, 1.5, "diag", num_features=2), **options
    )
    numbers = exact_numbers(x, lambda k: prior_of(k, 1.5, "diag", 2), np.array([0.6, 0.4]), "diag")
    exact = dict(zip(("num_components", "num_occupied"), numbers, strict=True))
    print(exact, standard_errors(posterior, exact))
    assert np.abs(standard_errors(posterior, exact)).max() < 5
    filled = exact_numbers(np.nan_to_num(x), lambda k: prior_of(k, 1.5, "diag", 2), np.array([0.6, 0.4]), "diag")
    assert np.abs(standard_errors(posterior, {"num_occupied": filled[1]})).max() > 8
    few = jax.tree.map(lambda leaf: leaf[0, :50], posterior.mixture)
    expected = log_prob(few, jaxgmm.observations(x)).sum(-1) + jaxgmm.log_prior(few, posterior.prior)
    expected += np.log([0.6, 0.4])[np.asarray(posterior.stats["num_components"])[0, :50] - 1]
    np.testing.assert_allclose(posterior.log_density[0, :50], expected, rtol=1e-4)
    two = quiet(jaxgmm.condition_on_occupied, posterior, jaxgmm.observations(x), num_occupied=2)
    expected = log_prob(two.mixture[0, :50], jaxgmm.observations(x)).sum(-1) + jaxgmm.log_prior(two.mixture[0, :50], two.prior)
    np.testing.assert_allclose(two.log_density[0, :50], expected, rtol=1e-4)


INVALID = {
    "components": (ValueError, {"max_components": 0}, "max_components"),
    "unequal": (ValueError, {"prior": dataclasses.replace(prior_of(2), weight_concentration=np.float32([1, 2]))}, "equal"),
    "zero": (ValueError, {"prior": prior_of(2, 0.0)}, "weight_concentration"),
    "improper": (ValueError, {"prior": dataclasses.replace(prior_of(), mean_precision=jnp.float32(0))}, "mean_precision"),
    "closed": (TypeError, {"prior": independent_prior("full", 1, 1, half_normal=True)}, "closed form; for telescope use"),
    "none": (TypeError, {"prior": None}, "default_prior"),
    "features": (ValueError, {"x": np.zeros((5, 2), np.float32)}, "D=1|1 features"),
    "no rows": (ValueError, {"x": X[:0]}, "no rows"),
    "nan": (ValueError, {"x": X * np.nan}, "NaN"),
    "labels": (
        ValueError,
        {"x": jaxgmm.observations(X, labels=np.zeros(6, int))},
        "leave the labels out, or sample with gibbs",
    ),
    "fractions": (ValueError, {"sample_weight": np.full(6, 0.5)}, "integers"),
    "size": (ValueError, {"prior_on_k": [0.5, 0.5]}, r"\(4,\)"),
    "negative": (ValueError, {"prior_on_k": [1.0, -1, 1, 1]}, "negative"),
    "nowhere": (ValueError, {"prior_on_k": np.zeros(4)}, "no positive"),
    "degrees": (ValueError, {"scale_degrees_of_freedom": 0.0}, "scale_degrees_of_freedom"),
    "law": (ValueError, {"concentration": "random"}, "concentration"),
    "type": (ValueError, {"covariance_type": "round"}, "covariance_type"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_input(case):
    error, changes, message = INVALID[case]
    options = {"x": X, "prior": prior_of()} | SHORT | changes
    with pytest.raises(error, match=message):
        jaxgmm.telescope(jax.random.key(0), options.pop("x"), options.pop("prior"), **options)


@pytest.mark.slow
def test_float64_data_give_float64_draws(x64, capsys):
    prior = jax.tree.map(lambda leaf: leaf.astype(float), prior_of())
    posterior = quiet(jaxgmm.telescope, jax.random.key(0), X.astype(float), prior, **SHORT, progress=True)
    assert posterior.mixture.means.dtype == jnp.float64
    assert np.isfinite(posterior.log_density).all()
    assert "26/26" in capsys.readouterr().err


def chib(k):
    """Return Chib's prior for the galaxies: mu ~ N(20, 10^2), variance ~ IG(3, 20), Dir(1)."""
    array = lambda v: jnp.asarray(v, jnp.float32)  # noqa: E731
    return jaxgmm.IndependentPrior(
        array(np.ones(k)), array([20.0]), array([[100.0]]), jaxgmm.InverseGamma(array(3.0), array([20.0]))
    )


@pytest.mark.slow
def test_galaxies_agree_with_the_evidences():
    """p(K | x) for K = 2, ..., 8 is proportional to the evidences by smc, and for K = 2 and 3 to published ones.

    The errors are those of 32 chains and of 16 runs. At 5 standard errors plus 2 %, a number fails with probability below 1e-4.
    """
    x = np.asarray(jaxgmm.datasets.load("galaxies"), np.float32)
    posterior = quiet(
        jaxgmm.telescope, jax.random.key(0), x, chib(1), max_components=8, covariance_type="diag",
        num_samples=10000, num_chains=32,
    )  # fmt: skip
    evidence, error = np.zeros(8), np.zeros(8)
    for k in range(1, 9):
        options = dict(num_components=8, present=np.arange(8) < k, covariance_type="diag", num_chains=16)  # one program
        runs = quiet(jaxgmm.smc, jax.random.key(k), x, chib(8), **options).stats
        evidence[k - 1] = np.logaddexp.reduce(np.array(runs["log_evidence"], float)) - np.log(16)
        error[k - 1] = runs["log_evidence_error"]
    expected = np.exp(evidence - np.logaddexp.reduce(evidence))
    hits = (np.asarray(posterior.stats["num_components"])[..., None] == np.arange(1, 9)).mean(1)
    found, spread = hits.mean(0), hits.std(0, ddof=1) / np.sqrt(32)
    print(expected, error, posterior.stats["prob_components"], found, spread, evidence[1:3])
    assert (np.abs(found - expected) < 5 * np.hypot(spread, expected * error) + 0.02 * expected + 1e-4).all()
    np.testing.assert_allclose(evidence[1:3], [-232.879, -226.789], atol=0.1)


# Richardson & Green (1997), galaxies with 26.960 as the 78th value, K = 1, ..., 14, and p(occupied K) of another program
PUBLISHED = [0, 0, 0.061, 0.128, 0.182, 0.199, 0.160, 0.109, 0.071, 0.040, 0.023, 0.013, 0.006, 0.003]
OCCUPIED = [0, 0, 0.068, 0.158, 0.222, 0.231, 0.158, 0.095, 0.042, 0.016]


@pytest.mark.slow
def test_galaxies_have_the_published_number_of_components():
    """Their hierarchical prior: mu ~ N(mid-range, R^2), precision ~ Gamma(2, C), C ~ Gamma(.2, 10 / R^2), K = 1, ..., 30.

    Here S = 2 C ~ Gamma(.4 / 2, 5 / R^2), so that f = .4 and the mean of S is .04 R^2. The limit is .01, or 4 standard errors
    of 32 chains where these are larger, which a number exceeds by chance with probability 4e-4.
    """
    x = np.asarray(jaxgmm.datasets.load("galaxies"), np.float32)
    size, middle = float(np.ptp(x)), float(x.max() + x.min()) / 2
    array = lambda v: jnp.asarray(v, jnp.float32)  # noqa: E731
    law = jaxgmm.InverseGamma(array(2.0), array([0.02 * size**2]))
    prior = jaxgmm.IndependentPrior(array([1.0]), array([middle]), array([[size**2]]), law)
    posterior = quiet(
        jaxgmm.telescope, jax.random.key(0), x, prior, max_components=30, covariance_type="diag",
        scale_degrees_of_freedom=0.4, num_samples=10000, num_chains=32,
    )  # fmt: skip
    for name, published in (("components", PUBLISHED), ("occupied", OCCUPIED)):
        numbers = np.arange(1, len(published) + 1)
        hits = (np.asarray(posterior.stats[f"num_{name}"])[..., None] == numbers).mean(1)
        found, spread = np.asarray(posterior.stats[f"prob_{name}"])[: len(numbers)], hits.std(0, ddof=1) / np.sqrt(32)
        print(name, found.round(4), spread.round(4))
        assert (spread < 0.01).all()
        assert (np.abs(found - published) < np.maximum(0.01, 4 * spread)).all()
    assert posterior.prior is None
    assert np.isfinite(posterior.log_density).all()
