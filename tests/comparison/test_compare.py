"""compare on fabricated posteriors whose answers are known."""

import csv
import dataclasses
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import jaxgmm
from jaxgmm import covariance
from jaxgmm.comparison import summaries as rows
from jaxgmm.comparison import text_report as page
from jaxgmm.comparison.compare import compare as compare_everything
from jaxgmm.posterior.result import Posterior, PosteriorStatus

TYPES = ("full", "tied", "diag", "spherical")
CHAINS, DRAWS = 4, 500
OPTIONS = ("interval", "feature_names", "laplace", "num_folds", "seed")


@pytest.fixture(scope="module")
def data():
    """Two clusters 8 sd apart in two features; float32, as most users have."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(0, 1, (60, 2)), rng.normal(8, 1, (40, 2))]).astype(np.float32)


def compare(fit, posterior, x, **options):
    """Without Laplace, which knows nothing of draws made up, and without densities."""
    return compare_everything(fit, posterior, x, **{"laplace": False, "scores": False} | options)


def log_likelihood(mixture, x):
    """Of a stack (...), by NumPy: what compare says of likelihoods is checked against this."""
    d = mixture.num_features
    weights, means, stored = (np.asarray(v, float) for v in (mixture.weights, mixture.means, mixture.covariances))
    if covariance.is_dense(mixture.covariance_type):
        matrices = np.broadcast_to(stored, (*means.shape, d))
    else:
        matrices = np.broadcast_to(stored, means.shape)[..., None] * np.eye(d)
    z = np.linalg.solve(np.linalg.cholesky(matrices), np.swapaxes(x - means[..., None, :], -1, -2))  # (..., K, D, N)
    half_log_det = np.log(np.linalg.det(2 * np.pi * matrices)) / 2
    joint = np.log(weights)[..., None] - half_log_det[..., None] - (z**2).sum(-2) / 2  # (..., K, N)
    return logsumexp(joint, axis=-2).sum(-1)


def make_fit(x):
    """The mode under the default prior."""
    prior = jaxgmm.default_prior(x, num_components=2)
    return jaxgmm.fit(jaxgmm.from_labels(x, (np.arange(100) >= 60).astype(int), num_components=2), x, prior)


def fabricate_fit(x, kind="full", *, k=2, status=jaxgmm.Status.CONVERGED, means=None):
    """Nothing maximised, so quick."""
    d = x.shape[1]
    shape = covariance.storage_shape(kind, k, d)
    covariances = np.broadcast_to(np.eye(d) if covariance.is_dense(kind) else 1.0, shape)
    means = [[0.0] * d, [8.0] * d][:k] if means is None else means
    mixture = jaxgmm.make_mixture([0.6, 0.4] if k == 2 else [1.0], means, covariances, covariance_type=kind)
    likelihood = jnp.asarray(log_likelihood(mixture, x), float)
    return jaxgmm.Fit(mixture, likelihood, likelihood, likelihood[None], np.array(0), np.array(status), np.zeros(k, int))


def make_posterior(fit, x, *, noise=0.05, shift=0.0, seed=0, prior=None, swap_chain=None):
    """Draws around an EM solution: log-normal factors on the covariances and weights, normal means; means[0, 0] shifted."""
    rng, m = np.random.default_rng(seed), fit.mixture
    weights = np.asarray(m.weights) * np.exp(noise * rng.normal(size=(CHAINS, DRAWS, m.num_components)))
    weights /= weights.sum(-1, keepdims=True)
    means = np.asarray(m.means) + noise * rng.normal(size=(CHAINS, DRAWS, *m.means.shape))
    means[..., 0, 0] += shift
    factor = np.exp(noise * rng.normal(size=(CHAINS, DRAWS, m.covariances.shape[0])))
    covariances = np.asarray(m.covariances) * factor.reshape(*factor.shape, *[1] * (m.covariances.ndim - 1))
    if swap_chain is not None:
        weights[swap_chain], means[swap_chain] = weights[swap_chain, :, ::-1], means[swap_chain, :, ::-1]
        covariances[swap_chain] = covariances[swap_chain, :, ::-1]
    stack = jaxgmm.Mixture(*(jnp.asarray(v, m.means.dtype) for v in (weights, means, covariances)), m.covariance_type)
    if prior is None:
        prior = jaxgmm.default_prior(x, num_components=m.num_components, covariance_type=m.covariance_type)
    stats = {"diverging": np.zeros((CHAINS, DRAWS), bool)}
    likelihood = jnp.asarray(log_likelihood(stack, x), float)
    posterior = Posterior(stack, likelihood, prior, np.array(PosteriorStatus.OK), stats, "nuts")
    # the program that compare uses too, which thus compiles once; test_prior.py holds its numbers against SciPy's
    return dataclasses.replace(posterior, log_density=jnp.asarray(likelihood + rows.log_priors(fit, posterior)[1], float))


def at_the_mode_of(fit, posterior):
    """The fit with the objective that it would have under the posterior's prior."""
    return dataclasses.replace(fit, objective=fit.log_likelihood + rows.log_priors(fit, posterior)[0])


