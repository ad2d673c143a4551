"""Results as plain values, JSON, CSV and data frames: nothing is lost, and what is not defined is empty."""

import csv
import io
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.studies.serialization import Exported, csv_text, data_frame, describe_fit, json_text, plain


class Squares(Exported):
    """A result with two columns."""

    def to_dict(self):
        return {"squares": list(self._records())}

    def _records(self):
        return [{"n": 1, "square": 1.0}, {"n": 2}]

    def _fields(self):
        return ("n", "square")


def test_values_become_plain():
    found = plain({"a": np.float32(0.5), "b": (np.nan, np.inf, np.arange(2)), "c": [True, None, "text"]})
    assert found == {"a": 0.5, "b": [None, None, [0, 1]], "c": [True, None, "text"]}


def test_json_is_strict(tmp_path):
    """NaN has no place in JSON."""
    text = json_text({"a": math.nan, "é": 1}, tmp_path / "a.json")
    assert json.loads(text) == {"a": None, "é": 1}
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == text


def test_csv_has_empty_cells():
    rows = list(csv.DictReader(io.StringIO(csv_text([{"a": 1, "b": "x, y"}, {"b": math.nan}], ("a", "b")))))
    assert rows == [{"a": "1", "b": "x, y"}, {"a": "", "b": ""}]
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        csv_text([{"c": 1}], ("a",))


def test_a_result_exports_itself():
    pandas = pytest.importorskip("pandas")
    result = Squares()
    assert json.loads(result.to_json()) == result.to_dict()
    assert result.to_csv() == "n,square\n1,1.0\n2,\n"
    frame = result.to_dataframe()
    assert list(frame.columns) == ["n", "square"]
    assert pandas.read_csv(io.StringIO(result.to_csv())).equals(frame)
    assert data_frame([], ("a",)).shape == (0, 1)


def test_a_fit_is_described():
    mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
    fit = jaxgmm.Fit(mixture, *(jnp.array(v) for v in (-3.5, -4.5, [-5.0, -4.5], 1, 1, [2])))
    assert describe_fit(fit) == {
        "status": "MAX_ITER",
        "num_iter": 1,
        "log_likelihood": -3.5,
        "objective": -4.5,
        "component_status": ["AT_FLOOR"],
    }
