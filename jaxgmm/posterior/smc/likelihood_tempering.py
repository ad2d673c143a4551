"""Sequential Monte Carlo in which the exponent of the likelihood rises from 0 to 1. Del Moral, Doucet & Jasra (2006).

The target of stage t is p(theta) p(x | theta)^phi_t. Each stage

1. moves each particle by Hamiltonian trajectories, as in `hamiltonian_moves`, in the unconstrained space of `nuts`, and
   proposes to replace one of its components by a draw from the prior; the first stage instead draws the particles from the
   prior;
2. raises the exponent by the largest increase with which the effective sample size of the importance weights
   p(x | theta)^increase is at least one half of the number of particles;
3. resamples the particles in proportion to their weights.

The evidence is the product of the ratios of the normalising constants of successive targets, which `stage_ratios` estimates
from the particles. Unlike the Gibbs sweeps of `data_tempering`, the moves need only the log density and its gradient.
Therefore, every prior is possible, and weights of the rows need not be integers.

Absent components stay in the unconstrained space, with the prior as their distribution. The weights of the present components
are divided by their sum. If all weights follow a Dirichlet law, these quotients follow the Dirichlet law of the
present components.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ... import covariance
from ...em.batch.restarts import identified
from ...mixture import Mixture
from ...priors.interface import ComponentSums
from ...progress import advance_by
from ...row_sums import vary_with
from ..conditionals import GibbsState, gibbs_state, shapes_of_variables, state_from_variables
from ..gamma_draws import draw_log_gammas
from ..standardization import StandardizedProblem
from ..unconstrained_space import Decoded, UnconstrainedSpace, from_sticks, make_unconstrained_space, to_sticks
from .hamiltonian_moves import Movers, move_by_trajectories, scales_of_particles
from .likelihood import log_likelihood_of_particles, log_likelihood_under_normal
from .moves import invariant_quantities
from .particles import (
    Effort,
    Moves,
    Particles,
    Records,
    effective_size,
    empty_records,
    largest_exponent,
    log_mean_exp,
    number_of_parents,
    random_order,
    repeat_stages,
    systematic_parents,
)
from .stage_ratios import Constant, Sample, first_constant, times_ratio

_FIRST_STEP_SIZE = 0.5
_KEPT = 10  # largest number of moves of a stage whose log-likelihoods enter the estimate of the evidence


class Run(NamedTuple):
    """The state of one run: particles, the exponent of the likelihood, the evidence, counters and records.

    log_likelihood: (M,), the log-likelihoods of the particles. scale: (P,), see `scales_of_particles`. recent: the
    log-likelihoods after each of the last moves. before: the value of `recent` at the end of the last stage. increase: the
    increase of the exponent at the end of the last stage.
    """

    movers: Movers
    log_likelihood: jax.Array
    scale: jax.Array
    moves: Moves
    recent: Sample
    before: Sample
    exponent: jax.Array
    increase: jax.Array
    evidence: Constant
    stage: jax.Array
    finished: jax.Array
    records: Records


class Model(NamedTuple):
    """The standardised problem and its unconstrained space.

    present: (K,) booleans, True for the present components. shape: a mixture with the shape and covariance type of the
    particles. groups: numbers (K,) that are equal for components that may exchange places.
    """

    problem: StandardizedProblem
    space: UnconstrainedSpace
    present: jax.Array
    shape: Mixture
    groups: jax.Array

    @property
    def covariance_type(self) -> str:
        """The covariance type of the mixtures."""
        return self.shape.covariance_type

    def decode(self, z: jax.Array) -> tuple[Decoded, jax.Array]:
        """Return the decoded points (M, ...) and the log density of each point under the prior, (M,).

        The weights of absent components are 0. The log density includes the prior of absent components.
        """
        assert self.space.decode is not None and self.space.log_prior is not None  # noqa: PT018
        points = jax.vmap(self.space.decode)(z)
        log_weights = jax.nn.log_softmax(jnp.where(self.present, points.log_weights, -jnp.inf))
        mixture = Mixture(jnp.exp(log_weights), points.mixture.means, points.mixture.covariances, self.covariance_type)
        return points._replace(log_weights=log_weights, mixture=mixture), jax.vmap(self.space.log_prior)(points)

    def log_likelihood(self, points: Decoded) -> jax.Array:
        """Return the log-likelihood minus the log-likelihood under N(0, I) for decoded points (M, ...), (M,)."""
        state = GibbsState(points.log_weights, points.mixture.means, points.factors)
        return log_likelihood_of_particles(state, self.problem.y, self.problem.weight, self.covariance_type)

    def log_density(self, z: jax.Array, exponent: jax.Array) -> jax.Array:
        """Return log(prior x likelihood^exponent) at points (M, P), up to a constant, (M,)."""
        points, log_prior = self.decode(z)
        return log_prior + exponent * self.log_likelihood(points)

    def quantities(self, z: jax.Array) -> jax.Array:
        """Return the quantities (Q, M) of points (M, P) by which the moves are judged."""
        return invariant_quantities(self.decode(z)[0].mixture)

    def scales(self, z: jax.Array, exponent: jax.Array) -> jax.Array:
        """Return the scales (P,) of the coordinates of points (M, P) under prior x likelihood^exponent."""
        (gradients,) = jax.vjp(partial(self.log_density, exponent=exponent), z)[1](jnp.ones(len(z), z.dtype))
        return scales_of_particles(z, gradients)

    def sample_prior(self, key: jax.Array, num_points: int) -> jax.Array:
        """Draw points (num_points, P) from the prior."""
        prior, covariance_type, (k, d) = self.problem.prior, self.covariance_type, self.shape.means.shape
        if not prior.has_closed_forms:
            sample = partial(prior.sample, covariance_type=covariance_type, num_components=k)
            mixtures = jax.vmap(sample)(jax.random.split(key, num_points))
        else:  # The conditional distribution given no rows is the prior. Draws from it are faster than `prior.sample`.
            key_gammas, key_normals = jax.random.split(key)
            zeros = jnp.zeros((k, d), self.shape.means.dtype)
            sums = ComponentSums(zeros[:, 0], zeros, covariance.outer(zeros, covariance_type))
            shapes, num_normals = shapes_of_variables(sums, prior, covariance_type)
            log_gammas = draw_log_gammas(key_gammas, jnp.broadcast_to(shapes, (num_points, len(shapes))))
            normals = jax.random.normal(key_normals, (num_points, *num_normals), shapes.dtype)
            draw = partial(state_from_variables, state=gibbs_state(self.shape), sums=sums, prior=prior)
            draw = partial(draw, present=jnp.ones(k, bool), covariance_type=covariance_type)
            states = jax.vmap(lambda *variables: draw(variables))(log_gammas, normals)
            covariances = covariance.from_factor(states.factors.lower, covariance_type)
            mixtures = Mixture(jnp.exp(states.log_weights), states.means, covariances, covariance_type)
        # A small weight may round to 0, but no point of the unconstrained space has a weight of 0.
        weights = jnp.maximum(mixtures.weights, 10 * jnp.finfo(mixtures.weights.dtype).tiny)
        mixtures = Mixture(weights, mixtures.means, mixtures.covariances, covariance_type)
        return jax.vmap(self.space.flatten)(mixtures)

    def replace_component(self, key: jax.Array, z: jax.Array, other: jax.Array) -> jax.Array:
        """Take the mean and the covariance of one component, chosen at random, from another point (P,)."""
        chosen = jax.random.randint(key, (), 0, len(self.present))
        parts, new = self.space.unravel(z), self.space.unravel(other)
        # the order of a set differs between processes, and each order would be compiled anew
        for name in sorted(parts.keys() - {"weights"}):
            if len(parts[name]) == len(self.present):  # other parameters are shared by all components
                parts[name] = parts[name].at[chosen].set(new[name][chosen])
        return ravel_pytree(parts)[0]

    def has_own_covariances(self) -> bool:
        """Return whether each component has a covariance of its own."""
        k, d = len(self.present), self.problem.y.shape[1]
        return covariance.storage_shape(self.covariance_type, k, d)[0] == k

    def permute(self, key: jax.Array, z: jax.Array) -> jax.Array:
        """Exchange components of the same group at random in a point z (P,)."""
        order = random_order(key, self.groups, self.present)
        parts = self.space.unravel(z)
        sticks = to_sticks(from_sticks(parts.pop("weights"))[order])
        # All components share a tied covariance, so it is not permuted.
        others = {name: part[order] if len(part) == len(order) else part for name, part in parts.items()}
        return ravel_pytree(others | {"weights": sticks})[0]


def run_likelihood_tempering(
    keys: jax.Array,
    standard: StandardizedProblem,
    present: jax.Array,
    covariance_type: str,
    effort: Effort,
    bar: jax.Array | None = None,
) -> Particles:
    """Move independent populations of particles from the prior to the posterior, one population for each key (C,).

    present: (K,) booleans, True for the components that may have a positive weight.
    bar: the number that identifies a progress bar, which advances by 100 in each run, or None.
    """
    k, d = len(present), standard.y.shape[1]
    ones = jnp.ones(k, standard.y.dtype)
    unit = covariance.from_dense(jnp.broadcast_to(jnp.eye(d, dtype=ones.dtype), (k, d, d)), covariance_type, ones)
    shape = Mixture(ones / k, jnp.zeros((k, d), ones.dtype), unit, covariance_type)
    groups = jnp.asarray(identified(standard.y, standard.prior.weight_concentration))
    model = Model(standard, make_unconstrained_space(standard, shape), present, shape, groups)

    def move(keys: jax.Array, runs: Run) -> tuple[Run, jax.Array]:
        return jax.vmap(lambda key, run: _move(key, run, model, effort))(keys, runs)

    def advance(keys: jax.Array, runs: Run) -> Run:
        return jax.vmap(lambda key, run: _advance(key, run, model, effort))(keys, runs)

    def report(before: Run, after: Run) -> None:
        old, new = (jnp.floor(100 * run.exponent).astype(int).sum() for run in (before, after))
        advance_by(bar, new - old)

    pairs = jax.vmap(jax.random.split)(keys)
    runs = vary_with(jax.vmap(lambda key: _start(key, model, effort))(pairs[:, 0]), standard, keys)
    runs = repeat_stages(move, advance, pairs[:, 1], runs, report)
    mixture = jax.vmap(lambda z: model.decode(z)[0].mixture)(runs.movers.z)
    constant = log_likelihood_under_normal(standard.y, standard.weight)
    evidence = runs.evidence.log_value + constant
    complete = runs.exponent >= 1
    variance = runs.evidence.total_variance()
    return Particles(mixture, runs.log_likelihood + constant, evidence, variance, runs.stage, complete, runs.records)


def _start(key: jax.Array, model: Model, effort: Effort) -> Run:
    """Return a run before its first stage, with particles from the prior."""
    z = model.sample_prior(key, effort.num_particles)
    zero, none, log_likelihood = jnp.zeros((), z.dtype), jnp.array(0), _log_likelihood(model, z)
    movers = Movers(z, jnp.log(jnp.asarray(_FIRST_STEP_SIZE, z.dtype)), zero)
    recent = Sample(jnp.zeros((_KEPT, len(z)), z.dtype).at[0].set(log_likelihood), jnp.array(1))
    moves, scale = Moves(model.quantities(z), none), jnp.ones(z.shape[1:], z.dtype)
    evidence, records = first_constant(len(z), z.dtype), empty_records(effort.max_stages, z.dtype)
    return Run(movers, log_likelihood, scale, moves, recent, recent, zero, zero, evidence, none, jnp.array(False), records)


def _move(key: jax.Array, run: Run, model: Model, effort: Effort) -> tuple[Run, jax.Array]:
    """Move each particle once. Return the run, and whether the particles have moved enough.

    In the first stage, the particles are draws from the prior. They stay as they are.
    """
    key_move, key_order, key_new = jax.random.split(key, 3)
    movers = move_by_trajectories(key_move, run.movers, partial(model.log_density, exponent=run.exponent), run.scale)
    z, log_likelihood = _renew_components(key_new, movers.z, model, run.exponent)
    z = jax.vmap(model.permute)(jax.random.split(key_order, len(z)), z)
    moves, recent = run.moves._replace(number=run.moves.number + 1), _with_move(run.recent, log_likelihood)
    moved = run._replace(movers=movers._replace(z=z), log_likelihood=log_likelihood, moves=moves, recent=recent)
    is_first = run.stage == 0
    return jax.tree.map(partial(jnp.where, is_first), run, moved), is_first | moves.suffice(model.quantities(z), effort)


def _advance(key: jax.Array, run: Run, model: Model, effort: Effort) -> Run:
    """Raise the exponent after the moves of a stage, and resample the particles.

    Once the exponent is 1, one more stage moves the particles and does not resample them.
    """
    recent = run.recent._replace(number=jnp.minimum(run.recent.number, _KEPT))
    evidence = times_ratio(run.evidence, _raised(run.before, run.increase), _raised(recent, run.increase))
    log_likelihood, count = run.log_likelihood, run.moves.number
    exponent = largest_exponent(lambda phi: (phi - run.exponent) * log_likelihood, run.exponent, effort.num_particles / 2)
    increase = exponent - run.exponent
    log_weights = jnp.where(increase > 0, increase * log_likelihood, 0)
    parents = systematic_parents(key, log_weights)  # if the exponent was already 1, each particle is its own parent
    accept_prob = run.movers.accept_prob / jnp.where(count > 0, count, jnp.nan)
    found = Records(count, accept_prob, effective_size(log_weights), number_of_parents(parents))
    finite = jnp.isfinite(evidence.log_value) & jnp.isfinite(log_mean_exp(log_weights))
    z, stage = run.movers.z[parents], run.stage + 1
    return Run(
        run.movers._replace(z=z, accept_prob=jnp.zeros_like(run.movers.accept_prob)),
        log_likelihood[parents],
        model.scales(z, exponent),
        Moves(model.quantities(z), jnp.zeros_like(count)),
        recent._replace(number=jnp.zeros_like(recent.number)),
        recent,
        exponent,
        increase,
        evidence._replace(log_value=jnp.where(finite, evidence.log_value, -jnp.inf)),
        stage,
        (run.exponent >= 1) | (stage >= effort.max_stages) | ~finite,
        jax.tree.map(lambda values, value: values.at[run.stage].set(value), run.records, found),
    )


def _raised(sample: Sample, increase: jax.Array) -> Sample:
    """Return the log weights for an increase of the exponent, from log-likelihoods."""
    return sample._replace(values=jnp.where(increase > 0, increase * sample.values, 0))


def _with_move(recent: Sample, log_likelihood: jax.Array) -> Sample:
    """Add the log-likelihoods (M,) after a move to a sample. If the sample is full, they replace the oldest ones."""
    place = recent.number % len(recent.values)
    return Sample(recent.values.at[place].set(log_likelihood), recent.number + 1)


def _log_likelihood(model: Model, z: jax.Array) -> jax.Array:
    """Return the log-likelihood minus the log-likelihood under N(0, I) at points (M, P), (M,); -inf in place of NaN."""
    value = model.log_likelihood(model.decode(z)[0])
    return jnp.where(jnp.isnan(value), -jnp.inf, value)


def _renew_components(key: jax.Array, z: jax.Array, model: Model, exponent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Propose to replace one component of each point (M, P) by a draw from the prior.

    Return the new points and their log-likelihoods. Trajectories alone explore the prior of a component without rows slowly,
    because its tails are heavy. If all components share a covariance, the points stay as they are.
    """
    if not model.has_own_covariances():
        return z, _log_likelihood(model, z)
    key_prior, key_choice, key_accept = jax.random.split(key, 3)
    others = model.sample_prior(key_prior, len(z))
    new = jax.vmap(model.replace_component)(jax.random.split(key_choice, len(z)), z, others)
    both = _log_likelihood(model, jnp.concatenate([z, new]))
    before, after = both[: len(z)], both[len(z) :]
    accepted = jnp.log(jax.random.uniform(key_accept, before.shape)) < exponent * (after - before)
    return jnp.where(accepted[:, None], new, z), jnp.where(accepted, after, before)
