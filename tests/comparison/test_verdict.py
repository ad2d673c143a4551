"""Verdicts: each word from the numbers that cause it, the gravest first."""

import numpy as np
import pytest

from jaxgmm.comparison.verdict import WORDS, chains_apart, judge, khat_limit
from jaxgmm.studies.parameters import Parameter


def row(**changes):
    base = dict(kind="mean", name="means[0,0]", features=["a"], component=0, em=0.5, mean=0.5, z=0.1, inside=True)
    return base | dict(r_hat=1.0, ess_bulk=900.0, sd_ratio=1.0) | changes


def sampler(**changes):
    base = dict(method="nuts", chains=4, divergences=0, identified=True, unclear_rate=0.3, switch_rate=0.0, switched_chains=0)
    return base | dict(khat=0.3, khat_limit=0.697, laplace_sound=True, apart=None, other_share=None) | changes


APART = {"name": "overall sd a", "distance": 12.0}


@pytest.mark.parametrize(
    ("rows", "health", "word", "number"),
    [
        ([row()], {}, "agree", "0.10 posterior sd"),
        ([row(r_hat=1.0099, ess_bulk=400)], {}, "agree", ""),
        ([row(r_hat=1.01)], {}, "chains unmixed", "R-hat is 1.010"),
        ([row(ess_bulk=399.0)], {}, "chains unmixed", "at least 400"),
        ([row()], {"apart": APART}, "several modes", "12 Monte Carlo standard errors"),
        ([row()], {"other_share": 0.3}, "several modes", "30 %"),
        ([row()], {"identified": False}, "labels not identified", "30.0 % of the draws"),
        ([row(inside=False, z=2.5)], {}, "EM outside", "2.50 posterior sd"),
        ([row()], {"khat": 0.697}, "Laplace poor", "k-hat is 0.70, where under 0.70"),
        ([row()], {"khat": float("inf")}, "Laplace poor", "k-hat is inf"),
        ([row()], {"laplace_sound": False}, "Laplace poor", "not positive definite"),
        ([row(sd_ratio=0.79)], {}, "Laplace poor", "0.79 times"),
        ([row(sd_ratio=1.26)], {}, "Laplace poor", "1.26 times"),
        ([row(sd_ratio=0.8), row(sd_ratio=1.25)], {}, "agree", ""),
        ([row(z=-1.01)], {}, "EM inside", "1.01 posterior sd"),
        ([row(z=1.0)], {}, "agree", ""),
    ],
)
def test_each_word_has_its_number(rows, health, word, number):
    verdict = judge(rows, [row(kind="overall mean", component=None)], sampler(**health), 0.95)
    assert verdict["word"] == verdict["words"][0] == word
    assert number in " ".join(verdict["sentences"])


def test_the_gravest_comes_first():
    everything = sampler(apart=APART, khat=0.9, identified=False)
    free = [row(kind="overall mean", component=None, r_hat=1.3, inside=False, z=4.0)]
    verdict = judge([row()], free, everything, 0.95)
    assert verdict["words"] == [*WORDS[:5]]
    assert verdict["sentences"][0].startswith("The chains do not agree")


def test_draws_without_chains_are_not_judged_by_them():
    bad = [row(r_hat=1.5, ess_bulk=3.0)]
    assert judge(bad, [], sampler(method="bootstrap", khat=None, chains=1), 0.95)["word"] == "agree"
    assert judge(bad, [], sampler(method="laplace", chains=1), 0.95)["word"] == "agree"
    # of draws by Laplace what is wrong with Laplace comes first, and their sds are held against those of chains
    outside = [row(inside=False, z=3.0)]
    assert judge(outside, [], sampler(method="laplace", khat=0.9), 0.95)["words"] == ["Laplace poor", "EM outside"]
    beside = sampler(method="laplace", beside=[row(sd_ratio=0.5)])
    assert judge([row()], [], beside, 0.95)["word"] == "Laplace poor"
    # a bootstrap is not judged by k-hat, nor by an sd ratio
    assert judge([row(sd_ratio=0.5)], [], sampler(method="bootstrap", khat=0.9), 0.95)["word"] == "agree"


def test_too_few_draws_tell_nothing():
    """R-hat is NaN under four draws a chain."""
    verdict = judge([row(r_hat=float("nan"))], [row(component=None, r_hat=float("nan"))], sampler(), 0.95)
    assert verdict["word"] == "chains unmixed"
    assert "too few draws" in verdict["sentences"][0]


def test_divergences_and_switching_are_said_and_no_word():
    verdict = judge([row()], [], sampler(divergences=3, switched_chains=2), 0.95)
    assert verdict["word"] == "agree"
    text = " ".join(verdict["sentences"])
    assert "3 draws are divergent" in text
    assert "2 of 4 chains" in text
    assert "no failure" in text


def test_limit_of_khat():
    """Vehtari et al. (2024), eq. 11."""
    assert khat_limit(2000) == pytest.approx(1 - 1 / np.log10(2000))
    assert khat_limit(10**5) == 0.7
    assert khat_limit(1) < 0.1


def quantity(name):
    return Parameter(name, "mean", None, ())


def test_chains_apart_are_told_from_chains_that_wander():
    """Of 200 sets of good chains none is apart: a difference of 5 standard errors has probability 1e-6 a pair."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert chains_apart(rng.normal(size=(4, 200, 3)), [quantity(name) for name in "abc"]) is None
    settled = rng.normal(size=(4, 400, 2)) + np.array([0, 0, 0, 2.0])[:, None, None] * [0, 1]
    found = chains_apart(settled, [quantity("a"), quantity("b")])
    assert found["name"] == "b"
    assert 15 < found["distance"] < 45
    wandering = np.cumsum(rng.normal(size=(4, 400, 2)), axis=1)
    assert chains_apart(wandering, [quantity("a"), quantity("b")]) is None
    assert chains_apart(rng.normal(size=(1, 400, 1)), [quantity("a")]) is None
