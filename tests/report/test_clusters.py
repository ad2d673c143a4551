"""The table of clusters counts the points of each component and says how sure they are."""

import dataclasses

import numpy as np

import jaxgmm
from jaxgmm.report.clusters import GLOSSARY, clusters_table

from fabricated_comparisons import fabricate_comparison


def test_every_point_is_counted_once():
    mixture = jaxgmm.make_mixture([0.5, 0.25, 0.25], [[0.0], [2.0], [90.0]], np.ones((3, 1)), covariance_type="spherical")
    x = np.array([[-1.0], [-0.5], [0.0], [1.6], [2.5], [np.nan]])
    comparison = fabricate_comparison(mixture, {"nuts": 0.0})
    table = clusters_table(comparison, mixture, x)
    assert table.header == ("component", *GLOSSARY)
    assert [row[1] for row in table.rows] == ["3", "2", "0"]
    assert [row[2] for row in table.rows] == ["60.0 %", "40.0 %", "0.0 %"]
    assert [row[3] for row in table.rows] == ["0.5000", "0.2500", "0.2500"]
    assert table.rows[2][4:] == ["0", "-"]
    assert table.notes[0].startswith("By EM, 1 of 5 points")
    assert len(table.notes) == 1


def test_incomplete_rows_are_counted_by_what_they_observe():
    """A row of weight 0 is no point, and a censored value is one."""
    mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [9.0]], np.ones((2, 1)), covariance_type="spherical")
    x = jaxgmm.observations([[0.0], [9.5], [np.nan], [1.0]], limits=([[-np.inf], [-np.inf], [7.0], [-np.inf]], None))
    x = dataclasses.replace(x, weight=np.float32([1, 1, 1, 0]))
    table = clusters_table(fabricate_comparison(mixture, {"nuts": 0.0}), mixture, x)
    assert [row[1] for row in table.rows] == ["1", "2"]
    assert table.notes[0].startswith("By EM, 0 of 3 points")


def test_the_share_of_unsure_points_by_each_method():
    from jaxgmm.comparison.report_columns import ClusteringScores

    mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
    names = [field.name for field in dataclasses.fields(ClusteringScores)]
    scores = {"nuts": ClusteringScores(**dict.fromkeys(names, 0.25)), "gibbs": ClusteringScores(**dict.fromkeys(names, np.nan))}
    comparison = dataclasses.replace(fabricate_comparison(mixture, {"nuts": 0.0}), clustering=scores)
    assert clusters_table(comparison, mixture, np.zeros((4, 1))).notes[1:] == ["By NUTS, 25.0 % are less than 90 % sure."]
