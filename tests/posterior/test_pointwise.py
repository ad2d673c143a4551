"""pointwise: whether a user's model has a likelihood of its own, and that likelihood for each row."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.comparison.compare import compare
from jaxgmm.posterior.pointwise import has_own_likelihood, own_pointwise

from fabricated_comparisons import fabricate_fit, make_posterior, two_clusters


@pytest.fixture(scope="module")
def parts():
    """Return data, a fit, draws as from a user's model, and the log density of each row under the drawn mixtures."""
    x = two_clusters()
    fit = fabricate_fit(x)
    posterior = make_posterior(fit, x)
    plain = np.asarray(jaxgmm.log_prob(posterior.mixture, x))
    return x, fit, dataclasses.replace(posterior, prior=None), plain


def under(posterior, rows, *, extra=0.0, weight=1.0):
    """Return a posterior of a user's model under which the rows have the given log-likelihoods."""
    rows = jnp.asarray(rows * weight, jnp.float32)
    stats = {"log_likelihood": rows.sum(-1) + extra, "pointwise_log_likelihood": rows}
    return dataclasses.replace(posterior, stats=posterior.stats | stats)


def other_likelihood(plain):
    """Return log-likelihoods that are not those of the mixtures, as in a mixture of regressions."""
    return 0.1 * plain - 0.5 + 0.01 * np.random.default_rng(0).normal(size=plain.shape)


def test_the_density_of_the_mixtures_is_recognised(parts):
    """Rounding is no difference, a thousandth is; a posterior of one of the package's models is never asked."""
    x, fit, posterior, plain = parts
    assert not has_own_likelihood(posterior, x, None)
    assert not has_own_likelihood(under(posterior, plain), x, None)
    assert has_own_likelihood(under(posterior, 1.001 * plain), x, None)
    assert has_own_likelihood(under(posterior, plain, extra=3.0), x, None)
    assert not has_own_likelihood(under(make_posterior(fit, x), 2 * plain), x, None)
    weight = np.arange(100) % 3
    gaps = jnp.where(weight[:, None] > 0, x, jnp.nan)
    assert not has_own_likelihood(under(posterior, plain, weight=weight), gaps, jnp.asarray(weight, jnp.float32))
    assert has_own_likelihood(under(posterior, plain), gaps, jnp.asarray(weight, jnp.float32))


def test_rows_that_add_up_to_the_likelihood(parts):
    posterior, plain = parts[2:]
    rows = other_likelihood(plain)
    weight = np.arange(100) % 3.0
    np.testing.assert_allclose(own_pointwise(under(posterior, rows), np.ones(100)), rows, rtol=1e-5)
    found = own_pointwise(under(posterior, rows, weight=weight), weight)
    np.testing.assert_allclose(found, np.where(weight > 0, rows, 0), rtol=1e-5)
    assert own_pointwise(posterior, np.ones(100)) is None
    assert own_pointwise(under(posterior, rows, extra=3.0), np.ones(100)) is None
    assert own_pointwise(under(posterior, rows), np.ones(99)) is None


def test_compare_scores_the_model_itself(parts):
    """Left-out scores agree with the log-likelihood of the model, or are left out, and a note says which."""
    x, fit, posterior, plain = parts
    rows = other_likelihood(plain)
    own, hidden = under(posterior, rows), under(posterior, rows, extra=3.0)
    found = compare(fit, {"own": own, "hidden": hidden, "plain": under(posterior, plain)}, x, laplace=False)
    total = float(np.asarray(own.stats["log_likelihood"]).mean())
    score = found.density["own"]
    assert score.elpd_loo == pytest.approx(total, abs=2)
    assert score.elpd_folds == pytest.approx(total, abs=2)
    assert score.elpd_folds_difference is None
    assert found.density["hidden"].elpd_loo is None
    assert found.density["plain"].elpd_loo == pytest.approx(float(plain.sum(-1).mean()), abs=10)
    assert found.density["plain"].elpd_folds_difference is not None
    (likelihood,) = (row for row in found.label_invariant if row.method == "own" and row.kind == "log-likelihood (nats)")
    assert likelihood.mean == pytest.approx(total, rel=1e-4)
    assert np.isnan(likelihood.em)
    assert "by that likelihood" in " ".join(found.samplers["own"].notes)
    assert "are not scored" in " ".join(found.samplers["hidden"].notes)
    assert not any("likelihood of the model" in note for note in found.samplers["plain"].notes)


@pytest.mark.filterwarnings("ignore:.*arviz.*")
def test_arviz_gets_the_model_itself(parts):
    pytest.importorskip("arviz")
    x, _, posterior, plain = parts
    rows, weight = other_likelihood(plain), np.arange(100) % 3
    np.testing.assert_allclose(jaxgmm.to_arviz(under(posterior, plain), x)["log_likelihood"]["x"], plain, rtol=1e-4, atol=1e-4)
    found = jaxgmm.to_arviz(under(posterior, rows, weight=weight), x, sample_weight=weight)
    np.testing.assert_allclose(found["log_likelihood"]["x"], np.repeat(rows, weight, -1), rtol=1e-5)
    assert found["observed_data"]["x"].shape == (weight.sum(), 2)
    with pytest.warns(RuntimeWarning, match="log_likelihood is left out"):
        found = jaxgmm.to_arviz(under(posterior, rows, extra=3.0), x)
    assert "log_likelihood" not in (found.groups() if callable(found.groups) else found.groups)


def test_relabelling_keeps_the_rows(parts):
    x, fit, posterior, plain = parts
    found = jaxgmm.relabel(under(posterior, plain), fit.mixture, x)
    assert jax.tree.all(jax.tree.map(np.array_equal, found.stats["pointwise_log_likelihood"], jnp.asarray(plain)))
