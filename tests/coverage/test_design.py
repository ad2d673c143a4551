"""Test the design of a study: TOML files, refused values, truth and prior of a cell."""

import numpy as np
import pytest

import jaxgmm
from jaxgmm.coverage.design import StudyCell

from helpers import COVARIANCE_TYPES

TOML = """
separations = [1, 3]
num_observations = [50]
methods = ["em", "gibbs"]
weights = [0.25, 0.75]

[prior]
mean_precision = 0.1

[options.gibbs]
num_samples = 20
"""


def test_toml(tmp_path):
    """A design from a file equals one with the same arguments."""
    path = tmp_path / "design.toml"
    path.write_text(TOML)
    design = jaxgmm.Design.from_toml(path)
    assert design == jaxgmm.Design(
        separations=(1, 3),
        num_observations=(50,),
        methods=("em", "gibbs"),
        weights=(0.25, 0.75),
        prior={"mean_precision": 0.1},
        options={"gibbs": {"num_samples": 20}},
    )
    prior, truth = design.fixed_prior("diag"), design.truth(3, "diag")
    assert prior.scale.tolist() == [1, 1]
    assert float(prior.mean_precision) == pytest.approx(0.1)
    assert truth.means[:, 0].tolist() == [-1.5, 1.5]
    assert truth.weights.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("separation = [1]", "has separation; a design only has separations, num_observations"),
        ("separations = 1", "separations is 1; a list was expected"),
        ("separations = []", "separations is empty"),
        ("separations = [1, 1]", "repeats an entry"),
        ("num_observations = [1]", "num_observations"),
        ("num_components = 7", "at most 6"),
        ("methods = ['vi']", "'em', 'map', 'nuts'"),
        ("covariance_types = ['round']", "round"),
        ("probabilities = [90]", "between 0 and 1"),
        ("weights = [0.5, 0.6]", "sum to one"),
        ("prior = 'flat'", "'default' or a dict"),
        ("[prior]\nkappa = 1", "prior has an entry 'kappa'; only weight_concentration"),
        ("[prior]\ndegrees_of_freedom = 0.5", "degrees_of_freedom"),
        ("[options.gibbs]\nsweeps = 1", "gibbs has no option sweeps here; it takes"),
        ("[options.em]\ntolerance = 1", "options of em has tolerance; it may have kind, tol"),
        ("separations = [", "is not a TOML file"),
    ],
)
def test_toml_errors(tmp_path, text, message):
    """Each error names the mistake and what was expected."""
    path = tmp_path / "design.toml"
    path.write_text(text)
    with pytest.raises((ValueError, TypeError), match=message.replace("[", r"\[")):
        jaxgmm.Design.from_toml(path)


def test_cells():
    """Cells that share compiled programs, which differ in separation only, follow each other; names are those in files."""
    design = jaxgmm.Design(separations=(1, 4), num_observations=(50, 80), covariance_types=("full", "diag"))
    cells = list(design.cells())
    assert len(cells) == design.num_cells == 8
    assert cells[:3] == [StudyCell("full", 50, 1.0), StudyCell("full", 50, 4.0), StudyCell("full", 80, 1.0)]
    assert cells[-1].name == "diag 80 4.0"


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_the_truth_satisfies_every_type(covariance_type):
    truth = jaxgmm.Design(num_components=3, num_features=2).truth(2.0, covariance_type)
    dense = jaxgmm.covariance.to_dense(truth.covariances, covariance_type, 3, 2)
    np.testing.assert_array_equal(dense, np.stack([np.eye(2)] * 3))
    np.testing.assert_array_equal(truth.means, [[-2, 0], [0, 0], [2, 0]])
    np.testing.assert_allclose(truth.weights, 1 / 3, rtol=1e-6)


def test_fixed_priors():
    """The default values of `Design.prior` as its documentation states them; None for the data-scaled default."""
    assert jaxgmm.Design().fixed_prior("full") is None
    prior = jaxgmm.Design(num_features=3, prior={"scale": 2}).fixed_prior("full")
    np.testing.assert_array_equal(prior.scale, 2 * np.eye(3))
    assert prior.weight_concentration.tolist() == [1, 1]
    assert prior.mean.tolist() == [0, 0, 0]
    assert float(prior.mean_precision) == pytest.approx(0.01)
    assert float(prior.degrees_of_freedom) == 5


def test_fixed_priors_of_coupled_covariances():
    """Methods that draw have a normalised density with the same hyperparameters; `gibbs` is refused by name."""
    design = jaxgmm.Design(num_features=3, prior={"scale": 2, "mean": 1}, covariance_types=("EVI", "VEV", "full"))
    assert isinstance(design.fixed_prior("VEV"), jaxgmm.Prior)
    assert isinstance(design.fixed_prior("full", normalised=True), jaxgmm.Prior)
    for code, scale in (("EVI", [1, 1, 1]), ("VEV", 1), ("EVV", np.eye(3))):
        prior = design.fixed_prior(code, normalised=True)
        assert float(prior.scale.volume_shape) == 2.5
        np.testing.assert_array_equal(prior.scale.scale, scale)
        np.testing.assert_allclose(prior.mean_covariance, 2 / 5 / 0.01 * np.eye(3), rtol=1e-6)
        assert prior.mean.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match=r"'VEV' .*which gibbs does not support.*leave gibbs out of the methods"):
        jaxgmm.Design(covariance_types=("full", "VEV"), methods=("em", "gibbs"))


def test_options_override_defaults():
    design = jaxgmm.Design(methods=("em", "gibbs"), options={"gibbs": {"num_samples": 20}, "em": {"kind": "sandwich"}})
    assert design.options_of("gibbs") == {"num_samples": 20, "num_chains": 4}
    assert design.options_of("em")["kind"] == "sandwich"
    assert design.options_of("map")["kind"] == "observed"


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        *(
            (method, "num_samples", value)
            for method in ("laplace", "gibbs", "nuts", "bootstrap")
            for value in (-5, 0, 10**15, "many")
        ),
        *((method, "num_chains", 0) for method in ("laplace", "gibbs", "nuts", "bootstrap")),
        ("gibbs", "num_warmup", -1),
        ("nuts", "num_warmup", 0.5),
        ("nuts", "max_tree_depth", 0),
        ("nuts", "target_accept_prob", 2.0),
        ("nuts", "adapt_mass_matrix", "yes"),
        ("bootstrap", "tol", -1.0),
        ("bootstrap", "max_iter", -1),
        ("em", "tol", -1.0),
        ("map", "max_iter", -3),
        ("em", "accelerate", "yes"),
    ],
)
def test_values_of_options_are_refused_at_the_start(method, option, value):
    with pytest.raises((ValueError, TypeError), match=rf"{option} is"):
        jaxgmm.Design(options={method: {option: value}})


def test_options_that_may_be_none():
    options = {"nuts": {"num_warmup": None, "target_accept_prob": None}, "bootstrap": {"chunk_size": None}}
    assert jaxgmm.Design(options=options).options["nuts"]["num_warmup"] is None


def test_lists_become_tuples_of_plain_numbers():
    design = jaxgmm.Design(separations=np.array([1.0, 2.0]), num_observations=[50], weights=[0.25, 0.75])
    assert design.separations == (1.0, 2.0)
    assert jaxgmm.Design(**design.to_dict()) == design
