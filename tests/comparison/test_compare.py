"""Comparisons with fabricated posteriors, whose answers are known, and with those of real methods."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.comparison.compare import compare as compare_everything
from jaxgmm.comparison.verdict import Verdict
from jaxgmm.covariance import types as covariance_types
from jaxgmm.posterior.result import Posterior

from fabricated_comparisons import (
    CHAINS,
    COMPARISON_KEYS,
    DRAWS,
    at_the_mode_of,
    fabricate_fit,
    log_likelihood,
    make_fit,
    make_posterior,
    two_clusters,
)
from helpers import COVARIANCE_TYPES as TYPES
from helpers import slow_unless


@pytest.fixture(scope="module")
def data():
    return two_clusters()


def compare(fit, posterior, x, **options):
    """Compare without Laplace's approximation, which fabricated draws do not come from, and without densities."""
    return compare_everything(fit, posterior, x, **{"laplace": False, "scores": False} | options)


def by_name(comparison):
    """Return the rows of a comparison by the name of the parameter."""
    return {row.name: row for row in comparison.rows}


def test_numbers_are_those_of_numpy(data):
    fit = make_fit(data)
    posterior = make_posterior(fit, data, shift=0.1)
    rows = by_name(compare(fit, posterior, data, interval=0.8))
    draws = np.asarray(posterior.mixture.means, float)[..., 0, 0]
    row = rows["means[0,0]"]
    em = float(fit.mixture.means[0, 0])
    assert row.em == em
    assert row.mean == pytest.approx(draws.mean(), rel=1e-12)
    assert row.sd == pytest.approx(draws.std(ddof=1), rel=1e-12)
    assert row.median == pytest.approx(np.median(draws), rel=1e-12)
    assert (row.lower, row.upper) == pytest.approx(tuple(np.quantile(draws, [0.1, 0.9])), rel=1e-12)
    assert row.z == pytest.approx((em - draws.mean()) / draws.std(ddof=1), rel=1e-12)
    # 0.1 is two sd: the mean is under every 80 % interval, and no other is
    assert row.z == pytest.approx(-2, abs=0.2)
    assert not row.inside
    assert rows["means[1,1]"].inside
    assert row.r_hat < 1.01
    assert row.ess_bulk > 1500
    assert row.mcse == pytest.approx(0.05 / np.sqrt(2000), rel=0.2)


@pytest.mark.parametrize(
    ("covariance_type", "d"),
    slow_unless([*((name, 2) for name in TYPES), ("full", 1), ("spherical", 1)], [("tied", 2), ("spherical", 2)]),
)
def test_every_free_entry_has_a_row_that_says_where_it_is(data, covariance_type, d):
    x = data[:, :d]
    fit = fabricate_fit(x, covariance_type)
    comparison = compare(fit, make_posterior(fit, x), x, feature_names=["a", "b"][:d])
    assert len(comparison.rows) == 2 + 2 * d + covariance_types.num_free(covariance_type, 2, d)
    for row in comparison.rows:
        field, index = row.name.rstrip("]").split("[")
        index = tuple(map(int, index.split(",")))
        assert row.em == float(getattr(fit.mixture, field)[index])
        assert comparison.draws(row).shape == (CHAINS, DRAWS)
        assert comparison.draws(row).mean() == pytest.approx(row.mean)
        shared = covariance_type == "tied" and field == "covariances"
        assert row.component == (None if shared else index[0])
    free = {row.name: row.em for row in comparison.label_invariant}
    names = ["a", "b"][:d]
    assert [free[f"overall mean {name}"] for name in names] == pytest.approx([3.2] * d)  # .6 x 0 + .4 x 8
    assert [free[f"overall sd {name}"] for name in names] == pytest.approx([np.sqrt(1 + 0.24 * 64)] * d)
    assert comparison.samplers["nuts"].verdict.word == "agree"
    assert all(len(line) <= 100 for line in str(comparison).splitlines())


def known(rows):
    """Return the numbers of rows that are not NaN."""
    return [{name: value for name, value in row.to_dict().items() if value == value} for row in rows]


