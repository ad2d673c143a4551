"""The class Design: the settings of a coverage study, in plain values that can be written to a file."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..covariance.types import as_covariance_type, check_uncoupled_type
from ..em.initialization import METHODS as START_METHODS
from ..em.standard_errors import ESTIMATORS
from ..files import parse_file
from ..memory import check_memory
from ..mixture import Mixture
from ..posterior.assignment_problems import MAX_ENUMERATED
from ..priors.conjugate import Prior
from ..priors.independent import IndependentPrior
from ..priors.interface import check_prior
from ..studies.intervals import check_probabilities
from ..studies.method_names import POINT_METHODS, POSTERIOR_METHODS
from ..studies.methods import as_method, check_option_values
from ..studies.missing_values import check_missing
from ..studies.prior_table import HYPERPARAMETERS, check_table, prior_from_table
from ..studies.serialization import plain
from ..validation import check_choice, check_count, check_number

_POINT_DEFAULTS: Mapping[str, str | float | bool] = {"kind": "observed", "tol": 1e-10, "max_iter": 2000, "accelerate": True}
_DEFAULTS: Mapping[str, Mapping[str, str | float | bool]] = {
    "em": _POINT_DEFAULTS,
    "map": _POINT_DEFAULTS,
    "laplace": {"num_samples": 1000},
    "bootstrap": {"num_samples": 200},
    "gibbs": {"num_samples": 500, "num_chains": 4},
    "smc": {"num_samples": 500, "num_chains": 4},
    # Compiled code cannot inspect the draws and then decide on a longer warm-up, so the mass matrix is always adapted.
    "nuts": {"num_samples": 250, "num_chains": 4, "adapt_mass_matrix": True},
}


@dataclass(frozen=True)
class StudyCell:
    """One cell of a study: a covariance type, a number of observations, and a separation in standard deviations."""

    covariance_type: str
    num_observations: int
    separation: float

    @property
    def name(self) -> str:
        """The name of the cell. The random keys of the cell, and the names of its entries in the file, depend on this name."""
        return f"{self.covariance_type} {self.num_observations} {self.separation}"


@dataclass(frozen=True)
class Design:
    """The design of a coverage study. Each combination of separation, number of observations and covariance type is a cell.

    In the truth of a cell, the components have unit variances and no correlations. Their means lie on a line along the first
    feature, centred at 0, and neighbouring means are `separation` standard deviations apart. All values are plain numbers,
    strings, or tuples or dicts of these.

    Attributes:
        separations: distances between neighbouring components, in standard deviations within a component.
        num_observations: the values of N, the number of rows of a data set.
        covariance_types: the covariance types to fit, such as "full" or "VEE". The truth satisfies all of them. With "EVE",
            "VVE", "EEV" and "VEV", nothing determines the axes of the truth, because its components are spherical.
        num_components: K, at most 6.
        num_features: D.
        weights: K weights of the components, or None for equal weights.
        methods: names of the methods. "em" is maximum likelihood, and "map" is the mode under the prior, both with Wald
            intervals. "laplace", "bootstrap" (of the MAP fit), "gibbs" and "nuts" start from the MAP fit; "smc" starts from the
            prior. The estimate of these five methods is the mean of the draws, and their intervals are central intervals of the
            draws.
        num_datasets: number of data sets per cell.
        probabilities: probabilities of the intervals.
        prior: "default", which means the data-scaled `default_prior` of each data set; or a dict of fixed numbers with the keys
            weight_concentration (by default 1), mean (0), mean_precision (0.01), degrees_of_freedom (D + 2) and scale (1). The
            scale multiplies the identity matrix. If components share volumes, shapes or orientations, "map" and "bootstrap"
            use this prior, and the other Bayesian methods need a prior with a normalised density. For "default", they use
            `default_prior(..., normalised=True)`. For a dict, they use mu_k ~ N(m, S / (nu kappa)) and
            VolumeShapeOrientation(nu / 2, S / 2, 1), where m, kappa, nu and S are the last four numbers of the dict.
        missing: the probability with which each value of a data set is missing, whatever the values are.
        start: the start of EM: "k-means++" or "k-means", as in `initialize`, or "truth".
        options: a dict of options for each method, by the name of the method. The options of "em" and "map" are kind, tol,
            max_iter and accelerate.

    Raises:
        ValueError, TypeError: a value is out of range, unknown or of the wrong type.

    Example:
        >>> from jaxgmm import Design
        >>> design = Design(separations=(2, 4), num_observations=(100,), options={"laplace": {"num_samples": 500}})
        >>> design.num_cells, design.methods
        (2, ('em', 'map', 'laplace'))
    """

    separations: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)
    num_observations: tuple[int, ...] = (50, 200, 1000)
    covariance_types: tuple[str, ...] = ("full",)
    num_components: int = 2
    num_features: int = 2
    weights: tuple[float, ...] | None = None
    methods: tuple[str, ...] = ("em", "map", "laplace")
    num_datasets: int = 500
    probabilities: tuple[float, ...] = (0.5, 0.9)
    prior: str | Mapping[str, Any] = "default"
    missing: float = 0.0
    start: str = "k-means++"
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Turn lists into tuples and validate all fields."""
        for name in ("separations", "num_observations", "covariance_types", "methods", "probabilities"):
            object.__setattr__(self, name, _as_tuple(getattr(self, name), name))
        object.__setattr__(self, "covariance_types", tuple(map(as_covariance_type, self.covariance_types)))
        if self.weights is not None:
            object.__setattr__(self, "weights", _as_tuple(self.weights, "weights"))
        object.__setattr__(self, "missing", check_missing(self.missing))
        _check_numbers(self)
        _check_choices(self)
        _check_options(self)
        if self.prior != "default":
            self.fixed_prior(self.covariance_types[0])

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Design:
        """Read a design from a TOML file whose keys are names of attributes.

        Attributes that are not in the file have their default values.

        Args:
            path: the file.

        Raises:
            ValueError: the file is not TOML, a key is not an attribute, or `Design` rejects a value.
            OSError: the file cannot be read.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from jaxgmm import Design
            >>> text = '''
            ... separations = [1, 2, 4]
            ... num_observations = [50, 500]
            ... methods = ["em", "laplace"]
            ...
            ... [prior]
            ... mean_precision = 0.01
            ... degrees_of_freedom = 4
            ...
            ... [options.laplace]
            ... num_samples = 500
            ... '''
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = Path(folder) / "design.toml"
            ...     _ = path.write_text(text)
            ...     Design.from_toml(path).num_cells
            6
        """
        try:
            found = parse_file(path, tomllib.loads)
        except ValueError as error:
            raise ValueError(f"'{path}' is not a TOML file: {error}.") from error
        known = [one.name for one in dataclasses.fields(cls)]
        unknown = sorted(set(found) - set(known))
        if unknown:
            raise ValueError(f"'{path}' has {', '.join(unknown)}; a design only has {', '.join(known)}.")
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes by name, in types that JSON has."""
        return plain({one.name: getattr(self, one.name) for one in dataclasses.fields(self)})

    @property
    def num_cells(self) -> int:
        """The number of cells."""
        return len(self.separations) * len(self.num_observations) * len(self.covariance_types)

    def cells(self) -> Iterator[StudyCell]:
        """Yield the cells. Cells that use the same compiled programs follow each other."""
        for covariance_type in self.covariance_types:
            for count in self.num_observations:
                for separation in self.separations:
                    yield StudyCell(covariance_type, count, float(separation))

    def truth(self, separation: float, covariance_type: str) -> Mixture:
        """Return the truth of a cell, which is the mixture from which its data are drawn."""
        k, d, dtype = self.num_components, self.num_features, jnp.result_type(float)
        means = np.zeros((k, d))
        means[:, 0] = separation * (np.arange(k) - (k - 1) / 2)
        weights = np.full(k, 1 / k) if self.weights is None else np.asarray(self.weights, float)
        identity = jnp.broadcast_to(jnp.eye(d, dtype=dtype), (k, d, d))
        weights = jnp.asarray(weights / weights.sum(), dtype)
        return Mixture(
            weights, jnp.asarray(means, dtype), covariance.from_dense(identity, covariance_type, weights), covariance_type
        )

    def fixed_prior(self, covariance_type: str, *, normalised: bool = False) -> Prior | IndependentPrior | None:
        """Return the prior that all data sets share, or None if each data set has its own default prior.

        Methods that draw need a `normalised` density.
        """
        if not isinstance(self.prior, Mapping):
            return None
        shapes = {"num_components": self.num_components, "num_features": self.num_features, "covariance_type": covariance_type}
        defaults = {"weight_concentration": 1.0, "mean": 0.0, "mean_precision": 0.01, "scale": 1.0}
        defaults["degrees_of_freedom"] = self.num_features + 2.0
        prior = prior_from_table(self.prior, defaults=defaults, normalised=normalised, **shapes)
        check_prior(prior, **shapes)
        return prior

    def options_of(self, method: str) -> dict[str, Any]:
        """Return the options of a method. The options of the design replace the default options of a study."""
        return {**_DEFAULTS[method], **self.options.get(method, {})}


def _as_tuple(value: Any, name: str) -> tuple:
    """Return a list as a tuple of plain types. Raise an error if it is not a list, is empty, or has equal entries."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} is {value!r}; a list was expected.")
    found = tuple(one.item() if isinstance(one, np.generic | jax.Array) else one for one in value)
    if not found:
        raise ValueError(f"{name} is empty; at least one entry was expected.")
    if name != "weights" and len(set(found)) < len(found):
        raise ValueError(f"{name} is {value!r}, which repeats an entry; different entries were expected.")
    return found


