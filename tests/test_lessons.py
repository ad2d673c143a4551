"""Results that textbooks publish, and four bugs that readers copy: each test shows the bug and what jaxgmm does instead."""

import numpy as np
import pytest
from scipy import stats

import jaxgmm

import oracle


def three_groups():
    """Return the textbook's 60 points, made by NumPy's legacy generator."""
    state = np.random.RandomState(0)
    grid = np.linspace(-5, 5, num=20)
    return np.stack((grid * state.rand(20) + 10, grid * state.rand(20) - 10, grid * state.rand(20))).flatten()


def textbook_mixture():
    sds = np.array([5.0, 3.0, 1.0])
    return jaxgmm.make_mixture(np.full(3, 1 / 3), np.array([[-5.0], [8.0], [1.5]]), sds[:, None] ** 2, covariance_type="diag")


def test_table_of_responsibilities(x64):
    """Responsibilities equal the published table to 1e-7, and every row sums to one."""
    r = np.asarray(jaxgmm.responsibilities(textbook_mixture(), three_groups()[:, None]))
    expected = {
        0: [2.97644006e-02, 9.70235407e-01, 1.91912550e-07],
        40: [9.64689131e-01, 9.53405294e-03, 2.57768163e-02],
        59: [8.53513721e-02, 2.40396004e-02, 8.90609028e-01],
    }
    for row, values in expected.items():
        np.testing.assert_allclose(r[row], values, rtol=1e-7)
    np.testing.assert_allclose(r.sum(1), 1, rtol=1e-14)


def test_a_variance_is_not_a_standard_deviation(x64):
    """Bug 1: scipy's norm expects a standard deviation and gives another density for a variance. jaxgmm expects variances."""
    x = np.array([[0.0], [3.0]])
    mixture = jaxgmm.make_mixture([1.0], [[1.0]], [[4.0]], covariance_type="spherical")
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, x), stats.norm(1, 2).logpdf(x[:, 0]), rtol=1e-12)
    copied = stats.norm(1, 4).logpdf(x[:, 0])
    assert (abs(np.asarray(jaxgmm.log_prob(mixture, x)) - copied) > 0.1).all()


def test_log_likelihood_sums_components_inside_and_points_outside(x64):
    """Bug 2: neither the log of the sum over all pairs nor the sum of all logs is the log-likelihood.

    It is the sum over points of the log of the sum over components.
    """
    x, mixture = three_groups()[:, None], textbook_mixture()
    joint = np.exp(oracle.log_joint(mixture, x))
    right = np.log(joint.sum(1)).sum()
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, x).sum(), right, rtol=1e-12)
    np.testing.assert_allclose(jaxgmm.e_step(mixture, x).log_likelihood, right, rtol=1e-12)
    assert abs(np.log(joint.sum()) - right) > 100
    assert abs(np.log(joint).sum() - right) > 100


def test_predict_remembers_the_weights():
    """Bug 3: the component with the largest density is not the most probable one if the weights differ."""
    mixture = jaxgmm.make_mixture([0.95, 0.05], [[0.0], [2.0]], [[1.0], [1.0]], covariance_type="spherical")
    point = np.array([[1.2]])
    densities = [stats.norm(m, 1).pdf(1.2) for m in (0, 2)]
    assert np.argmax(densities) == 1
    assert int(jaxgmm.predict(mixture, point)[0]) == 0
    assert float(jaxgmm.responsibilities(mixture, point)[0, 0]) > 0.9


def test_weights_summing_to_one_is_no_reason_to_stop(x64):
    """Bug 4: a loop that watches the sum of the weights stops after one step; fit watches the objective."""
    x = three_groups()[:, None]
    one = jaxgmm.m_step(textbook_mixture(), jaxgmm.e_step(textbook_mixture(), x))
    assert abs(float(one.weights.sum()) - 1) < 1e-12
    fit = jaxgmm.fit(textbook_mixture(), x)
    assert bool(fit.converged)
    assert int(fit.num_iter) > 2
    assert float(fit.log_likelihood) > float(jaxgmm.log_prob(one, x).sum()) + 1
    again = jaxgmm.m_step(fit.mixture, jaxgmm.e_step(fit.mixture, x))
    np.testing.assert_allclose(again.means, fit.mixture.means, atol=1e-2)


# rough starts, as read off a picture: (eruption length, waiting time), minutes
@pytest.mark.parametrize(
    ("covariance_type", "means", "published", "tight"),
    [
        ("tied", [[2.0, 54.0], [3.8, 76.0], [4.5, 82.0]], -1126.326, -1126.3159),
        ("full", [[2.0, 54.0], [4.3, 80.0]], -1130.2641, -1130.2640),
    ],
)
def test_old_faithful(covariance_type, means, published, tight, x64):
    """Fits reach mclust's published log-likelihoods and do not exceed the known maximum."""
    k = len(means)
    covariances = np.tile(np.diag([0.2, 36.0]), (1 if covariance_type == "tied" else k, 1, 1))
    start = jaxgmm.make_mixture(np.full(k, 1 / k), means, covariances, covariance_type=covariance_type)
    fit = jaxgmm.fit(start, jaxgmm.datasets.load("faithful"), tol=1e-12)
    assert float(fit.log_likelihood) >= published
    assert float(fit.log_likelihood) == pytest.approx(tight, abs=1e-4)


def test_waiting_times(x64):
    """Two components on the waiting times have mixtools' weights, means and standard deviations."""
    x = jaxgmm.datasets.load("faithful")[:, 1:]
    fit = jaxgmm.fit(jaxgmm.make_mixture([0.5, 0.5], [[50.0], [80.0]], np.full((2, 1, 1), 36.0)), x, tol=1e-12)
    assert float(fit.log_likelihood) == pytest.approx(-1034.0017, abs=1e-4)
    np.testing.assert_allclose(fit.mixture.weights, [0.360886, 0.639114], atol=2e-6)
    np.testing.assert_allclose(fit.mixture.means[:, 0], [54.61486, 80.09107], atol=2e-4)
    np.testing.assert_allclose(np.sqrt(fit.mixture.covariances[:, 0, 0]), [5.871220, 5.867734], atol=2e-4)