def test_a_swapped_chain_is_put_right(data):
    fit = make_fit(data)
    straight = compare(fit, make_posterior(fit, data), data)
    swapped = compare(fit, make_posterior(fit, data, swap_chain=2), data)
    assert known(swapped.rows) == known(straight.rows)
    assert swapped.samplers["nuts"].identified
    assert swapped.samplers["nuts"].verdict.word == "agree"
    assert swapped.samplers["nuts"].switch_rate == 0  # a chain in another order throughout does not switch
    assert swapped.samplers["nuts"].switched_chains == 1
    assert "1 of 4 chains" in " ".join(swapped.details().split())
    assert "label switching is no failure" in " ".join(swapped.details().split())


def test_labels_that_are_not_identified_are_said_so():
    x = np.random.default_rng(3).normal(size=(100, 1)).astype(np.float32)
    fit = fabricate_fit(x, means=[[-0.01], [0.01]], status=jaxgmm.Status.MAX_ITER)
    comparison = compare(fit, make_posterior(fit, x, noise=0.2), x)
    sampler = comparison.samplers["nuts"]
    assert not sampler.identified
    assert sampler.verdict.word == "labels not identified"
    text = " ".join(comparison.details().split())
    assert "NOT identified" in text
    assert "overall mean" in text
    assert "component 0 EM" not in text
    assert "2nd-largest weight" in text
    # the status of the fit is reported too
    assert any("max_iter" in note for note in sampler.notes)


def test_label_invariant_quantities_are_right(data):
    fit = make_fit(data)
    posterior = make_posterior(fit, data)
    comparison = compare(fit, posterior, data, feature_names=["a", "b"])
    rows = {row.name: row for row in comparison.label_invariant}
    assert rows["log-likelihood (nats)"].mean == pytest.approx(log_likelihood(posterior.mixture, data).mean(), abs=1e-2)
    assert rows["log joint density (nats)"].em == pytest.approx(float(fit.objective), abs=1e-2)
    assert comparison.label_free is comparison.label_invariant
    # at a mode the moments of the mixture are those of the data, except for the pull of the prior
    assert rows["overall mean b"].em == pytest.approx(data[:, 1].mean(), rel=1e-2)
    assert rows["overall sd b"].em == pytest.approx(data[:, 1].std(), rel=3e-2)
    assert rows["largest weight"].mean >= rows["2nd-largest weight"].mean


def test_mismatches_are_named(data):
    mode = make_fit(data)
    # as without a prior: the objective is the likelihood minus a tiny penalty
    likeliest = dataclasses.replace(mode, objective=mode.log_likelihood - 1e-4)
    assert compare(mode, make_posterior(mode, data), data).samplers["nuts"].notes == ()
    (note,) = compare(likeliest, make_posterior(mode, data), data).samplers["nuts"].notes
    assert "prior=posterior.prior" in note
    notes = compare(mode, make_posterior(mode, data), data + 1).samplers["nuts"].notes
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
    sampler = compare(fit, unmixed, data).samplers["nuts"]
    assert sampler.verdict.word == "chains unmixed"
    sentences = [finding.sentence for finding in sampler.findings]
    assert "R-hat" in sentences[0]
    assert "mean feature 0 of component 0" in sentences[0]
    assert any(sentence.startswith("3 draws are divergent") for sentence in sentences)
    replicates = dataclasses.replace(posterior, method="bootstrap", prior=None, stats={})
    both = compare(fit, {"bootstrap": replicates, "nuts": unmixed}, data)
    assert [s.verdict.word for s in both.samplers.values()] == ["unconfirmed", "chains unmixed"]
    assert both.conclusion.startswith("No sampler mixed")
    assert both.conclusion in " ".join(str(both).split())
    beside = compare(fit, {"nuts": posterior, "bootstrap": replicates}, data)
    assert [s.verdict.word for s in beside.samplers.values()] == ["agree", "agree"]
    assert beside.conclusion.startswith("EM agrees with the posterior, by nuts. From one bootstrap replicate")
    two = jax.tree.map(lambda leaf: leaf[:, :2] if leaf.ndim > 1 and leaf.shape[:2] == (CHAINS, DRAWS) else leaf, posterior)
    few = compare(fit, two, data)
    assert few.samplers["nuts"].verdict.word == "chains unmixed"
    json.loads(few.to_json())


