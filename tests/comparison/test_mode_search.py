"""The search for other modes: EM's place among modes of known mass, what is said about it, and when no search is made."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta, invgamma, norm

import jaxgmm
from jaxgmm.comparison.mode_search import ModeSearch
from jaxgmm.comparison.verdict import Finding, Verdict, insert
from jaxgmm.posterior.modes import with_fit

KEY = jax.random.key(0)
# This prior holds the variance near 1 and the weights near 1/2. The posterior is integrated over a grid of the two means, and
# over quantiles of the prior of variance and weights.
PRIOR = jaxgmm.Prior(
    *(jnp.asarray(v, jnp.float32) for v in ([100.0, 100.0], [0.0], 0.01, 200.0, [[200.0]])),
)
GRID = np.linspace(-8, 8, 161)


def groups(middle):
    """Return three groups of rows: one on each side, and one between them that two components share out in two ways."""
    return np.r_[-5.1, -5.0, -4.9, middle - 0.05, middle + 0.05, 4.9, 5.0, 5.1].astype(np.float32)[:, None]


def converge(low, high, x):
    """Return the two means to which EM converges from given means (M,), with variance 1 and equal weights."""
    for _ in range(100):
        share = 1 / (1 + np.exp(np.clip((x - low) ** 2 / 2 - (x - high) ** 2 / 2, -300, 300)))  # (N, M), of the low component
        low, high = ((s * x).sum(0) / (0.01 + s.sum(0)) for s in (share, 1 - share))
    return low, high


@cache
def quadrature(middle):
    """Return a grid of two means (2, M), the posterior mass (M,) of its points, and the high mean (M,) of their modes."""
    low, high = (value.ravel() for value in np.meshgrid(GRID, GRID))
    low, high = low[low < high], high[low < high]
    x = groups(middle).astype(float)
    quantiles = (np.arange(12) + 0.5) / 12
    mass = np.zeros(low.shape)
    for variance in invgamma.ppf(quantiles, 100, scale=100):
        sd = np.sqrt(variance)
        prior = norm.pdf(low, 0, 10 * sd) * norm.pdf(high, 0, 10 * sd)
        one, other = norm.pdf(x, low, sd), norm.pdf(x, high, sd)
        for w in beta.ppf(quantiles, 100, 100):
            mass += prior * (w * one + (1 - w) * other).prod(0)
    return np.stack([low, high]), mass / mass.sum(), converge(low, high, x)[1]


def draws(middle, num_draws=4000):
    """Return a posterior of two chains, drawn from the grid and named after `smc`."""
    means, mass, _ = quadrature(middle)
    chosen = means[:, np.random.default_rng(0).choice(len(mass), (2, num_draws // 2), p=mass)]
    means = np.moveaxis(chosen, 0, -1)[..., None].astype(np.float32)
    mixture = jaxgmm.Mixture(
        np.full(means.shape[:-1], 0.5, np.float32), means, np.ones((2, num_draws // 2, 1, 1, 1), np.float32), "tied"
    )
    return jaxgmm.Posterior(jax.tree.map(jnp.asarray, mixture), jnp.zeros(means.shape[:2]), PRIOR, jnp.array(0), {}, "smc")


def fit_with_middle_left(middle):
    """Return EM's mode in which the left component holds the middle group."""
    x = groups(middle)
    return jaxgmm.fit(jaxgmm.from_labels(x, [0] * 5 + [1] * 3, num_components=2, covariance_type="tied"), x, PRIOR)


def compare(fit, posterior, x, **options):
    """Compare without Laplace's approximation and scores."""
    return jaxgmm.compare(fit, posterior, x, laplace=False, scores=False, **options)


# The place of the middle group decides how much of the posterior the mode with the middle group on the left holds.
@pytest.mark.slow
@pytest.mark.parametrize(("middle", "share"), [(0.2, 0.1), (0.0, 0.5), (-0.2, 0.9), (-0.5, 0.996)])
def test_masses_by_quadrature(middle, share):
    """The draws are independent, so a mass is within 5 errors except by chance in 6e-7."""
    _, mass, high = quadrature(middle)
    truth = mass[high > 4].sum()
    assert truth == pytest.approx(share, abs=0.01)
    fit = fit_with_middle_left(middle)
    comparison = compare(fit, draws(middle), groups(middle))
    search = comparison.search
    assert search.mass == pytest.approx(truth, abs=5 * np.sqrt(truth * (1 - truth) / 400))
    assert search.em_objective == pytest.approx(float(fit.objective), abs=0.01)
    verdicts = comparison.samplers["smc"].verdicts
    assert (Verdict.POOR_MODE in verdicts) == (middle > 0)
    assert (comparison.samplers["smc"].verdict.word == "agree") == (share > 0.98)
    assert (verdicts[0] is Verdict.OTHER_MODES) == (share < 0.98)


@pytest.mark.slow
@pytest.mark.parametrize("middle", [0.2, 0.0, -0.2])
def test_masses_by_smc(middle):
    """The same by particles: within 5 stated errors, which differences between 4 runs estimate."""
    _, mass, high = quadrature(middle)
    x = groups(middle)
    posterior = jaxgmm.smc(KEY, x, PRIOR, num_components=2, covariance_type="tied")
    comparison = compare(fit_with_middle_left(middle), posterior, x)
    search = comparison.search
    assert search.mass == pytest.approx(mass[high > 4].sum(), abs=5 * float(search.modes.mass_error[search.em]))
    assert comparison.samplers["smc"].verdict is Verdict.OTHER_MODES