def by_name(comparison):
    return {row["name"]: row for row in comparison.rows}


def test_numbers_are_those_of_numpy(data):
    fit = make_fit(data)
    posterior = make_posterior(fit, data, shift=0.1)
    rows = by_name(compare(fit, posterior, data, interval=0.8))
    draws = np.asarray(posterior.mixture.means, float)[..., 0, 0]
    row = rows["means[0,0]"]
    em = float(fit.mixture.means[0, 0])
    assert row["em"] == em
    assert row["mean"] == pytest.approx(draws.mean(), rel=1e-12)
    assert row["sd"] == pytest.approx(draws.std(ddof=1), rel=1e-12)
    assert row["median"] == pytest.approx(np.median(draws), rel=1e-12)
    assert (row["lower"], row["upper"]) == pytest.approx(tuple(np.quantile(draws, [0.1, 0.9])), rel=1e-12)
    assert row["z"] == pytest.approx((em - draws.mean()) / draws.std(ddof=1), rel=1e-12)
    # 0.1 is two sd: the mean is under every 80 % interval, and no other is
    assert row["z"] == pytest.approx(-2, abs=0.2)
    assert not row["inside"]
    assert rows["means[1,1]"]["inside"]
    assert row["r_hat"] < 1.01
    assert row["ess_bulk"] > 1500
    assert row["mcse"] == pytest.approx(0.05 / np.sqrt(2000), rel=0.2)


@pytest.mark.parametrize(("kind", "d"), [*((kind, 2) for kind in TYPES), ("full", 1), ("spherical", 1)])
def test_every_free_entry_has_a_row_that_says_where_it_is(data, kind, d):
    x = data[:, :d]
    fit = fabricate_fit(x, kind)
    comparison = compare(fit, make_posterior(fit, x), x, feature_names=["a", "b"][:d])
    assert len(comparison.rows) == 2 + 2 * d + covariance.num_free(kind, 2, d)
    for row in comparison.rows:
        field, index = row["name"].rstrip("]").split("[")
        index = tuple(map(int, index.split(",")))
        assert row["em"] == float(getattr(fit.mixture, field)[index])
        assert comparison.draws(row).shape == (CHAINS, DRAWS)
        assert comparison.draws(row).mean() == pytest.approx(row["mean"])
        shared = kind == "tied" and field == "covariances"
        assert row["component"] == (None if shared else index[0])
    free = {row["name"]: row["em"] for row in comparison.label_free}
    names = ["a", "b"][:d]
    assert [free[f"overall mean {name}"] for name in names] == pytest.approx([3.2] * d)  # .6 x 0 + .4 x 8
    assert [free[f"overall sd {name}"] for name in names] == pytest.approx([np.sqrt(1 + 0.24 * 64)] * d)
    assert comparison.samplers["nuts"]["verdict"]["word"] == "agree"
    assert all(len(line) <= 100 for line in str(comparison).splitlines())


