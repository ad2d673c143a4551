"""Coverage studies: nominal where theory says so, what fails is counted, a killed study goes on to the same bits."""

import csv
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom, norm

import jaxgmm
from jaxgmm.coverage import replicates
from jaxgmm.coverage import study as module
from jaxgmm.coverage.summary import rows_of
from jaxgmm.studies.intervals import wald_intervals
from jaxgmm.studies.parameters import values

B = 128
EASY = {
    "separations": (5.0,),
    "num_observations": (200,),
    "num_features": 1,
    "methods": ("em", "laplace"),
    "num_datasets": B,
    "options": {"laplace": {"num_samples": 300}},
}


@pytest.fixture(scope="module")
def easy():
    """Two components far apart, many observations: where every interval should cover as it says."""
    return jaxgmm.coverage_study(jax.random.key(0), jaxgmm.Design(**EASY))


def without_seconds(study):
    """Rows as text, equal to the last bit if the numbers are."""
    return [{name: repr(value) for name, value in row.items() if name != "seconds_per_dataset"} for row in study.rows]


def test_nominal_coverage(easy):
    """Each of 24 coverages lies in a binomial interval of error 1e-5, widened by 3 points for N = 200: false failure < 3e-4."""
    assert len(easy.rows) == 12
    for row in easy.rows:
        for p, name in ((0.5, "coverage_50"), (0.9, "coverage_90")):
            low, high = binom.ppf(5e-6, B, p - 0.03), binom.ppf(1 - 5e-6, B, p + 0.03)
            assert low <= B * row[name] <= high, (row["method"], row["name"], name, row[name])
            assert row[name] == row[name + "_defined"]  # none undefined
        assert row["share_undefined"] == row["share_failed"] == 0
        assert row["num_datasets"] == row["num_estimates"] == B


def expected_errors(design):
    """Standard errors of (weight, weight, means, variances) by the Fisher information of K = 2, D = 1, by quadrature."""
    half, n = design.separations[0] / 2, design.num_observations[0]
    y = np.linspace(-12, 12, 48001)
    parts = [0.5 * norm.pdf(y, m, 1) for m in (-half, half)]
    density = sum(parts)
    scores = [(parts[0] - parts[1]) * 2 / density]
    scores += [part * (y - m) / density for part, m in zip(parts, (-half, half), strict=True)]
    scores += [part * ((y - m) ** 2 - 1) / 2 / density for part, m in zip(parts, (-half, half), strict=True)]
    information = n * np.trapezoid(np.einsum("iy,jy->ijy", scores, scores) * density, y)
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    return errors[[0, 0, 1, 2, 3, 4]]


def test_errors_are_those_of_theory(easy):
    """RMSE and widths are those of the Fisher information; bias of ML is within 5 standard errors. False failure < 1e-4.

    RMSE within 30 %: over 4 standard errors (6.3 %) and 4 % for N = 200; width within 6 %: its own standard error is 1 %.
    """
    expected = dict(zip([row["name"] for row in easy.rows[:6]], expected_errors(easy.design), strict=True))
    for row in easy.rows:
        assert row["rmse"] == pytest.approx(expected[row["name"]], rel=0.3), row
        assert row["rmse_se"] == pytest.approx(row["rmse"] / np.sqrt(2 * B), rel=0.5)
        if row["kind"] != "variance":
            assert row["width_90"] == pytest.approx(2 * norm.ppf(0.95) * expected[row["name"]], rel=0.06), row
            assert row["width_90_median"] == pytest.approx(row["width_90"], rel=0.05)
            assert row["method"] != "em" or abs(row["bias"]) < 5 * row["bias_se"]


def test_table(easy):
    """CSV and JSON hold every row; the page keeps to 100 columns and names its units; seeds and versions are there."""
    table = list(csv.DictReader(io.StringIO(easy.to_csv())))
    assert len(table) == 12
    assert float(table[0]["bias"]) == easy.rows[0]["bias"]
    assert table[0]["statuses"] == "CONVERGED 128"
    found = json.loads(easy.to_json())
    assert found["meta"]["key"] == [0, 0]
    assert set(found["meta"]["versions"]) == {"jax", "numpy", "numpyro"}
    assert found["design"]["options"] == {"laplace": {"num_samples": 300}}
    page = str(easy)
    assert max(map(len, page.splitlines())) <= 100
    assert "laplace" in page
    assert "data units" in page