def _check_numbers(design: Design) -> None:
    """Raise an error if a count, a separation, a probability or a weight is out of range."""
    for separation in design.separations:
        check_number(separation, "separation")
    for count in design.num_observations:
        check_count(count, "num_observations", max(2, design.num_components))
    for name in ("num_components", "num_features", "num_datasets"):
        check_count(getattr(design, name), name)
    most = max(design.num_observations)
    check_memory(4.0 * most * design.num_features, f"num_observations={most}")
    check_memory(8.0 * design.num_datasets * design.num_components, f"num_datasets={design.num_datasets}")
    if design.num_components > MAX_ENUMERATED:
        raise ValueError(
            f"num_components is {design.num_components}; at most {MAX_ENUMERATED} was expected, because a study compares all "
            "orders of the components."
        )
    check_probabilities(design.probabilities)
    if design.weights is not None:
        for weight in design.weights:
            check_number(weight, "weights", exclusive=True)
        if len(design.weights) != design.num_components or abs(sum(design.weights) - 1) > 1e-6:
            raise ValueError(f"weights is {design.weights}; {design.num_components} numbers that sum to one were expected.")


def _check_choices(design: Design) -> None:
    """Raise an error if a covariance type, a method, the start or the prior is unknown."""
    if "gibbs" in design.methods:
        for covariance_type in design.covariance_types:
            check_uncoupled_type(covariance_type, "gibbs", remedy="leave gibbs out of the methods")
    for method in design.methods:
        check_choice(method, "method", (*POINT_METHODS, *POSTERIOR_METHODS))
    check_choice(design.start, "start", (*START_METHODS, "truth"))
    if isinstance(design.prior, Mapping):
        check_table(design.prior, "prior")
        for name, value in design.prior.items():
            check_number(value, f"prior's {name}", minimum=-np.inf if name == "mean" else 0.0, exclusive=name != "mean")
        if design.prior.get("weight_concentration", 1.0) < 1:
            raise ValueError(
                "prior's weight_concentration is below 1; at least 1 was expected, because the density under which the MAP fit "
                "starts all methods is unbounded below 1."
            )
    elif design.prior != "default":
        raise ValueError(f"prior is {design.prior!r}; 'default' or a dict of {', '.join(HYPERPARAMETERS)} was expected.")


