"""The result of a fit: its statuses have sentences, and its text shows what a person needs to know."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import ComponentStatus, Fit, Status
from jaxgmm.em.loop import component_status
from jaxgmm.em.problem import EMProblem, prepare
from jaxgmm.em.result import is_sound, unsoundness, unsoundness_of

from helpers import random_mixture


def made_fit(status=Status.CONVERGED, components=(0, 0, 0)):
    """Return a fit that no EM made, with given statuses."""
    number = jnp.asarray(-12.5)
    return Fit(random_mixture(0, "diag"), number, number, jnp.zeros(3), jnp.array(2), jnp.array(status), jnp.array(components))


@pytest.mark.parametrize("statuses", [Status, ComponentStatus])
def test_sentences(statuses):
    """Every status has a sentence of its own that ends with a period, and codes count from 0."""
    sentences = [status.sentence for status in statuses]
    assert len(set(sentences)) == len(statuses)
    assert all(sentence[-1] == "." and len(sentence) > 20 for sentence in sentences)
    assert [int(status) for status in statuses] == list(range(len(statuses)))


@pytest.mark.parametrize("status", Status)
def test_converged(status):
    """A fit is converged if its status is CONVERGED, and with no other status."""
    assert bool(made_fit(status).converged) == (status == Status.CONVERGED)


def test_a_converged_fit_prints_no_sentence():
    """The text of a sound fit has its status, its numbers and its mixture, and no advice."""
    text = repr(made_fit())
    assert text.startswith("Fit CONVERGED after 2 steps: log-likelihood -12.5000, objective -12.5000 (nats)")
    assert "Mixture diag, K=3" in text
    assert Status.CONVERGED.sentence not in text


def test_problems_are_printed():
    """The text of a fit with problems has the sentence of its status and names the components of each status."""
    text = repr(made_fit(Status.MAX_ITER, (0, 1, 1)))
    words = " ".join(text.split())
    assert "Fit MAX_ITER" in text
    assert "raise max_iter or tol" in words
    assert "components 1, 2: EMPTY" in text
    assert ComponentStatus.EMPTY.sentence in words
    assert "AT_FLOOR" not in text


def test_stacks_are_counted():
    """The text of a stack counts statuses and shows ranges; a traced fit prints in one line each."""
    fits = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[made_fit(status, (0, 0, status)) for status in (0, 0, 2)])
    text = repr(fits)
    assert "Fit stacked (3,): 2 of 3 converged" in text
    assert "fits: 2 CONVERGED, 1 SINGULAR" in text
    assert "components: 8 OK, 1 AT_FLOOR" in text
    np.testing.assert_array_equal(fits.converged, [True, True, False])
    seen = []
    jax.jit(lambda fit: seen.append(repr(fit)) or fit.objective)(made_fit())
    assert seen[0].splitlines()[0] == "Fit, traced"


def test_what_makes_a_fit_unsound():
    """A fit that has a failure of any kind is not sound, and the kinds are ordered; one that ran out of steps is sound."""
    order = [Status.CONVERGED, Status.DECREASED, "degenerate", Status.SINGULAR, Status.EMPTY_DATA, Status.NONFINITE]
    distances = [int(unsoundness(0 if s == "degenerate" else s, s == "degenerate", True)) for s in order]
    assert distances == sorted(set(distances))
    assert distances[0] == unsoundness(Status.MAX_ITER, False, True) == 0
    for status in Status:
        assert unsoundness(status, True, True) >= max(unsoundness(status, False, True), unsoundness(0, True, True))
        assert unsoundness(status, False, False) == distances[-1]


@pytest.mark.parametrize("broken", ["objective", "log_likelihood", "weights", "means", "covariances"])
def test_a_fit_with_one_number_that_is_not_finite_is_unsound(broken):
    """Whatever the status says, also traced and in a stack, where only the fit that holds the number is unsound."""
    fit = made_fit()
    fits = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), fit)
    owner = fits if broken in ("objective", "log_likelihood") else fits.mixture
    leaf = getattr(owner, broken)
    changed = dataclasses.replace(owner, **{broken: leaf.at[(1,) + (0,) * (leaf.ndim - 1)].set(jnp.nan)})
    fits = changed if owner is fits else dataclasses.replace(fits, mixture=changed)
    total = jnp.asarray(100.0)
    np.testing.assert_array_equal(is_sound(fits, total), [True, False])
    np.testing.assert_array_equal(jax.jit(is_sound)(fits, total), [True, False])
    np.testing.assert_array_equal(jax.vmap(unsoundness_of, in_axes=(0, None))(fits, total), unsoundness_of(fits, total))


def test_rounding_does_not_decide_whether_points_are_too_few(x64):
    """A component that holds exactly as many points as its covariance needs is sound, even if rounding lowers its weight."""
    x = jnp.array([0.0, 1.0, 2.0, 4.0, 20.0, 25.0])[:, None]
    start = jaxgmm.from_labels(x, [0, 0, 0, 0, 1, 1], num_components=2, covariance_type="diag")
    fit = jaxgmm.fit(start, x)
    total = jnp.asarray(6.0)
    for change, sound in ((0, True), (-1e-12, True), (-1e-3, False)):
        weights = fit.mixture.weights.at[1].set((2 + change) / 6)
        assert is_sound(dataclasses.replace(fit, mixture=dataclasses.replace(fit.mixture, weights=weights)), total) == sound
    problem = prepare(fit.mixture, EMProblem(x, jnp.ones(6), None, None), jnp.asarray(1e-8))
    for change, status in ((-1e-12, ComponentStatus.OK), (-1e-3, ComponentStatus.FEW_POINTS)):
        assert component_status(problem, fit.mixture, jnp.array([4.0, 2 + change]))[1] == status
