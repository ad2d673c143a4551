"""Test coverage studies: nominal coverage where theory predicts it, counted failures, resumption bit for bit."""

import csv
import dataclasses
import io
import json

import jax
import numpy as np
import pytest
from scipy.stats import binom, norm

import jaxgmm
from jaxgmm.coverage import replicates
from jaxgmm.coverage import study as module
from jaxgmm.coverage.design import StudyCell
from jaxgmm.studies.intervals import wald_intervals
from jaxgmm.studies.parameters import values

B = 128
EASY = {
    "separations": (5.0,),
    "num_observations": (200,),
    "num_features": 1,
    "methods": ("em", "laplace"),
    "num_datasets": B,
    "options": {"laplace": {"num_samples": 150}},
}


@pytest.fixture(scope="module")
def easy():
    """Return a study of distant components with many observations, where intervals should have their nominal coverage."""
    return jaxgmm.coverage_study(jax.random.key(0), jaxgmm.Design(**EASY))


@pytest.fixture(scope="module")
def small():
    """Return a study of twelve data sets in each of two cells, which runs in batches of eight."""
    options = {"em": {"max_iter": 2000}}
    design = jaxgmm.Design(
        separations=(1.0, 4.0),
        num_observations=(40,),
        num_features=1,
        num_datasets=12,
        methods=("em",),
        options=options,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "COVERAGE_FILE_BATCH", 8)
        return jaxgmm.coverage_study(jax.random.key(1), design)


def without_seconds(study):
    """Return the rows as text, which is equal exactly if all numbers but the seconds are."""
    return [repr(dataclasses.replace(row, seconds_per_dataset=0.0)) for row in study.rows]


@pytest.mark.slow
def test_nominal_coverage(easy):
    """Each of 24 coverages lies in a binomial interval of error 1e-5, widened by 3 points for N = 200: false failure < 3e-4."""
    assert len(easy.rows) == 12
    for row in easy.rows:
        assert list(row.intervals) == [0.5, 0.9]
        for p, interval in row.intervals.items():
            low, high = binom.ppf(5e-6, B, p - 0.03), binom.ppf(1 - 5e-6, B, p + 0.03)
            assert low <= B * interval.coverage <= high, (row.method, row.name, p, interval)
            assert interval.coverage == interval.coverage_defined  # none undefined
        assert row.share_undefined == row.share_failed == 0
        assert row.num_datasets == row.num_estimates == B


def expected_errors(design):
    """Compute the standard errors of weights, means and variances from the Fisher information (K = 2, D = 1), by quadrature."""
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


@pytest.mark.slow
def test_errors_are_those_of_theory(easy):
    """RMSE and widths agree with the Fisher information; the bias of ML is within 5 standard errors. False failure < 1e-4.

    RMSE within 30 %: more than 4 standard errors (6.3 %) and 4 % for N = 200; width within 6 %: its standard error is 1 %.
    """
    expected = dict(zip([row.name for row in easy.rows[:6]], expected_errors(easy.design), strict=True))
    for row in easy.rows:
        assert row.rmse == pytest.approx(expected[row.name], rel=0.3), row
        assert row.rmse_se == pytest.approx(row.rmse / np.sqrt(2 * B), rel=0.5)
        if row.kind != "variance":
            width = row.intervals[0.9].width
            assert width == pytest.approx(2 * norm.ppf(0.95) * expected[row.name], rel=0.06), row
            assert row.intervals[0.9].width_median == pytest.approx(width, rel=0.05)
            assert row.method != "em" or abs(row.bias) < 5 * row.bias_se


def test_exports(small):
    """CSV, JSON and the data frame hold every row, with seeds and versions; the page has 100 columns and names its units."""
    table = list(csv.DictReader(io.StringIO(small.to_csv())))
    assert len(table) == len(small.rows) == 12
    assert float(table[0]["bias"]) == small.rows[0].bias
    assert float(table[0]["coverage_90"]) == small.rows[0].intervals[0.9].coverage
    assert "CONVERGED" in table[0]["statuses"]
    frame = small.to_dataframe()
    assert list(frame.columns) == list(table[0]) == list(small.rows[0].to_dict())
    assert frame["rmse"].tolist() == [row.rmse for row in small.rows]
    found = json.loads(small.to_json())
    assert found["rows"] == [json.loads(json.dumps(row.to_dict())) for row in small.rows]
    assert found["meta"]["key"] == [0, 1]
    assert set(found["meta"]["versions"]) == {"jax", "numpy", "numpyro"}
    assert found["design"]["options"] == {"em": {"max_iter": 2000}}
    page = str(small)
    assert max(map(len, page.splitlines())) <= 100
    assert "em" in page.split()
    assert "data units" in page


def test_an_interrupted_study_continues_bit_for_bit(small, tmp_path, monkeypatch):
    """A study that died in its third batch computes only what is missing, and ends as one that never died."""
    whole, design = small, small.design
    monkeypatch.setattr(module, "COVERAGE_FILE_BATCH", 8)
    run, calls = replicates.Batch.run, []

    def dying(batch, method):
        calls.append(method)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(batch, method)

    monkeypatch.setattr(replicates.Batch, "run", dying)
    path = tmp_path / "study.npz"
    with pytest.raises(KeyboardInterrupt):
        jaxgmm.coverage_study(jax.random.key(1), design, path=path)
    resumed = jaxgmm.coverage_study(jax.random.key(1), design, path=path)
    assert len(calls) == 3 + 4 - 2
    assert without_seconds(resumed) == without_seconds(whole)
    again = jaxgmm.coverage_study(jax.random.key(1), design, path=path)
    assert len(calls) == 5
    assert repr(again.to_dict()) == repr(resumed.to_dict())
    with pytest.raises(ValueError, match="its num_datasets is 12, here it is 13"):
        jaxgmm.coverage_study(jax.random.key(1), jaxgmm.Design(**{**design.to_dict(), "num_datasets": 13}), path=path)
    alone = jaxgmm.coverage_study(jax.random.key(1), jaxgmm.Design(**{**design.to_dict(), "separations": (4.0,)}))
    assert without_seconds(alone) == without_seconds(whole)[len(alone.rows) :]  # the data do not depend on the other cells


