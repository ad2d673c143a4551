"""user_model: a user's NumPyro model in nuts, with and without an approximation of its posterior, and errors in models."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jaxgmm
from jaxgmm.posterior.diagnostics import ess_mean, mcse_mean, rhat
from jaxgmm.posterior.result import PosteriorStatus

from helpers import random_data, random_mixture

FAULTS = ({}, {"edge": 3.0}, {"fault": 1.0}, {"rough": 1.0})
QUIET = {"edge": jnp.inf, "fault": 0.0, "rough": 0.0}


def pair(x, prior, *, num_components, covariance_type, sample_weight=None):
    """Two normals with variance 1 / Gamma(2, 2) and a weight by Beta(2, 2); the prior holds switches that make it fail."""
    share = numpyro.sample("share", dist.Beta(2.0, 2.0))
    means = numpyro.sample("means", dist.Normal(0.0, 10.0).expand([num_components, 1]).to_event(2))
    precision = numpyro.sample("precision", dist.Gamma(2.0, 2.0))
    weights = numpyro.deterministic("weights", jnp.stack([share, 1 - share]))
    numpyro.deterministic("covariances", 1 / precision * jnp.ones((1, 1, 1)))
    numpyro.factor("edge", jnp.where(means.max() > prior["edge"], -jnp.inf, 0.0))
    numpyro.factor("fault", jnp.sqrt(jnp.where(prior["fault"] > 0, 0 * share, 1.0)) - 1)  # sqrt has no derivative at 0
    numpyro.factor("rough", 1e5 * prior["rough"] * jnp.sin(1e6 * means).sum())
    normal = dist.Normal(means, 1 / jnp.sqrt(precision)).to_event(1)
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.MixtureSameFamily(dist.Categorical(probs=weights), normal), obs=x)


def switched(**switches):
    return {name: jnp.asarray(value, jnp.float32) for name, value in (QUIET | switches).items()}


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(60, 1)) + 8 * (np.arange(60) % 3 == 0)[:, None]).astype(np.float32)
    start = jaxgmm.make_mixture([1 / 3, 2 / 3], [[8.0], [0.0]], [[[1.0]]], covariance_type="tied")

    def sample(prior):
        return jaxgmm.nuts(
            jax.random.key(0), start, x, prior, model=pair, num_samples=150, num_chains=2, num_warmup=200, max_tree_depth=4
        )

    # four priors in one call; the option halves the time of compilation and multiplies that of the run
    priors = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(switched(**own) for own in FAULTS))
    compiled = jax.jit(jax.vmap(sample)).lower(priors).compile(compiler_options={"xla_backend_optimization_level": 0})
    return x, sample, compiled(priors)


def test_sites_that_no_mixture_determines(drawn):
    """For well-separated groups the weight is Beta(2 + 20, 2 + 40), within 4.5 Monte Carlo errors (false alarm below 1e-5)."""
    x, _, posteriors = drawn
    posterior = jax.tree.map(lambda leaf: leaf[0], posteriors)
    # 200 effective draws are wanted, and there are about as many in these 300 draws
    assert int(posterior.status) in (PosteriorStatus.FULL_WARMUP, PosteriorStatus.FEW_DRAWS)
    assert bool(posterior.stats["adapted"])
    assert posterior.prior is None
    assert posterior.mixture.covariances.shape == (2, 150, 1, 1, 1)
    share = np.asarray(posterior.mixture.weights[..., 0], float)
    assert rhat(share) < 1.1
    assert ess_mean(share) > 50
    assert abs(share.mean() - 22 / 64) < 4.5 * mcse_mean(share)
    assert set(posterior.stats["sites"]) == {"share", "precision"}
    np.testing.assert_allclose(posterior.stats["sites"]["share"], share, rtol=1e-6)
    rows = jaxgmm.log_prob(posterior.mixture, x)
    np.testing.assert_allclose(posterior.stats["pointwise_log_likelihood"], rows, rtol=1e-4, atol=1e-5)
    likelihood = rows.sum(-1)
    np.testing.assert_allclose(posterior.stats["log_likelihood"], likelihood, rtol=1e-5)
    means, precision = (
        np.asarray(posterior.mixture.means[..., 0], float),
        1 / np.asarray(posterior.mixture.covariances)[..., 0, 0, 0],
    )
    prior = np.log(6 * share * (1 - share)) - (means**2 / 200 + np.log(10 * np.sqrt(2 * np.pi))).sum(-1)
    joint = likelihood + prior + np.log(4 * precision) - 2 * precision
    np.testing.assert_allclose(posterior.log_density, joint, rtol=1e-4)


def test_faults_are_reported(drawn):
    """A start outside the support and a NaN gradient raise errors; under vmap each is a status, and so is a rough density."""
    _, sample, posteriors = drawn
    for switches in FAULTS[1:3]:
        with pytest.raises(ValueError, match="no finite posterior density and gradient"):
            sample(switched(**switches))
    assert int(posteriors.status[0]) in (PosteriorStatus.FULL_WARMUP, PosteriorStatus.FEW_DRAWS)
    expected = ["NONFINITE", "NONFINITE", "ALL_DIVERGENT"]
    assert [PosteriorStatus(int(status)).name for status in posteriors.status[1:]] == expected


def test_invalid_models():
    """Each raises an error that names what is wrong."""
    x, start = random_data(0, 20, 1, 2), random_mixture(0, "tied", 2, 1, scale=2.0)

    def like(latent, **change):
        sites = {"weights": jnp.ones(2) / 2, "means": jnp.zeros((2, 1)), "covariances": jnp.ones((1, 1, 1))} | change

        def model(x, prior, **options):
            for name, value in sites.items():
                if value is not None:
                    numpyro.deterministic(name, value)
            numpyro.sample("free", latent)

        return model

    def renamed(x, prior, **options):
        numpyro.sample("weights", dist.Dirichlet(jnp.ones(2)))
        means = numpyro.sample("means", dist.Normal(0, 1).expand([2, 1]).to_event(2))
        variances = numpyro.sample("scales", dist.HalfNormal(1.0).expand([1, 1]).to_event(2))
        numpyro.deterministic("covariances", variances[..., None])
        numpyro.sample("y", dist.Normal(means.mean(), 1), obs=x)

    for model, prior, error, sentence in (
        (3, None, TypeError, "model is int"),
        (lambda x: None, None, TypeError, "model cannot be called as"),
        (pair, {"edge": "far"}, TypeError, "prior holds a value that is not an array"),
        (like(dist.Normal(), means=None), None, ValueError, "no site 'means'"),
        (like(dist.Normal(), means=jnp.zeros((2, 2))), None, ValueError, r"has shape \(2, 2\); \(2, 1\) was expected"),
        (like(dist.Bernoulli(0.5)), None, ValueError, "'free' is discrete"),
        (renamed, None, ValueError, "mean something else"),
    ):
        with pytest.raises(error, match=sentence):
            jaxgmm.nuts(jax.random.key(0), start, x, prior, model=model)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), start)
    with pytest.raises(ValueError, match="give one start"):
        jaxgmm.nuts(jax.random.key(0), stack, x, QUIET, model=pair)


@pytest.mark.slow
def test_jaxgmms_own_model_has_the_same_posterior():
    """With model=jaxgmm.model, on faithful, every mean is within 4.5 Monte Carlo errors (false alarm below 1e-4)."""
    x = np.asarray(jaxgmm.datasets.load("faithful"), np.float32)
    prior = jaxgmm.default_prior(x, num_components=2)
    fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=2), x, prior)
    first, second = (jaxgmm.nuts(jax.random.key(s), fit.mixture, x, prior, model=m) for s, m in enumerate((None, jaxgmm.model)))
    assert int(second.status) == PosteriorStatus.OK
    assert not bool(second.stats["adapted"])
    for name in ("weights", "means", "covariances"):
        a, b = (np.asarray(getattr(p.mixture, name), float) for p in (first, second))
        error = np.sqrt(mcse_mean(a) ** 2 + mcse_mean(b) ** 2)
        assert (abs(a.mean((0, 1)) - b.mean((0, 1))) < 4.5 * error).all()