def test_resumes_to_the_same_bits(tmp_path, monkeypatch):
    """A study that died in its fourth block computes only what is missing, and ends as one that never died."""
    design = jaxgmm.Design(
        separations=(1.0, 4.0), num_observations=(40,), num_features=1, num_datasets=12, methods=("em", "map")
    )
    monkeypatch.setattr(module, "COVERAGE_FILE_BATCH", 8)
    whole = jaxgmm.coverage_study(jax.random.key(1), design)
    run, calls = replicates.Batch.run, []

    def dying(batch, method):
        calls.append(method)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return run(batch, method)

    monkeypatch.setattr(replicates.Batch, "run", dying)
    path = tmp_path / "study.npz"
    with pytest.raises(KeyboardInterrupt):
        jaxgmm.coverage_study(jax.random.key(1), design, path=path)
    resumed = jaxgmm.coverage_study(jax.random.key(1), design, path=path)
    assert len(calls) == 4 + 8 - 3
    assert without_seconds(resumed) == without_seconds(whole)
    again = jaxgmm.coverage_study(jax.random.key(1), design, path=path)
    assert len(calls) == 9
    assert repr(again.to_dict()) == repr(resumed.to_dict())
    with pytest.raises(ValueError, match="its num_datasets is 12, here it is 13"):
        jaxgmm.coverage_study(jax.random.key(1), jaxgmm.Design(**{**design.to_dict(), "num_datasets": 13}), path=path)
    alone = jaxgmm.coverage_study(jax.random.key(1), jaxgmm.Design(**{**design.to_dict(), "separations": (4.0,)}))
    assert without_seconds(alone) == without_seconds(whole)[len(alone.rows) :]  # the same data, whatever else is studied


def test_failures_are_counted():
    """EM cut off after one step: every data set is there, no interval is, and coverage counts misses."""
    design = jaxgmm.Design(
        separations=(1.0,),
        num_observations=(40,),
        num_features=1,
        num_datasets=6,
        methods=("em",),
        options={"em": {"max_iter": 1}},
    )
    study = jaxgmm.coverage_study(jax.random.key(1), design)
    for row in study.rows:
        assert row["statuses"] == {"MAX_ITER": 6}
        assert row["num_estimates"] == 6
        assert row["share_failed"] == 1
        assert row["share_undefined"] == 1
        assert row["coverage_90"] == 0
        assert np.isnan(row["coverage_90_defined"])
    assert study.to_dict()["rows"][0]["width_90"] is None
    assert max(map(len, str(study).splitlines())) <= 100


def test_rows_from_arrays():
    """Each number from its definition, an estimate that is no number and a missing interval left out where they must be."""
    rng = np.random.default_rng(0)
    estimate = rng.normal(size=(50, 2)) + [1.0, 0.0]
    estimate[3, 0] = np.nan
    defined = np.ones((50, 2), bool)
    defined[:5, 1] = False
    ends = np.where(defined[:, None], estimate[:, None], np.nan)
    found = {"estimate": estimate, "lower": ends - 1, "upper": ends + 1, "defined": defined, "failed": np.arange(50) < 10}
    first, second = rows_of([{"name": "a"}, {"name": "b"}], np.array([1.0, 0.0]), found, (0.9,), {"method": "em"})
    error = np.delete(estimate[:, 0] - 1, 3)
    assert first["num_estimates"] == 49
    assert first["bias"] == pytest.approx(error.mean())
    assert first["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert first["share_failed"] == 0.2
    hits = int((abs(estimate[5:, 1]) <= 1).sum())
    assert second["coverage_90"] == hits / 50
    assert second["coverage_90_defined"] == hits / 45
    assert second["share_undefined"] == 0.1
    assert second["width_90"] == pytest.approx(2)


def test_estimates_take_the_order_of_the_truth():
    """Swapped components are swapped back, and a fit that did not converge is marked."""
    truth = jaxgmm.Design(num_features=1).truth(4.0, "full")
    swapped = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), truth)
    empty = jnp.zeros(2)
    fits = jaxgmm.Fit(swapped, empty, empty, empty[:, None], empty, jnp.array([0, 1]), jnp.zeros((2, 2), int))
    ordered, failed = replicates._in_order(fits, truth, 100)
    np.testing.assert_array_equal(ordered.mixture.means[1], truth.means)
    assert failed.tolist() == [False, True]