def test_a_search_for_modes(data):
    """The modes are those of draws by `smc` or are given; what is said applies to all posteriors under the same prior."""
    fit = make_fit(data)
    posterior = make_posterior(fit, data)
    other = dataclasses.replace(fit.mixture, means=fit.mixture.means + 1)
    mixture = jax.tree.map(lambda *leaves: np.stack(leaves), other, fit.mixture)
    mass, objective = np.array([0.61, 0.39]), np.array([float(fit.objective) - 1, float(fit.objective)])
    modes = jaxgmm.Modes(mixture, objective, mass, np.full(2, 0.03), np.zeros(2, int))
    wider = dataclasses.replace(posterior.prior, mean_precision=posterior.prior.mean_precision * 2)
    posteriors = {"nuts": posterior, "smc": dataclasses.replace(posterior, method="smc", prior=wider)}
    comparison = compare(fit, posteriors, data, modes=modes)
    assert comparison.search.em == 1
    assert [sampler.verdict.word for sampler in comparison.samplers.values()] == ["other modes", "agree"]
    text = " ".join(comparison.details().split())
    assert "Verdict by nuts: other modes. EM's mode holds 39 % ± 3 % of the posterior; the largest other, 61 % ± 3 %" in text
    assert "modes 2 found; the mass of a mode is the share of the draws" in text
    assert "1 (EM) 39.0 % 3.0 %" in text
    assert max(map(len, str(comparison).splitlines())) <= 100
    alone = compare(fit, posterior, data)
    assert "modes not searched for, because there are no draws by smc" in " ".join(alone.details().split())
    assert alone.samplers["nuts"].verdict.word == "agree"
    sparse = dataclasses.replace(posterior.prior, weight_concentration=np.array([0.5, 0.5], np.float32))
    refused = compare(fit, dataclasses.replace(posterior, method="smc", prior=sparse), data)
    assert "modes not searched for, because prior.weight_concentration has 0.5" in " ".join(refused.details().split())
    assert compare(fit, posterior, data, modes=False).search is None
    with pytest.raises(TypeError, match="modes is str"):
        compare(fit, posterior, data, modes="all")


def test_one_component_and_weights(data):
    weight = np.r_[np.ones(60), np.zeros(40)].astype(np.float32)
    x = np.where(weight[:, None] > 0, data, np.nan)
    prior = jaxgmm.default_prior(x, num_components=1, sample_weight=weight)
    fit = fabricate_fit(data[:60], k=1)
    posterior = make_posterior(fit, data[:60], prior=prior)
    comparison = compare(at_the_mode_of(fit, posterior), posterior, x, sample_weight=weight)
    row = by_name(comparison)["weights[0]"]
    assert row.sd == 0
    assert row.z == 0
    assert row.inside
    assert comparison.samplers["nuts"].notes == ()
    assert comparison.meta.total_weight == 60
    assert comparison.samplers["nuts"].verdict.word == "agree"


def test_several_posteriors_by_name(data):
    fit = make_fit(data)
    posteriors = {"one": make_posterior(fit, data), "two": make_posterior(fit, data, shift=1.0, seed=1)}
    comparison = compare(fit, posteriors, data)
    assert [comparison.samplers[m].verdict.word for m in ("one", "two")] == ["agree", "EM outside"]
    assert {row.method for row in comparison.rows} == {"one", "two"}


def test_long_names_and_extreme_numbers_stay_on_the_page(data):
    x = data * np.array([1e-7, 1e9], np.float32)
    fit = make_fit(x)
    names = ["a_very_long_name_of_a_measured_quantity", "another_such_name_that_goes_on_and_on"]
    posterior = make_posterior(fit, x, noise=1e-3)
    text = str(compare(fit, posterior, x, feature_names=names))
    assert max(map(len, text.splitlines())) <= 100


