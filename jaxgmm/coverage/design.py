"""Design: what a coverage study simulates, estimates and counts, in plain values that a file can hold."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..em.initialization import METHODS as STARTS
from ..em.standard_errors import ESTIMATORS
from ..mixture import Mixture
from ..priors.conjugate import Prior
from ..priors.interface import check_prior
from ..studies.intervals import check_probabilities
from ..studies.methods import METHODS, as_method
from ..studies.serialization import plain
from ..validation import check_choice, check_count, check_covariance_type, check_number

ESTIMATES = {"em": False, "map": True}  # by Wald intervals: whether under the prior
LARGEST = 6  # components that `relabel` puts in order inside jit
_ESTIMATE_DEFAULTS = {"kind": "observed", "tol": 1e-10, "max_iter": 2000, "accelerate": True}
DEFAULTS: dict[str, dict[str, Any]] = {
    "em": _ESTIMATE_DEFAULTS,
    "map": _ESTIMATE_DEFAULTS,
    "laplace": {"num_samples": 1000},
    "bootstrap": {"num_samples": 200},
    "gibbs": {"num_samples": 500, "num_chains": 4},
    # inside a study nothing can look at a chain and decide for a full warm-up
    "nuts": {"num_samples": 250, "num_chains": 4, "adapt_mass_matrix": True},
}
_PRIOR = ("weight_concentration", "mean", "mean_precision", "degrees_of_freedom", "scale")


@dataclass(frozen=True)
class Design:
    """What `coverage_study` does: every separation with every number of observations and covariance type is a cell.

    The truth of a cell: components with unit variances and no correlations, on a line along the first feature about 0,
    neighbours `separation` standard deviations apart. Every value is a plain number, string, or tuple or dict of them.

    Attributes:
        separations: distances between neighbouring components, in standard deviations within a component.
        num_observations: N of each data set.
        covariance_types: that are fitted, of "full", "tied", "diag", "spherical"; the truth is in all of them.
        num_components: K, at most 6.
        num_features: D.
        weights: K shares of the components, or None for equal ones.
        methods: "em", maximum likelihood with Wald intervals; "map", the same under the prior; "laplace", "bootstrap" (of the
            MAP fit), "gibbs" and "nuts", each from the MAP fit: mean of the draws, and central intervals.
        num_datasets: a cell.
        probabilities: of the intervals.
        prior: "default", the data-scaled `default_prior` of each data set; or a dict of fixed numbers weight_concentration,
            mean, mean_precision, degrees_of_freedom and scale, the last times the identity.
        start: of EM: "k-means++" or "k-means", as in `initialize`, or "truth".
        options: by method a dict of its own options; of "em" and "map" kind, tol, max_iter, accelerate.

    Raises:
        ValueError, TypeError: a value that makes no sense.

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
    start: str = "k-means++"
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("separations", "num_observations", "covariance_types", "methods", "probabilities"):
            object.__setattr__(self, name, _as_tuple(getattr(self, name), name))
        if self.weights is not None:
            object.__setattr__(self, "weights", _as_tuple(self.weights, "weights"))
        _check_numbers(self)
        _check_choices(self)
        _check_options(self)
        if self.prior != "default":
            self.fixed_prior(self.covariance_types[0])

    @classmethod
    def from_toml(cls, path: Any) -> Design:
        """A design from a TOML file, whose keys are the attributes' names; what is not there is at its default.

        Args:
            path: the file.

        Raises:
            ValueError: no TOML, a key that is none of the attributes, or a value that makes no sense.
            OSError: the file cannot be read.

        Example:
            >>> import tempfile
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
            found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"'{path}' is not a TOML file: {error}.") from error
        known = [one.name for one in dataclasses.fields(cls)]
        unknown = sorted(set(found) - set(known))
        if unknown:
            raise ValueError(f"'{path}' has {', '.join(unknown)}, which a design has not; it has {', '.join(known)}.")
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """The design in JSON's types."""
        return plain({one.name: getattr(self, one.name) for one in dataclasses.fields(self)})

    @property
    def num_cells(self) -> int:
        """How many cells there are."""
        return len(self.separations) * len(self.num_observations) * len(self.covariance_types)

    def truth(self, separation: float, covariance_type: str) -> Mixture:
        """The mixture that a cell's data come from."""
        k, d, dtype = self.num_components, self.num_features, jnp.result_type(float)
        means = np.zeros((k, d))
        means[:, 0] = separation * (np.arange(k) - (k - 1) / 2)
        weights = np.full(k, 1 / k) if self.weights is None else np.asarray(self.weights, float)
        identity = jnp.broadcast_to(jnp.eye(d, dtype=dtype), (k, d, d))
        weights = jnp.asarray(weights / weights.sum(), dtype)
        return Mixture(
            weights, jnp.asarray(means, dtype), covariance.from_dense(identity, covariance_type, weights), covariance_type
        )

    def fixed_prior(self, covariance_type: str) -> Prior | None:
        """The prior of all data sets, or None where each has its default."""
        if self.prior == "default":
            return None
        given = (
            dict.fromkeys(_PRIOR, 1.0)
            | {"mean": 0.0, "mean_precision": 0.01}
            | {"degrees_of_freedom": self.num_features + 2.0}
            | dict(self.prior)
        )
        k, d, dtype = self.num_components, self.num_features, jnp.result_type(float)
        shape = covariance.prior_scale_shape(covariance_type, d)
        scale = np.eye(d) if len(shape) == 2 else np.ones(shape)
        prior = Prior(
            jnp.full(k, given["weight_concentration"], dtype),
            jnp.full(d, given["mean"], dtype),
            *(jnp.asarray(given[name], dtype) for name in ("mean_precision", "degrees_of_freedom")),
            jnp.asarray(given["scale"] * scale, dtype),
        )
        check_prior(prior, k, d, covariance_type)
        return prior

    def options_of(self, method: str) -> dict[str, Any]:
        """A method's options: the study's defaults, and what the design says."""
        return DEFAULTS[method] | dict(self.options.get(method, {}))