def test_a_lane_is_what_a_person_would_do():
    """One data set of a batch, its prior, fit and intervals by the public functions, one after the other."""
    design = jaxgmm.Design(separations=(4.0,), num_observations=(40,), num_features=1, methods=("map",), num_datasets=6)
    truth = design.truth(4.0, "full")
    batch = replicates.Batch(jax.random.split(jax.random.key(3), 6), 40, truth, design, set())
    found, x = batch.run("map"), batch.x[2]
    prior = jaxgmm.default_prior(x, num_components=2)
    own = jaxgmm.fit(truth, x, prior, tol=1e-10, max_iter=2000, accelerate=True).mixture
    intervals = wald_intervals(own, x, prior)
    np.testing.assert_allclose(found["estimate"][2], values(own), atol=2e-3)
    np.testing.assert_allclose(found["lower"][2], intervals.lower, atol=5e-3)
    np.testing.assert_allclose(found["upper"][2], intervals.upper, atol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tied", "spherical"])
def test_every_method(kind):
    """Draws cover too where components are far apart; 10 means and weights each, binomial error 1e-6: false failure < 1e-4."""
    options = {"bootstrap": {"num_samples": 100}, "gibbs": {"num_samples": 200, "num_warmup": 50}}
    options["nuts"] = {"num_samples": 200, "num_chains": 2}
    design = jaxgmm.Design(
        separations=(5,),
        num_observations=(200,),
        covariance_types=(kind,),
        methods=("bootstrap", "gibbs", "nuts"),
        num_datasets=64,
        options=options,
    )
    study = jaxgmm.coverage_study(jax.random.key(0), design)
    for row in study.rows:
        assert row["share_failed"] == 0, row
        if row["kind"] in ("mean", "weight"):
            low, high = binom.ppf(5e-7, 64, 0.87), binom.ppf(1 - 5e-7, 64, 0.93)
            assert low <= 64 * row["coverage_90"] <= high, row


TOML = """
separations = [1, 3]
num_observations = [50]
methods = ["em", "gibbs"]
weights = [0.25, 0.75]

[prior]
mean_precision = 0.1

[options.gibbs]
num_samples = 20
"""


def test_toml(tmp_path):
    """What the file says is what the design is."""
    path = tmp_path / "design.toml"
    path.write_text(TOML)
    design = jaxgmm.Design.from_toml(path)
    assert design == jaxgmm.Design(
        separations=(1, 3),
        num_observations=(50,),
        methods=("em", "gibbs"),
        weights=(0.25, 0.75),
        prior={"mean_precision": 0.1},
        options={"gibbs": {"num_samples": 20}},
    )
    prior, truth = design.fixed_prior("diag"), design.truth(3, "diag")
    assert prior.scale.tolist() == [1, 1]
    assert float(prior.mean_precision) == pytest.approx(0.1)
    assert truth.means[:, 0].tolist() == [-1.5, 1.5]
    assert truth.weights.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("separation = [1]", "has separation, which a design has not; it has separations, num_observations"),
        ("separations = 1", "separations is 1; a list was expected"),
        ("separations = []", "separations is empty"),
        ("separations = [1, 1]", "each once"),
        ("num_observations = [1]", "num_observations"),
        ("num_components = 7", "at most 6"),
        ("methods = ['vi']", "'em', 'map', 'nuts'"),
        ("covariance_types = ['round']", "round"),
        ("probabilities = [90]", "between 0 and 1"),
        ("weights = [0.5, 0.6]", "sum to one"),
        ("prior = 'flat'", "'default' or a dict"),
        ("[prior]\nkappa = 1", "prior has kappa; it may have weight_concentration"),
        ("[prior]\ndegrees_of_freedom = 0.5", "degrees_of_freedom"),
        ("[options.gibbs]\nsweeps = 1", "gibbs has no option sweeps here; it takes"),
        ("[options.em]\ntolerance = 1", "options of em has tolerance; it may have kind, tol"),
        ("separations = [", "is not a TOML file"),
    ],
)
def test_toml_errors(tmp_path, text, message):
    """Each mistake is named, with what is known."""
    path = tmp_path / "design.toml"
    path.write_text(text)
    with pytest.raises((ValueError, TypeError), match=message.replace("[", r"\[")):
        jaxgmm.Design.from_toml(path)


def test_refusals(tmp_path):
    """A design that is none, and a folder that is not there, before any work."""
    with pytest.raises(TypeError, match="design is dict; a jaxgmm.Design was expected"):
        jaxgmm.coverage_study(jax.random.key(0), {})
    with pytest.raises(ValueError, match="no folder"):
        jaxgmm.coverage_study(jax.random.key(0), jaxgmm.Design(), path=tmp_path / "nowhere" / "study.npz")