@pytest.mark.slow
@pytest.mark.parametrize(("code", "prior"), [("VEI", "default"), ("EVV", {"scale": 1.5}), ("VEV", "default")])
def test_coupled_covariances(code, prior):
    """Components that share volumes, shapes or orientations are fitted and sampled; errors fall with N."""
    design = jaxgmm.Design(
        separations=(6.0,),
        num_observations=(60, 600),
        covariance_types=(code,),
        methods=("em", "map", "laplace", "bootstrap"),
        num_datasets=16,
        prior=prior,
        options={"laplace": {"num_samples": 100}, "bootstrap": {"num_samples": 30}},
    )
    study = jaxgmm.coverage_study(jax.random.key(0), design)
    assert len(study.rows) == 2 * 4 * 12
    errors = {count: [row.rmse for row in study.rows if row.num_observations == count] for count in (60, 600)}
    assert np.mean(errors[600]) < 0.6 * np.mean(errors[60])  # root of 1 / 10 is 0.32
    assert all(row.share_failed < 0.2 for row in study.rows)


def test_a_batch_agrees_with_the_public_functions():
    """Fit and intervals of one data set are those of separate calls; the shapes are those of the study above."""
    design = jaxgmm.Design(separations=(4.0,), num_observations=(40,), num_features=1, methods=("em",), num_datasets=8)
    batch = replicates.Batch(jax.random.split(jax.random.key(3), 8), StudyCell("full", 40, 4.0), design)
    found, x = batch.run("em"), batch.x[2]
    own = jaxgmm.fit(batch.truth, x, tol=1e-10, max_iter=2000, accelerate=True).mixture
    intervals = wald_intervals(own, x, None)
    np.testing.assert_allclose(found["estimate"][2], values(own), atol=2e-3)
    np.testing.assert_allclose(found["lower"][2], intervals.lower, atol=5e-3)
    np.testing.assert_allclose(found["upper"][2], intervals.upper, atol=5e-3)


def test_failures_are_counted():
    """If EM is stopped after one step, every data set is counted, no interval is defined, and coverage counts misses."""
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
        assert row.statuses == {"MAX_ITER": 6}
        assert row.num_estimates == 6
        assert row.share_failed == 1
        assert row.share_undefined == 1
        assert row.intervals[0.9].coverage == 0
        assert np.isnan(row.intervals[0.9].coverage_defined)
    assert study.to_dict()["rows"][0]["width_90"] is None
    assert max(map(len, str(study).splitlines())) <= 100


@pytest.mark.slow
@pytest.mark.parametrize("covariance_type", ["tied", "spherical"])
def test_every_method(covariance_type):
    """Draws have nominal coverage if components are far apart; 10 means and weights, error 1e-6: false failure < 1e-4."""
    options = {"bootstrap": {"num_samples": 100}, "gibbs": {"num_samples": 200, "num_warmup": 50}}
    options["nuts"] = {"num_samples": 200, "num_chains": 2}
    design = jaxgmm.Design(
        separations=(5,),
        num_observations=(200,),
        covariance_types=(covariance_type,),
        methods=("bootstrap", "gibbs", "nuts"),
        num_datasets=64,
        options=options,
    )
    study = jaxgmm.coverage_study(jax.random.key(0), design)
    for row in study.rows:
        assert row.share_failed == 0, row
        if row.kind in ("mean", "weight"):
            low, high = binom.ppf(5e-7, 64, 0.87), binom.ppf(1 - 5e-7, 64, 0.93)
            assert low <= 64 * row.intervals[0.9].coverage <= high, row


@pytest.mark.slow
def test_missing_values():
    """With a fifth of the values missing, means and weights have nominal coverage, as in `test_every_method`."""
    options = {"gibbs": {"num_samples": 200, "num_warmup": 50, "num_chains": 1}, "laplace": {"num_samples": 200}}
    design = jaxgmm.Design(
        separations=(5,), num_observations=(200,), covariance_types=("diag",), missing=0.2, num_datasets=64, options=options,
        methods=("em", "map", "laplace", "gibbs"),
    )  # fmt: skip
    study = jaxgmm.coverage_study(jax.random.key(0), design)
    print(study)
    assert "; 20 % of the values are missing" in " ".join(str(study).split())
    for row in study.rows:
        assert row.share_failed == 0, row
        if row.kind in ("mean", "weight"):
            low, high = binom.ppf(5e-7, 64, 0.87), binom.ppf(1 - 5e-7, 64, 0.93)
            assert low <= 64 * row.intervals[0.9].coverage <= high, row


def test_refusals(tmp_path):
    """A design of the wrong type and a missing folder are refused before any work."""
    with pytest.raises(TypeError, match=r"design is dict; a jaxgmm\.Design was expected"):
        jaxgmm.coverage_study(jax.random.key(0), {})
    with pytest.raises(ValueError, match="no folder"):
        jaxgmm.coverage_study(jax.random.key(0), jaxgmm.Design(), path=tmp_path / "nowhere" / "study.npz")