def _as_tuple(value: Any, name: str) -> tuple:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} is {value!r}; a list was expected.")
    found = tuple(one.item() if isinstance(one, np.generic | jax.Array) else one for one in value)
    if not found:
        raise ValueError(f"{name} is empty; at least one was expected.")
    if name != "weights" and len(set(found)) < len(found):
        raise ValueError(f"{name} is {value!r}; each once was expected.")
    return found


def _check_numbers(design: Design) -> None:
    for separation in design.separations:
        check_number(separation, "separation")
    for count in design.num_observations:
        check_count(count, "num_observations", max(2, design.num_components))
    for name in ("num_components", "num_features", "num_datasets"):
        check_count(getattr(design, name), name)
    if design.num_components > LARGEST:
        raise ValueError(
            f"num_components is {design.num_components}; at most {LARGEST} was expected, whose orders are all tried."
        )
    check_probabilities(design.probabilities)
    if design.weights is not None:
        for weight in design.weights:
            check_number(weight, "weights", exclusive=True)
        if len(design.weights) != design.num_components or abs(sum(design.weights) - 1) > 1e-6:
            raise ValueError(f"weights is {design.weights}; {design.num_components} numbers that sum to one were expected.")


def _check_choices(design: Design) -> None:
    for kind in design.covariance_types:
        check_covariance_type(kind)
    for method in design.methods:
        check_choice(method, "method", (*ESTIMATES, *METHODS))
    check_choice(design.start, "start", (*STARTS, "truth"))
    if isinstance(design.prior, Mapping):
        unknown = sorted(set(design.prior) - set(_PRIOR))
        if unknown:
            raise ValueError(f"prior has {', '.join(unknown)}; it may have {', '.join(_PRIOR)}.")
        for name, value in design.prior.items():
            check_number(value, f"prior's {name}", minimum=-np.inf if name == "mean" else 0.0, exclusive=name != "mean")
        if design.prior.get("weight_concentration", 1.0) < 1:
            raise ValueError("prior's weight_concentration is below 1, where MAP, from which methods start, is unbounded.")
    elif design.prior != "default":
        raise ValueError(f"prior is {design.prior!r}; 'default' or a dict of {', '.join(_PRIOR)} was expected.")


def _check_options(design: Design) -> None:
    if not isinstance(design.options, Mapping):
        raise TypeError(f"options is {type(design.options).__name__}; a dict of each method's options was expected.")
    for method, given in design.options.items():
        check_choice(method, "options' method", (*ESTIMATES, *METHODS))
        if not isinstance(given, Mapping):
            raise TypeError(f"options of {method} is {given!r}; a dict was expected.")
        for name, value in given.items():
            if not isinstance(value, bool | int | float | str | None):
                raise TypeError(
                    f"options of {method}: {name} is {type(value).__name__}; a number, word or boolean was expected."
                )
        if method not in ESTIMATES:
            try:
                as_method(method, **given)
            except TypeError as error:
                raise ValueError(f"options: {error}") from error
        elif set(given) - set(_ESTIMATE_DEFAULTS):
            unknown = sorted(set(given) - set(_ESTIMATE_DEFAULTS))
            raise ValueError(f"options of {method} has {', '.join(unknown)}; it may have {', '.join(_ESTIMATE_DEFAULTS)}.")
    for method in ESTIMATES:
        check_choice(design.options_of(method)["kind"], f"options of {method}: kind", ESTIMATORS)