def made_search(mass=(0.61, 0.23), em=1, objective=(-10.0, -12.0), em_objective=-12.0):
    """Return a search with given masses, made from draws by `smc`."""
    leaves = np.full((2, 2), 0.5), np.array([[[0.0], [8.0]], [[1.0], [7.0]]]), np.ones((2, 2, 1, 1))
    mixture = jaxgmm.Mixture(*(leaf.astype(np.float32) for leaf in leaves))
    mass = np.array(mass)
    modes = jaxgmm.Modes(mixture, np.array(objective), mass, np.full(2, 0.03), np.zeros(2, int))
    return ModeSearch(modes, "", "smc", PRIOR, em, em_objective)


def test_other_modes_and_poor_mode():
    other, poor, failed = made_search().findings()
    assert other.verdict is Verdict.OTHER_MODES
    assert other.sentence.startswith(
        "EM's mode holds 23 % ± 3 % of the posterior; the largest other, 61 % ± 3 %, has weights [0.5 0.5] and means [0]; [8]."
    )
    assert poor.verdict is Verdict.POOR_MODE
    assert "2.00 nats higher" in poor.sentence
    assert failed.verdict is Verdict.UNCONFIRMED
    assert failed.sentence.startswith("16 % of the draws lead to no mode")
    (missed, _) = made_search(em=None, mass=(0.7, 0.3)).findings()
    assert missed.sentence.startswith("No draw leads to EM's mode; the largest other, 70 %")


def fit_at(objective, mean=0.0):
    """Return a fit of two components with a given objective."""
    mixture = jaxgmm.make_mixture([0.5, 0.5], [[mean], [8.0]], np.ones((2, 1, 1)))
    values = {"log_likelihood": objective, "objective": objective, "history": [objective], "num_iter": 1}
    values |= {"status": 0, "component_status": [0, 0]}
    return jaxgmm.Fit(mixture, **{name: np.asarray(value) for name, value in values.items()})


def test_a_restart_without_masses():
    """A higher objective is a poor mode, and an equal one is said to be none."""
    same = ModeSearch(None, "there are no draws by smc", "", PRIOR, None, -10.0, fit_at(-10.05))
    assert same.findings() == [Finding(None, "EM from new starts found no mode with a higher objective.")]
    assert same.sentence().startswith("no higher one found by EM from new starts; their masses are not known, because there")
    assert same.tables() == []
    higher = ModeSearch(None, "there are no draws by smc", "", PRIOR, None, -10.0, fit_at(-8.0, 3.0))
    (poor,) = higher.findings()
    assert poor.verdict is Verdict.POOR_MODE
    assert poor.sentence == (
        "A mode whose objective is 2.00 nats higher than EM's was found: it has weights [0.5 0.5] and means [3]; [8]. "
        "Start EM from it."
    )
    assert higher.best.means.tolist() == [[3.0], [8.0]]
    assert higher.to_dict()["restart_objective"] == -8.0


def test_a_mode_that_only_a_restart_finds():
    """It is listed with mass 0; it is a poor mode if it is higher, and changes nothing if it is lower."""
    x, modes = np.linspace(-3, 9, 8, dtype=np.float32)[:, None], made_search((1.0, 0.0)).modes
    assert with_fit(modes, fit_at(-10.0), x, None) is modes
    for objective in (-8.0, -30.0):
        found = with_fit(modes, fit_at(objective, 3.0), x, None)
        np.testing.assert_allclose(found.mass, [1.0, 0.0, 0.0])
        search = ModeSearch(found, "", "smc", PRIOR, 0, -10.0, fit_at(objective, 3.0))
        words = [finding.verdict for finding in search.findings()]
        assert words == ([Verdict.POOR_MODE, None] if objective == -8 else [None])
        assert [row[0] for row in search.tables()[0].rows] == ["0 (EM)", "1", "2"]
        assert "and by EM from new starts" in search.sentence()
    poor = ModeSearch(with_fit(modes, fit_at(-8.0, 3.0), x, None), "", "smc", PRIOR, 0, -10.0).findings()[0]
    assert "no draw leads to it; it has weights [0.5 0.5] and means [3]; [8]" in poor.sentence


def test_negligible_modes_change_nothing():
    (found,) = made_search(mass=(0.985, 0.015), em=0, em_objective=-10.05).findings()
    assert found == Finding(
        None,
        "EM's mode holds 98.5 % of the posterior; the other modes together hold 1.5 %, where at most 2 % is neglected.",
    )
    agree = Finding(Verdict.AGREE, "EM lies inside.")
    assert insert([agree], [found]) == [agree, found]


def test_findings_are_inserted_by_gravity():
    other, poor, failed = made_search().findings()
    before = [Finding(Verdict.CHAINS_UNMIXED, "a"), Finding(None, "b"), Finding(Verdict.EM_INSIDE, "c")]
    assert insert(before, [other, poor, failed]) == [before[0], other, poor, failed, *before[1:]]
    assert insert([Finding(Verdict.AGREE, "d")], [poor]) == [poor, Finding(None, "d")]


def test_readers_see_the_modes():
    """The table marks EM's mode, and programs find the numbers."""
    search = made_search()
    (table,) = search.tables()
    assert [row[0] for row in table.rows] == ["0", "1 (EM)"]
    assert (
        search.sentence()
        == "2 found from draws by smc; the mass of a mode is the share of the draws from which EM converges to it"
    )
    record = search.to_dict()
    assert record["searched"]
    assert record["em_mass"] == record["mass"][record["em"]] == 0.23
    assert record["gain"] == 2.0
    assert np.shape(record["means"]) == (2, 2, 1)
    none = ModeSearch(None, "there are no draws by smc")
    assert none.sentence() == "not searched for, because there are no draws by smc"
    assert none.to_dict() == {"searched": False, "reason": "there are no draws by smc", "source": ""}
    assert none.findings() == none.tables() == []