def test_a_swapped_chain_is_put_right(data):
    fit = make_fit(data)
    straight = compare(fit, make_posterior(fit, data), data)
    swapped = compare(fit, make_posterior(fit, data, swap_chain=2), data)
    assert [{k: v for k, v in row.items() if v == v} for row in swapped.rows] == [
        {k: v for k, v in row.items() if v == v} for row in straight.rows
    ]
    assert swapped.samplers["nuts"]["identified"]
    assert swapped.samplers["nuts"]["verdict"]["word"] == "agree"
    assert swapped.samplers["nuts"]["switch_rate"] == 0  # a chain in another order throughout does not switch
    assert swapped.samplers["nuts"]["switched_chains"] == 1
    assert "1 of 4 chains" in str(swapped)
    assert "switching, no failure" in str(swapped)


def test_labels_that_are_not_identified_are_said_so():
    x = np.random.default_rng(3).normal(size=(100, 1)).astype(np.float32)
    fit = fabricate_fit(x, means=[[-0.01], [0.01]], status=jaxgmm.Status.MAX_ITER)
    comparison = compare(fit, make_posterior(fit, x, noise=0.2), x)
    sampler = comparison.samplers["nuts"]
    assert not sampler["identified"]
    assert sampler["verdict"]["word"] == "labels not identified"
    text = " ".join(str(comparison).split())
    assert "NOT identified" in text
    assert "overall mean" in text
    assert "component 0 EM" not in text
    assert "2nd-largest weight" in text
    # the fit's own complaint is passed on
    assert any("max_iter" in note for note in sampler["notes"])


def test_label_free_quantities_are_right(data):
    fit = make_fit(data)
    posterior = make_posterior(fit, data)
    comparison = compare(fit, posterior, data, feature_names=["a", "b"])
    rows = {row["name"]: row for row in comparison.label_free}
    assert rows["log-likelihood (nats)"]["mean"] == pytest.approx(log_likelihood(posterior.mixture, data).mean(), abs=1e-2)
    assert rows["log joint density (nats)"]["em"] == pytest.approx(float(fit.objective), abs=1e-2)
    # under a mode the moments of the mixture are those of the data, but for the prior's pull
    assert rows["overall mean b"]["em"] == pytest.approx(data[:, 1].mean(), rel=1e-2)
    assert rows["overall sd b"]["em"] == pytest.approx(data[:, 1].std(), rel=3e-2)
    assert rows["largest weight"]["mean"] >= rows["2nd-largest weight"]["mean"]


def test_mismatches_are_named(data):
    mode = make_fit(data)
    # as without a prior: the objective is the likelihood, less a penalty of next to nothing
    likeliest = dataclasses.replace(mode, objective=mode.log_likelihood - 1e-4)
    assert compare(mode, make_posterior(mode, data), data).samplers["nuts"]["notes"] == []
    (note,) = compare(likeliest, make_posterior(mode, data), data).samplers["nuts"]["notes"]
    assert "prior=posterior.prior" in note
    notes = compare(mode, make_posterior(mode, data), data + 1).samplers["nuts"]["notes"]
    assert any("not made on these data" in note for note in notes)


def test_unmixed_and_few_draws_are_a_verdict(data):
    fit = make_fit(data)
    posterior = make_posterior(fit, data)
    means = posterior.mixture.means.at[0, :, 0, 0].add(0.2)
    stack = jaxgmm.Mixture(posterior.mixture.weights, means, posterior.mixture.covariances)
    unmixed = Posterior(
        stack,
        posterior.log_density,
        posterior.prior,
        posterior.status,
        {"diverging": np.arange(CHAINS * DRAWS).reshape(CHAINS, DRAWS) < 3},
    )
    verdict = compare(fit, unmixed, data).samplers["nuts"]["verdict"]
    assert verdict["word"] == "chains unmixed"
    assert "R-hat" in verdict["sentences"][0]
    assert "mean feature 0 of component 0" in verdict["sentences"][0]
    assert any(sentence.startswith("3 draws are divergent") for sentence in verdict["sentences"])
    two = jax.tree.map(lambda leaf: leaf[:, :2] if leaf.ndim > 1 and leaf.shape[:2] == (CHAINS, DRAWS) else leaf, posterior)
    few = compare(fit, two, data)
    assert few.samplers["nuts"]["verdict"]["word"] == "chains unmixed"
    json.loads(few.to_json())


