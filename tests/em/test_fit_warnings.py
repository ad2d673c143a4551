"""Warnings of a fit: only remedies that apply to the call; columns that are to blame are named instead of components."""

import itertools

from jaxgmm import ComponentStatus, Status
from jaxgmm.em import fit_warnings

from helpers import COVARIANCE_TYPES


def remedies():
    """Yield every status with every kind of call."""
    booleans = [False, True]
    for kind, k, *flags in itertools.product(COVARIANCE_TYPES, [1, 3], booleans, booleans, booleans, booleans):
        call = fit_warnings._Call(kind, k, *flags)
        for status in (*Status, *ComponentStatus):
            yield status, call


def test_remedies_apply():
    """No prior is advised where there is one, no simpler type where there is none, no option that is set or not allowed."""
    for status, call in remedies():
        said = fit_warnings._advise(status, call)
        assert said.endswith("."), said
        assert ".." not in said
        assert "use use" not in said
        if status not in fit_warnings._REMEDIES:
            assert said == status.sentence
            continue
        assert said.startswith(status.cause)
        advice = said.removeprefix(status.cause)
        assert not (call.has_prior and "prior" in advice), (status, call, said)
        assert not (call.covariance_type in ("diag", "spherical") and "covariance_type" in advice), (status, call, said)
        assert not (call.num_components == 1 and "fewer components" in advice), (status, call, said)
        assert not (call.accelerate and "accelerate" in advice), (status, call, said)
        assert not (not call.has_reg_covar and "reg_covar" in advice), (status, call, said)
        assert not (not call.is_float32 and "float64" in advice), (status, call, said)


def test_sentences_hold_every_remedy():
    """The sentence of a status, which knows no call, ends with what is advised where everything applies."""
    for status in fit_warnings._REMEDIES:
        assert status.cause in status.sentence
        assert status.cause != status.sentence.removesuffix(".")