@pytest.fixture(scope="module")
def separated():
    """Return two clusters 8 standard deviations apart, a fit, its posteriors by three methods, and their comparison."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (90, 1)), rng.normal(8, 1, (60, 1))]).astype(np.float32)
    prior = jaxgmm.default_prior(x, num_components=2)
    fit = jaxgmm.fit(jaxgmm.from_labels(x, (np.arange(150) >= 90).astype(int), num_components=2), x, prior)
    key = jax.random.key(0)
    posteriors = {
        "gibbs": jaxgmm.gibbs(key, fit.mixture, x, prior, num_samples=500, sample_weight=np.ones(150)),
        "by laplace": jaxgmm.laplace(key, fit.mixture, x, prior, num_samples=1000, sample_weight=np.ones(150)),
        "bootstrap": jaxgmm.bootstrap(key, fit.mixture, x, prior, num_samples=150, num_chains=4, tol=1e-6),
    }
    return x, fit, posteriors, compare_everything(fit, posteriors, x, feature_names=["length"], sample_weight=np.ones(150))


def test_methods_side_by_side(separated):
    """Well-separated clusters with many points: all methods agree, and every field has its documented meaning."""
    x, fit, posteriors, comparison = separated
    samplers = comparison.samplers
    assert list(samplers) == list(posteriors)
    assert [s.method for s in samplers.values()] == ["gibbs", "laplace", "bootstrap"]
    assert [samplers[name].verdict.word for name in ("gibbs", "by laplace")] == ["agree", "agree"]
    assert comparison.conclusion.startswith("EM agrees with the posterior, by gibbs. From one bootstrap replicate")
    errors = jaxgmm.standard_errors(fit.mixture, x, posteriors["gibbs"].prior)
    for row in comparison.rows:
        field, index = row.name.rstrip("]").split("[")
        assert row.em_se == pytest.approx(float(getattr(errors, field)[tuple(map(int, index.split(",")))]), rel=1e-3)
        assert 0.75 < row.sd_ratio < 1.33
        assert row.sd_ratio == row.laplace_sd / row.sd
        draws = comparison.draws(row)
        assert row.tail == pytest.approx((draws < row.em).mean() + (draws == row.em).mean() / 2, abs=1e-9)
        assert 0.8 < row.contraction <= 1
    assert samplers["gibbs"].khat < samplers["gibbs"].khat_limit < 0.7
    assert samplers["gibbs"].prior["name"] == "Prior" == comparison.meta.em.prior["name"]
    assert samplers["bootstrap"].khat is None
    assert comparison.density["bootstrap"].elpd_loo is None
    assert "elpd_loo" not in comparison.density["bootstrap"].to_dict()
    assert comparison.meta.seed == 0
    assert comparison.meta.versions["jax"] == jax.__version__


def test_joint_density_and_clustering(separated):
    x, fit, _, comparison = separated
    joint, density, clustering = (found["gibbs"] for found in (comparison.joint, comparison.density, comparison.clustering))
    assert joint.log_joint_rank == 0
    assert 1 < joint.log_joint_gap < 4
    assert joint.laplace_kl < 0.2
    assert joint.laplace_w2 < 0.6
    assert joint.farther_share > 0.9
    assert comparison.joint["by laplace"].laplace_kl < 0.1
    assert density.lpd_em == pytest.approx(float(fit.log_likelihood), abs=1e-2)
    assert density.num_khat_high == 0
    assert 3 < density.p_loo < 7
    assert density.elpd_folds == pytest.approx(density.elpd_loo, abs=2)
    assert density.elpd_folds_difference == pytest.approx(density.elpd_folds - density.elpd_folds_em, abs=1e-6)
    assert density.total_variation < 0.05
    assert density.total_variation_error == 0
    assert clustering.adjusted_rand == 1
    assert clustering.unsure_share == 0
    predictive = np.asarray(jaxgmm.predictive_log_prob(comparison.posteriors["gibbs"], x), float)
    assert predictive.sum() == pytest.approx(density.elpd_loo + density.p_loo, abs=1e-2)


def test_the_page_holds_every_method(separated):
    comparison = separated[-1]
    text = comparison.details()
    assert max(map(len, text.splitlines())) <= 100
    for words in ("Verdict by by laplace: agree.", "tail ESS", "learned", "total variation", "adjusted Rand", "mean length"):
        assert words in text
    page_of = comparison._repr_html_()
    assert page_of.startswith("<pre")
    assert page_of.endswith("</pre>")
    assert "&lt;" not in page_of[5:20]
    record = json.loads(comparison.to_json())
    assert set(record) == COMPARISON_KEYS
    assert record["density"]["gibbs"]["elpd_loo"] == comparison.density["gibbs"].elpd_loo


def test_weights_silence_and_repeat(separated):
    """Rows of weight 0 may hold NaN, and a weight of 2 counts as two rows: scores are those of the repeated data."""
    x, fit, posteriors, _ = separated
    weight = np.r_[2.0, np.ones(148), 0.0].astype(np.float32)
    padded, written = np.concatenate([x[:149], [[np.nan]]]).astype(np.float32), np.concatenate([x[:1], x[:149]])
    options = {"laplace": False, "num_folds": 0}
    one = compare_everything(fit, posteriors["gibbs"], padded, sample_weight=weight, **options).density["gibbs"]
    two = compare_everything(fit, posteriors["gibbs"], written, **options).density["gibbs"]
    for name in ("lpd_em", "elpd_loo", "elpd_loo_se", "p_loo", "kl"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), rel=1e-4), name


def test_overlapping_and_few_is_laplace_poor(separated):
    """Few overlapping points: rows of weight 0 make the shapes those of the fixture, so that nothing compiles anew."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(0, 1, (15, 1)), rng.normal(2.5, 1, (15, 1)), np.zeros((120, 1))]).astype(np.float32)
    weight = np.r_[np.ones(30), np.zeros(120)].astype(np.float32)
    prior = jaxgmm.default_prior(x[:30], num_components=2)
    fit = jaxgmm.fit(jaxgmm.from_labels(x[:30], np.arange(30) // 15, num_components=2), x[:30], prior)
    posterior = jaxgmm.gibbs(jax.random.key(0), fit.mixture, x, prior, num_samples=500, sample_weight=weight)
    sampler = compare_everything(fit, posterior, x, sample_weight=weight, scores=False).samplers["gibbs"]
    assert Verdict.LAPLACE_POOR in sampler.verdicts
    assert any("Laplace's sd is" in s or "k-hat is" in s for _, s in sampler.findings)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_verdicts_by_nuts():
    """Many well-separated points agree; four components for the two clusters of faithful get a verdict that says why not."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (1000, 2)), rng.normal(8, 1, (1000, 2))]).astype(np.float32)
    assert sampler_by_nuts(x, 2).verdict == Verdict.AGREE
    few = np.concatenate([rng.normal(0, 1, (15, 1)), rng.normal(3, 1, (15, 1))]).astype(np.float32)
    assert Verdict.LAPLACE_POOR in sampler_by_nuts(few, 2).verdicts  # whether or not the labels are identified
    verdicts = sampler_by_nuts(jaxgmm.datasets.load("faithful").astype(np.float32), 4).verdicts
    assert {Verdict.LABELS_NOT_IDENTIFIED, Verdict.CHAINS_UNMIXED, Verdict.SEVERAL_MODES} & set(verdicts)


def sampler_by_nuts(x, k):
    """Return the summary of NUTS draws."""
    prior = jaxgmm.default_prior(x, num_components=k)
    fit = jaxgmm.fit_restarts(jax.random.key(0), x, prior, num_components=k)
    posterior = jaxgmm.nuts(jax.random.key(1), fit.mixture, x, prior)
    return compare_everything(fit, posterior, x, scores=False).samplers["nuts"]