def test_one_component_and_weights(data):
    weight = np.r_[np.ones(60), np.zeros(40)].astype(np.float32)
    x = np.where(weight[:, None] > 0, data, np.nan)
    prior = jaxgmm.default_prior(x, num_components=1, sample_weight=weight)
    fit = fabricate_fit(data[:60], k=1)
    posterior = make_posterior(fit, data[:60], prior=prior)
    comparison = compare(at_the_mode_of(fit, posterior), posterior, x, sample_weight=weight)
    row = by_name(comparison)["weights[0]"]
    assert row["sd"] == 0
    assert row["z"] == 0
    assert row["inside"]
    assert comparison.samplers["nuts"]["notes"] == []
    assert comparison.meta["total_weight"] == 60
    assert comparison.samplers["nuts"]["verdict"]["word"] == "agree"


def test_several_posteriors_by_name(data):
    fit = make_fit(data)
    posteriors = {"one": make_posterior(fit, data), "two": make_posterior(fit, data, shift=1.0, seed=1)}
    comparison = compare(fit, posteriors, data)
    assert [comparison.samplers[m]["verdict"]["word"] for m in ("one", "two")] == ["agree", "EM outside"]
    assert {row["method"] for row in comparison.rows} == {"one", "two"}


def test_json_and_csv_hold_every_number(data, tmp_path):
    fit = make_fit(data)
    comparison = compare(fit, make_posterior(fit, data), data, feature_names=["a, b", "c"])
    record = json.loads(comparison.to_json(tmp_path / "c.json"))
    assert record == json.loads((tmp_path / "c.json").read_text())
    assert record["parameters"] == [{k: v if v == v else None for k, v in row.items()} for row in comparison.rows]
    rows = list(csv.DictReader(io.StringIO(comparison.to_csv(tmp_path / "c.csv"))))
    assert len(rows) == len(comparison.rows) + len(comparison.label_free)
    assert float(rows[0]["em"]) == comparison.rows[0]["em"]
    assert (tmp_path / "c.csv").read_text() == comparison.to_csv()


def test_long_names_and_extreme_numbers_stay_on_the_page(data):
    x = data * np.array([1e-7, 1e9], np.float32)
    fit = make_fit(x)
    names = ["a_very_long_name_of_a_measured_quantity", "another_such_name_that_goes_on_and_on"]
    posterior = make_posterior(fit, x, noise=1e-3)
    text = str(compare(fit, posterior, x, feature_names=names))
    assert max(map(len, text.splitlines())) <= 100


def test_numbers_have_the_digits_that_their_sd_makes_worth_reading():
    assert page.numbers([1234.5678, 1.3], 1.3) == ["1234.6", "1.3"]
    assert page.numbers([0.5, 0.0], 0.0) == ["0.50000", "0.00000"]
    assert page.numbers([-0.0001, 0.03], 0.03) == ["0.000", "0.030"]
    assert page.numbers([float("nan"), 1.0], 1.0) == ["-", "1.0"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"fit": "mixture"}, TypeError, "a jaxgmm.Fit was expected"),
        ({"posterior": "mixture"}, TypeError, "a jaxgmm.Posterior was expected"),
        ({"posterior": "empty"}, ValueError, "at least one posterior"),
        ({"posterior": "other"}, ValueError, "the same model"),
        ({"x": "wide"}, ValueError, "features"),
        ({"interval": 1.0}, ValueError, "under 1"),
        ({"interval": "0.9"}, TypeError, "number"),
        ({"feature_names": ["a"]}, ValueError, "one a column"),
        ({"laplace": 1.5}, TypeError, "None, True or False"),
        ({"num_folds": -1}, ValueError, "num_folds"),
        ({"seed": 0.5}, TypeError, "seed"),
    ],
)
def test_refused_with_a_sentence(data, change, error, words):
    fit, other = fabricate_fit(data, "full"), fabricate_fit(data, "diag")
    posterior = make_posterior(fit, data)
    stand_ins = {
        ("fit", "mixture"): fit.mixture,
        ("posterior", "mixture"): posterior.mixture,
        ("posterior", "empty"): {},
        ("posterior", "other"): make_posterior(other, data),
        ("x", "wide"): np.ones((5, 3)),
    }
    arguments = {"fit": fit, "posterior": posterior, "x": data}
    for name, value in change.items():
        arguments[name] = stand_ins.get((name, value), value) if isinstance(value, str) else value
    options = {name: arguments.pop(name) for name in OPTIONS if name in arguments}
    with pytest.raises(error, match=words):
        compare(**arguments, **options)


