"""Name the covariance types, and define the properties of each.

A covariance type is one of the fourteen volume-shape-orientation models of Celeux & Govaert (1995). Each covariance is

    Sigma_k = lambda_k D_k A_k D_k',   |A_k| = 1

with a volume lambda_k, a shape A_k (a diagonal matrix) and an orientation D_k (an orthogonal matrix). The code of a type has a
letter for each of the three: E if all components share it, V if it varies, and I if it is the identity.

    code       name        stored        volume    shape      orientation
    EII                    (1, 1)        equal     spherical  none
    VII        spherical   (K, 1)        variable  spherical  none
    EEI                    (1, D)        equal     equal      axes of the data
    VEI                    (K, D)        variable  equal      axes of the data
    EVI                    (K, D)        equal     variable   axes of the data
    VVI        diag        (K, D)        variable  variable   axes of the data
    EEE        tied        (1, D, D)     equal     equal      equal
    VEE                    (K, D, D)     variable  equal      equal
    EVE                    (K, D, D)     equal     variable   equal
    VVE                    (K, D, D)     variable  variable   equal
    EEV                    (K, D, D)     equal     equal      variable
    VEV                    (K, D, D)     variable  equal      variable
    EVV                    (K, D, D)     equal     variable   variable
    VVV        full        (K, D, D)     variable  variable   variable

The names are the canonical spelling of the four codes that have one. All properties are read from the letters of the code.

Source: Celeux & Govaert (1995), Pattern Recognition 28, 781-793.
"""

from __future__ import annotations

_NAMES = {"VVV": "full", "EEE": "tied", "VVI": "diag", "VII": "spherical"}
_CODES = {name: code for code, name in _NAMES.items()}
CODES = ("EII", "VII", "EEI", "VEI", "EVI", "VVI", "EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV")
TYPES = tuple(_NAMES.get(code, code) for code in CODES)  # the fourteen types in their canonical spelling
CLASSIC = tuple(_NAMES.values())  # the types that have a name, which all functions accept
_LETTERS = {"E": "equal", "V": "variable", "I": "identity"}
# Names of the types in wide storage, one covariance for each component. Only programs that take the covariance type as an
# argument use these names. Their codes are those of coupled types whose covariances are stored in the same way.
ANY_DENSE, ANY_DIAGONAL = "any dense", "any diagonal"
_CODES |= {ANY_DENSE: "EVV", ANY_DIAGONAL: "EVI"}


def canonical(covariance_type: str) -> str:
    """Return the canonical spelling of a covariance type: the name if the code has one, else the code."""
    return _NAMES.get(covariance_type, covariance_type)


def as_covariance_type(covariance_type: object) -> str:
    """Return a covariance type in its canonical spelling; raise ValueError if it is neither a name nor a code."""
    if isinstance(covariance_type, str) and canonical(covariance_type) in TYPES:
        return canonical(covariance_type)
    codes = ", ".join(f"{code} ({meaning(code)})" for code in CODES)
    raise ValueError(
        f"covariance_type is {covariance_type!r}; one of {', '.join(map(repr, CLASSIC))} was expected, or a code of three "
        f"letters: {codes}."
    )


def code_of(covariance_type: str) -> str:
    """Return the three letters of a covariance type."""
    return _CODES.get(covariance_type, covariance_type)


def meaning(covariance_type: str) -> str:
    """Return a phrase that says what the letters of a covariance type mean."""
    volume, shape, orientation = (_LETTERS[letter] for letter in code_of(covariance_type))
    return f"{volume} volume, {shape} shape, {orientation} orientation"


def is_classic(covariance_type: str) -> bool:
    """Return whether a covariance type is full, tied, diag or spherical."""
    return covariance_type in CLASSIC


def check_uncoupled_type(covariance_type: str, what: str, *, remedy: str = "sample with nuts") -> None:
    """Raise ValueError if components share volumes, shapes or orientations. `what` names the function that needs this check."""
    if is_coupled(covariance_type):
        uncoupled = ", ".join(repr(name) for name in TYPES if not is_coupled(name))
        raise ValueError(
            f"covariance_type is {covariance_type!r} ({meaning(covariance_type)}), which {what} does not support, because the "
            f"components share parameters; use one of {uncoupled}, or {remedy}."
        )


def is_dense(covariance_type: str) -> bool:
    """Return whether covariances are stored as matrices. Other types store variances, because their orientation is fixed."""
    return code_of(covariance_type)[2] != "I"


