"""Test `jaxgmm calibrate`: how it calls `calibrate`, its files, and the arguments that it refuses."""

import json

import numpy as np
import pytest

from jaxgmm.cli import main


@pytest.fixture
def made_up_calibration(monkeypatch):
    """Calibrates at once, whatever the method; what it was called with."""
    from jaxgmm.calibration.result import Calibration
    from jaxgmm.calibration.rows import CoverageRow

    calls = []

    def calibrate(key, prior, method, **options):
        calls.append((prior, method, options))
        ranks, about = np.repeat(np.arange(10), 4)[:, None], {"key": [0, 0], "num_components": 2, "num_features": 1, "thin": 1}
        about |= {"num_observations": 9, "covariance_type": "full", "dtype": "float32", "prior": {"mean": [0.0]}, "options": {}}
        row = CoverageRow(method, "weights[0]", 0.9, coverage=0.8, error=0.1, undefined=0.0, coverage_with_misses=0.8)
        one = np.ones(1, bool)
        return Calibration(method, about, ["log-likelihood"], one, ranks, 9, np.ones(ranks.shape), [row], {"OK": 40}, {}, 0.01)

    monkeypatch.setattr("jaxgmm.calibration.calibrate.calibrate", calibrate)
    return calls


def test_calibrate(capsys, refused, tmp_path, made_up_calibration):
    prior = tmp_path / "prior.toml"
    prior.write_text("mean = [1.0, 2.0]\nweight_concentration = 4\n")
    arguments = ["calibrate", "gibbs", "--prior", str(prior), "--out", str(tmp_path), "--resume", str(tmp_path / "kept.npz")]
    assert main([*arguments, "--num-datasets", "40", "--thin", "3"]) == 0
    captured = capsys.readouterr()
    assert "Calibration of gibbs" in captured.out
    assert captured.err == ""
    ((given, method, options),) = made_up_calibration
    assert given.mean.tolist() == [1, 2]
    assert given.weight_concentration.tolist() == [4, 4]
    assert method == "gibbs"
    assert float(given.degrees_of_freedom) == 6
    assert given.scale.tolist() == [[3, 0], [0, 3]]
    assert (options["num_datasets"], options["thin"], options["num_draws"]) == (40, 3, 127)
    assert options["path"].name == "kept.npz"
    record = json.loads((tmp_path / "gibbs-calibrate.json").read_text())
    assert record["calibration"]["passed"] is True
    assert record["options"]["thin"] == 3
    assert (tmp_path / "gibbs-calibrate.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "gibbs-calibrate.csv").read_text().startswith("kind,")
    assert "would be overwritten" in refused(*arguments)
    assert main(["calibrate", "laplace", "--covariance-type", "spherical", "-d", "2", "--out", str(tmp_path)]) == 0
    assert made_up_calibration[-1][0].scale.tolist() == 4
    assert main(["calibrate", "nuts", "--covariance-type", "VEI", "-d", "2", "--out", str(tmp_path)]) == 0
    prior, _, options = made_up_calibration[-1]
    assert options["covariance_type"] == "VEI"
    assert prior.scale.scale.tolist() == [2, 2]


def test_calibrate_refuses(refused, tmp_path):
    assert "there is no file" in refused("calibrate", "nuts", "--prior", tmp_path / "no.toml")
    (tmp_path / "prior.toml").write_text("men = 0")
    assert "an entry 'men'" in refused("calibrate", "nuts", "--prior", tmp_path / "prior.toml", "--out", tmp_path)
    assert "invalid choice" in refused("calibrate", "vb")
    assert "invalid choice: 'VXV'" in refused("calibrate", "nuts", "--covariance-type", "VXV")
    unknown = refused("calibrate", "gibbs", "--covariance-type", "VEI", "--out", tmp_path)
    assert "'VEI' (variable volume, equal shape, identity orientation), which gibbs does not support" in unknown
    assert "num_datasets" in refused("calibrate", "nuts", "--num-datasets", 0)
    assert "thin" in refused("calibrate", "nuts", "--thin", 0, "--out", tmp_path)
    assert "alpha" in refused("calibrate", "nuts", "--alpha", 2, "--out", tmp_path)
    assert "not a writable folder" in refused("calibrate", "nuts", "--resume", tmp_path / "no" / "a.npz", "--out", tmp_path)
    (tmp_path / "other.npz").write_text("hello")
    assert "not the file of a study" in refused("calibrate", "laplace", "--resume", tmp_path / "other.npz", "--out", tmp_path)