@pytest.fixture(scope="module")
def separated():
    """Two clusters 8 sd apart, as many as take no time, and what four methods say of them."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (90, 1)), rng.normal(8, 1, (60, 1))]).astype(np.float32)
    prior = jaxgmm.default_prior(x, num_components=2)
    fit = jaxgmm.fit(jaxgmm.from_labels(x, (np.arange(150) >= 90).astype(int), num_components=2), x, prior)
    key = jax.random.key(0)
    posteriors = {
        "gibbs": jaxgmm.gibbs(key, fit.mixture, x, prior, num_samples=500, sample_weight=np.ones(150)),
        "by laplace": jaxgmm.laplace(key, fit.mixture, x, prior, num_samples=1000, sample_weight=np.ones(150)),
        "bootstrap": jaxgmm.bootstrap(key, fit.mixture, x, prior, num_samples=500, num_chains=4, tol=1e-6),
    }
    return x, fit, posteriors, compare_everything(fit, posteriors, x, feature_names=["length"], sample_weight=np.ones(150))


def test_methods_side_by_side(separated):
    """Where clusters are far apart and many points each, all agree; every field is there and means what it says."""
    x, fit, posteriors, comparison = separated
    samplers = comparison.samplers
    assert list(samplers) == list(posteriors)
    assert [s["method"] for s in samplers.values()] == ["gibbs", "laplace", "bootstrap"]
    assert [samplers[name]["verdict"]["word"] for name in ("gibbs", "by laplace")] == ["agree", "agree"]
    errors = jaxgmm.standard_errors(fit.mixture, x, posteriors["gibbs"].prior)
    for row in comparison.rows:
        field, index = row["name"].rstrip("]").split("[")
        assert row["em_se"] == pytest.approx(float(getattr(errors, field)[tuple(map(int, index.split(",")))]), rel=1e-3)
        assert 0.75 < row["sd_ratio"] < 1.33
        assert row["sd_ratio"] == row["laplace_sd"] / row["sd"]
        draws = comparison.draws(row)
        assert row["tail"] == pytest.approx((draws < row["em"]).mean() + (draws == row["em"]).mean() / 2, abs=1e-9)
        assert 0.8 < row["contraction"] <= 1
    assert samplers["gibbs"]["khat"] < samplers["gibbs"]["khat_limit"] < 0.7
    assert samplers["gibbs"]["prior"]["name"] == "Prior" == comparison.meta["em"]["prior"]["name"]
    assert samplers["bootstrap"]["khat"] is None
    assert "elpd_loo" not in comparison.density["bootstrap"]
    assert comparison.meta["seed"] == 0
    assert comparison.meta["versions"]["jax"] == jax.__version__


def test_joint_density_and_clustering(separated):
    x, fit, posteriors, comparison = separated
    joint, density, clustering = (found["gibbs"] for found in (comparison.joint, comparison.density, comparison.clustering))
    assert joint["log_joint_rank"] == 0
    assert 1 < joint["log_joint_gap"] < 4
    assert joint["laplace_kl"] < 0.2
    assert joint["laplace_w2"] < 0.6
    assert joint["farther_share"] > 0.9
    assert comparison.joint["by laplace"]["laplace_kl"] < 0.1
    assert density["lpd_em"] == pytest.approx(float(fit.log_likelihood), abs=1e-2)
    assert density["num_khat_high"] == 0
    assert 3 < density["p_loo"] < 7
    assert density["elpd_folds"] == pytest.approx(density["elpd_loo"], abs=2)
    assert density["elpd_folds_difference"] == pytest.approx(density["elpd_folds"] - density["elpd_folds_em"], abs=1e-6)
    assert density["total_variation"] < 0.05
    assert density["total_variation_error"] == 0
    assert clustering["adjusted_rand"] == 1
    assert clustering["unsure_share"] == 0
    predictive = np.asarray(jaxgmm.predictive_log_prob(comparison.posteriors["gibbs"], x), float)
    assert predictive.sum() == pytest.approx(density["elpd_loo"] + density["p_loo"], abs=1e-2)


def test_the_page_holds_every_method(separated):
    comparison = separated[-1]
    text = str(comparison)
    assert max(map(len, text.splitlines())) <= 100
    for words in ("Verdict by by laplace: agree.", "tail ESS", "learned", "total variation", "adjusted Rand", "mean length"):
        assert words in text
    page_of = comparison._repr_html_()
    assert page_of.startswith("<pre")
    assert page_of.endswith("</pre>")
    assert "&lt;" not in page_of[5:20]
    record = json.loads(comparison.to_json())
    assert set(record) == {"interval", "meta", "samplers", "parameters", "label_free", "joint", "density", "clustering"}
    assert record["density"]["gibbs"]["elpd_loo"] == comparison.density["gibbs"]["elpd_loo"]


def test_weights_silence_and_repeat(separated):
    """Rows of weight 0 hold NaN; a weight of 2 is a row twice. Scores are those of the data written out."""
    x, fit, posteriors, _ = separated
    weight = np.r_[2.0, np.ones(148), 0.0].astype(np.float32)
    padded, written = np.concatenate([x[:149], [[np.nan]]]).astype(np.float32), np.concatenate([x[:1], x[:149]])
    options = {"laplace": False, "num_folds": 0}
    one = compare_everything(fit, posteriors["gibbs"], padded, sample_weight=weight, **options).density["gibbs"]
    two = compare_everything(fit, posteriors["gibbs"], written, **options).density["gibbs"]
    for name in ("lpd_em", "elpd_loo", "elpd_loo_se", "p_loo", "kl"):
        assert one[name] == pytest.approx(two[name], rel=1e-4), name


def test_overlapping_and_few_is_laplace_poor(separated):
    """N = 30, two sd and a half apart, and rows that do not count, so that programs are those of the fixture."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(0, 1, (15, 1)), rng.normal(2.5, 1, (15, 1)), np.zeros((120, 1))]).astype(np.float32)
    weight = np.r_[np.ones(30), np.zeros(120)].astype(np.float32)
    prior = jaxgmm.default_prior(x[:30], num_components=2)
    fit = jaxgmm.fit(jaxgmm.from_labels(x[:30], np.arange(30) // 15, num_components=2), x[:30], prior)
    posterior = jaxgmm.gibbs(jax.random.key(0), fit.mixture, x, prior, num_samples=500, sample_weight=weight)
    verdict = compare_everything(fit, posterior, x, sample_weight=weight, scores=False).samplers["gibbs"]["verdict"]
    assert "Laplace poor" in verdict["words"]
    assert any("Laplace's sd is" in s or "k-hat is" in s for s in verdict["sentences"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_verdicts_by_nuts():
    """Far apart and many: agree. Four components on the two of faithful: not to be believed, and it says why."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (1000, 2)), rng.normal(8, 1, (1000, 2))]).astype(np.float32)
    assert verdict_by_nuts(x, 2)["word"] == "agree"
    few = np.concatenate([rng.normal(0, 1, (15, 1)), rng.normal(3, 1, (15, 1))]).astype(np.float32)
    assert "Laplace poor" in verdict_by_nuts(few, 2)["words"]  # whether or not the labels are identified
    words = verdict_by_nuts(jaxgmm.datasets.load("faithful").astype(np.float32), 4)["words"]
    assert {"labels not identified", "chains unmixed", "several modes"} & set(words)


def verdict_by_nuts(x, k):
    prior = jaxgmm.default_prior(x, num_components=k)
    fit = jaxgmm.fit_restarts(jax.random.key(0), x, prior, num_components=k)
    posterior = jaxgmm.nuts(jax.random.key(1), fit.mixture, x, prior)
    return compare_everything(fit, posterior, x, scores=False).samplers["nuts"]["verdict"]
