"""The state machine of EM: what each of its functions returns, and how a step's outcome is judged."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm import ComponentStatus, Status
from jaxgmm.em import loop
from jaxgmm.em import problem as problems

import oracle
from helpers import (
    COVARIANCE_TYPES,
    TWO_COVARIANCE_TYPES,
    assert_mixtures_close,
    random_data,
    random_mixture,
    random_prior,
    slow_unless,
)

OPTIONS = loop.Options(max_iter=5, accelerate=False, chunk_size=None)
step = jax.jit(loop.step, static_argnums=2)
init, finalize, prepare = jax.jit(loop.init, static_argnums=1), jax.jit(loop.finalize), jax.jit(problems.prepare)


def prepared(covariance_type, *, d=3, weight=None, prior=None, reg_covar=None, tol=1e-8):
    """Return a start, data and the centred problem that they make."""
    start, x = random_mixture(0, covariance_type, d=d), jnp.asarray(random_data(0, d=d))
    return start, x, prepare(start, problems.EMProblem(x, weight, prior, reg_covar), jnp.asarray(tol))


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_first_step_evaluates_the_start(covariance_type, x64):
    """Step -1 leads to step 0, whose mixture is the start and whose numbers are those of the start."""
    start, x, problem = prepared(covariance_type)
    begun = init(problem, OPTIONS)
    assert int(begun.step) == -1
    assert bool(loop.is_running(begun, OPTIONS))
    state = step(problem, begun, OPTIONS)
    assert int(state.step) == 0
    assert_mixtures_close(state.mixture, problem.start, 1e-15)
    np.testing.assert_allclose(state.log_likelihood, oracle.log_prob(start, x).sum(), rtol=1e-11)
    np.testing.assert_allclose(state.objective, oracle.objective(start, x, np.ones(60)), rtol=1e-11)
    np.testing.assert_array_equal(state.history[0], state.objective)
    fit = finalize(problem, state, start)
    np.testing.assert_array_equal(fit.mixture.means, start.means)
    np.testing.assert_array_equal(fit.history, np.full(6, fit.objective))
    assert int(fit.status) == Status.MAX_ITER


def test_a_step_that_is_not_finite_is_rejected(x64):
    """NaN in the data from the second step on: the last finite state stays, and the status says that it broke down."""
    _, _, problem = prepared("full")
    state = step(problem, init(problem, OPTIONS), OPTIONS)
    broken = step(problem._replace(x=problem.x.at[0, 0].set(jnp.nan)), state, OPTIONS)
    assert int(broken.status) == Status.SINGULAR
    assert int(broken.step) == 0
    assert_mixtures_close(broken.mixture, state.mixture, 0)
    np.testing.assert_array_equal(broken.history[0], state.history[0])
    assert not bool(loop.is_running(broken, OPTIONS))


CASES = [(covariance_type, has_prior) for covariance_type in COVARIANCE_TYPES for has_prior in (False, True)]


@pytest.mark.parametrize(
    ("covariance_type", "has_prior"),
    slow_unless(CASES, [*((covariance_type, False) for covariance_type in COVARIANCE_TYPES), ("full", True)]),
)
def test_component_statuses_of_a_state(covariance_type, has_prior, x64):
    """A component of weight 0 is EMPTY; FEW_POINTS has one on fewer points than its own covariance needs, without a prior."""
    start, _, problem = prepared(covariance_type)
    problem = problem._replace(prior=random_prior(0, covariance_type) if has_prior else None)
    state = step(problem, init(problem, OPTIONS), OPTIONS)
    for count, types in [(3.5, {"full"}), (1.5, {"full", "diag", "spherical"}), (4.5, set())]:
        state = state._replace(
            mixture=jax.tree.map(jnp.asarray, problem.start),
            sums=dataclasses.replace(state.sums, count=jnp.array([60 - count, count, 0.0])),
        )
        statuses = finalize(problem, state, start).component_status
        few = ComponentStatus.FEW_POINTS if covariance_type in types and not has_prior else ComponentStatus.OK
        assert statuses.tolist() == [ComponentStatus.OK, few, ComponentStatus.EMPTY], (covariance_type, count)


def test_a_fall_beyond_rounding_is_decreased(x64):
    """EM's own steps fall by rounding only, so this judges made-up objectives.

    A better one continues, a level one or a fall within rounding converges, and a deeper fall is DECREASED, except with
    reg_covar, which may lower the objective. A change that rounding hides converges only where the parameters rest.
    """
    mixture, moved = random_mixture(0, "diag", k=2, d=2), random_mixture(1, "diag", k=2, d=2)
    x = jnp.asarray(random_data(0, d=2))

    @jax.jit
    def status_after(objective, proposal, reg_covar, tol):
        problem = problems.prepare(mixture, problems.EMProblem(x, None, None, reg_covar), tol)
        state = loop.init(problem, OPTIONS)
        state = state._replace(step=jnp.array(3), objective=jnp.array(-100.0), mixture=mixture)
        value = loop.evaluate(proposal, problem, None)._replace(objective=objective)
        return loop._status_after(state, proposal, value, jnp.array(True), problem)

    def judge(objective, proposal=moved, reg_covar=None, tol=1e-8):
        return int(status_after(objective, proposal, reg_covar, tol))

    assert judge(-99.0) == loop._RUNNING
    assert judge(-100.0 + 1e-7) == Status.CONVERGED
    assert judge(-100.0 - 1e-13) == Status.CONVERGED  # twice the rounding error
    assert judge(-100.0 - 1e-11) == Status.DECREASED
    assert judge(-100.0 - 1e-11, mixture) == Status.CONVERGED  # within tol, and the parameters rest
    assert judge(-101.0) == judge(-101.0, mixture) == Status.DECREASED
    assert judge(-101.0, reg_covar=0.0) == loop._RUNNING
    for hidden in (1e-14, -1e-14):
        assert judge(-100.0 + hidden, tol=1e-20) == loop._RUNNING
        assert judge(-100.0 + hidden, mixture, tol=1e-20) == Status.CONVERGED