def _check_options(design: Design) -> None:
    """Raise an error if the options are not a dict of dicts, or if a method does not take one of its options."""
    if not isinstance(design.options, Mapping):
        raise TypeError(f"options is {type(design.options).__name__}; a dict with a dict of options per method was expected.")
    for method, given in design.options.items():
        check_choice(method, "options' method", (*POINT_METHODS, *POSTERIOR_METHODS))
        if not isinstance(given, Mapping):
            raise TypeError(f"options of {method} is {given!r}; a dict was expected.")
        for name, value in given.items():
            if not isinstance(value, bool | int | float | str | None):
                raise TypeError(
                    f"options of {method}: {name} is {type(value).__name__}; a number, a string or a boolean was expected."
                )
        if method in POSTERIOR_METHODS:
            try:
                as_method(method, **given)
            except (TypeError, ValueError) as error:
                raise ValueError(f"options of {method}: {error}") from error
        elif set(given) - set(_POINT_DEFAULTS):
            unknown = sorted(set(given) - set(_POINT_DEFAULTS))
            raise ValueError(f"options of {method} has {', '.join(unknown)}; it may have {', '.join(_POINT_DEFAULTS)}.")
        else:
            try:
                check_option_values(given)
            except (TypeError, ValueError) as error:
                raise ValueError(f"options of {method}: {error}") from error
    for method in POINT_METHODS:
        check_choice(design.options_of(method)["kind"], f"options of {method}: kind", ESTIMATORS)