def is_shared(covariance_type: str) -> bool:
    """Return whether all components share one covariance, as for tied, EEI and EII."""
    return "V" not in code_of(covariance_type)


def is_spherical(covariance_type: str) -> bool:
    """Return whether one variance applies to all features, as for spherical and EII."""
    return code_of(covariance_type)[1] == "I"


def is_coupled(covariance_type: str) -> bool:
    """Return whether the covariances of the components differ, but share their volume, shape or orientation."""
    letters = set(code_of(covariance_type))
    return {"E", "V"} <= letters


def type_of_marginals(covariance_type: str) -> str:
    """Return the covariance type of marginal and conditional distributions: coupled covariances become full or diag."""
    if not is_coupled(covariance_type):
        return covariance_type
    return "full" if is_dense(covariance_type) else "diag"


def accepts_units(covariance_type: str) -> bool:
    """Return whether every covariance of the type is still of the type after a change of the units of single features."""
    _, shape, orientation = code_of(covariance_type)
    return shape != "I" and (orientation == "I" or shape == orientation)


def has_free_axes(covariance_type: str) -> bool:
    """Return whether covariances must be described by their axes, as for EVE, VVE, EEV and VEV."""
    return is_dense(covariance_type) and not accepts_units(covariance_type)


def accepts_ridge(covariance_type: str) -> bool:
    """Return whether every covariance of the type is still of the type after a number is added to each of its variances."""
    return not is_coupled(covariance_type) or code_of(covariance_type) in ("VVE", "EEV")


def storage_shape(covariance_type: str, num_components: int, num_features: int) -> tuple[int, ...]:
    """Return the shape of the covariances of one mixture."""
    rows = 1 if is_shared(covariance_type) else num_components
    if is_dense(covariance_type):
        return rows, num_features, num_features
    return rows, 1 if is_spherical(covariance_type) else num_features


def prior_scale_shape(covariance_type: str, num_features: int) -> tuple[int, ...]:
    """Return the shape of the scale parameter in the inverse Wishart or inverse gamma law of one covariance."""
    if is_dense(covariance_type):
        return num_features, num_features
    return () if is_spherical(covariance_type) else (num_features,)


def shape_and_axes_scale(covariance_type: str, num_features: int) -> tuple[int, ...]:
    """Return the shape of the scale parameter in the law `VolumeShapeOrientation` of the covariances of a coupled type."""
    if has_free_axes(covariance_type):
        return ()
    return (num_features, num_features) if is_dense(covariance_type) else (num_features,)


def num_copies(covariance_type: str, num_components: int) -> tuple[int, int, int]:
    """Return how many volumes, shapes and orientations there are: 1 if all components share one, and 0 if none is free."""
    numbers = {"E": 1, "V": num_components, "I": 0}
    volume, shape, orientation = (numbers[letter] for letter in code_of(covariance_type))
    return volume, shape, orientation


def num_free(covariance_type: str, num_components: int, num_features: int) -> int:
    """Return the number of free covariance parameters."""
    d = num_features
    volume, shape, orientation = num_copies(covariance_type, num_components)
    return volume + shape * (d - 1) + orientation * (d * (d - 1) // 2)


def fewest_points(covariance_type: str, num_features: int) -> int:
    """Return the smallest number of points that determine the covariance of one component.

    This number is 0 if the components share one covariance. It is D + 1 if both shape and orientation vary, as for full. If
    only the orientation varies, or the orientation and the volume, it is D, because D points determine D axes. It is 2 for the
    other types. A component with fewer points is degenerate. With one feature, only the volume counts.
    """
    volume, shape, orientation = code_of(covariance_type)
    if num_features == 1:
        return 2 if volume == "V" else 0
    if is_shared(covariance_type):
        return 0
    if orientation != "V":
        return 2
    return num_features + 1 if shape == "V" else num_features


def fewest_rows(covariance_type: str, num_components: int, num_features: int) -> int:
    """Return the smallest number of rows from which the covariances can be estimated.

    With fewer rows, estimation is impossible, however the rows are divided among the components. The number is D + 1 if the
    orientation varies, as for full, and 2 for diag and spherical. If all components share the axes, it is D + K, because the
    scatters are computed about K means. For EII and EEI it is K + 1.
    """
    k, d = num_components, num_features
    if is_dense(covariance_type):
        return d + 1 if code_of(covariance_type)[2] == "V" else d + k
    return k + 1 if is_shared(covariance_type) else 2
