"""A Comparison exports every number, under the keys that programs rely on."""

import csv
import io
import json

import pytest

import jaxgmm
from jaxgmm.comparison.report_columns import ClusteringScores
from jaxgmm.comparison.result import Comparison
from jaxgmm.studies.serialization import plain

from fabricated_comparisons import (
    COMPARISON_KEYS,
    fabricate_fit,
    joint_scores,
    make_fit,
    make_posterior,
    meta,
    row,
    summary,
    two_clusters,
)

KEYS = {
    "method", "name", "kind", "component", "features", "em", "mean", "median", "sd", "mcse", "lower", "upper", "z", "tail",
    "inside", "r_hat", "ess_bulk", "ess_tail",
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return two_clusters()


def compare(fit, posterior, x, **options):
    """Compare without Laplace's approximation and scores."""
    return jaxgmm.compare(fit, posterior, x, laplace=False, scores=False, **options)


def test_json_and_csv_hold_every_number(data, tmp_path):
    fit = make_fit(data)
    comparison = compare(fit, make_posterior(fit, data), data, feature_names=["a, b", "c"])
    record = json.loads(comparison.to_json(tmp_path / "c.json"))
    assert record == json.loads((tmp_path / "c.json").read_text())
    assert record["parameters"] == [plain(row.to_dict()) for row in comparison.rows]
    rows = list(csv.DictReader(io.StringIO(comparison.to_csv(tmp_path / "c.csv"))))
    assert len(rows) == len(comparison.rows) + len(comparison.label_invariant)
    assert float(rows[0]["em"]) == comparison.rows[0].em
    assert (tmp_path / "c.csv").read_text() == comparison.to_csv()


def test_keys_of_the_dictionary(data):
    """Columns that do not apply to a quantity are left out."""
    fit = fabricate_fit(data)
    record = compare(fit, make_posterior(fit, data), data).to_dict()
    assert set(record) == COMPARISON_KEYS
    assert set(record["parameters"][0]) == KEYS | {"em_se", "laplace_sd", "sd_ratio", "contraction"}
    assert set(record["label_free"][0]) == KEYS
    assert set(record["label_free"][-1]) == KEYS | {"laplace_sd", "sd_ratio"}
    verdict = record["samplers"]["nuts"]["verdict"]
    assert set(verdict) == {"word", "words", "sentences"}
    assert verdict["word"] == verdict["words"][0]
    assert record["samplers"]["nuts"]["notes"] == list(compare(fit, make_posterior(fit, data), data).samplers["nuts"].notes)
    assert set(record["meta"]["em"]) == {
        "status", "converged", "num_iter", "log_likelihood", "objective", "component_status", "prior"
    }  # fmt: skip
    assert record["parameters"][0]["component"] == 0
    assert record["label_free"][0]["component"] is None


def test_a_data_frame_has_the_columns_of_the_csv_file():
    pandas = pytest.importorskip("pandas")
    comparison = Comparison(0.95, meta(), [row(), row(name="means[1,0]", component=1)], [row(kind="overall mean")], {}, {})
    frame = comparison.to_dataframe()
    read = pandas.read_csv(io.StringIO(comparison.to_csv()))
    assert list(frame.columns) == list(read.columns)
    assert frame["z"].tolist() == read["z"].tolist() == [0.1] * 3
    assert frame["name"].tolist() == ["means[0,0]", "means[1,0]", "means[0,0]"]


def test_scores_and_summaries_are_exported():
    scores = ClusteringScores(
        adjusted_rand=1.0, membership_difference=float("nan"), entropy_em=0.0, entropy_posterior=0.0, entropy_within=0.0,
        unsure_share=0.0,
    )  # fmt: skip
    comparison = Comparison(
        0.95, meta(), [], [], {"nuts": summary()}, {}, joint={"nuts": joint_scores()}, clustering={"nuts": scores}
    )
    record = comparison.to_dict()
    assert record["joint"]["nuts"]["log_joint_gap"] == 2.5
    assert record["clustering"]["nuts"]["membership_difference"] is None
    assert record["samplers"]["nuts"]["khat"] == 0.3
    assert record["samplers"]["nuts"]["prior"] is None
    assert record["meta"]["em"]["status"] == "CONVERGED"
