"""Test the names of the methods: one list for studies, figures and the command, whose import is light."""

import importlib

import pytest

from jaxgmm.studies.method_names import POINT_METHODS, POSTERIOR_FUNCTIONS, POSTERIOR_METHODS, display_name


def test_names():
    assert POSTERIOR_METHODS == ("nuts", "gibbs", "laplace", "bootstrap", "smc")
    assert POINT_METHODS == ("em", "map")
    shown = [display_name(method) for method in (*POSTERIOR_METHODS, *POINT_METHODS)]
    assert shown == ["NUTS", "Gibbs", "Laplace", "bootstrap", "SMC", "EM, likelihood", "EM, posterior mode"]


@pytest.mark.parametrize("method", POSTERIOR_METHODS)
def test_each_method_has_a_function(method):
    module, function = POSTERIOR_FUNCTIONS[method]
    assert callable(getattr(importlib.import_module(f"jaxgmm.posterior.{module}"), function))
