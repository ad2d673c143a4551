"""What all pictures share: colours, markers, ink, names of axes.

Colours are those of Okabe & Ito (2008), told apart by the colour-blind; a component or method also has its own marker, and EM its
own ink, so that a grey print can be read.
"""

from __future__ import annotations

from collections.abc import Sequence

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A6A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (1, 3)))
INK = "#222222"
METHODS = ("nuts", "gibbs", "laplace", "bootstrap", "em", "map")
DISPLAYED = {"nuts": "NUTS", "gibbs": "Gibbs", "laplace": "Laplace", "em": "EM, likelihood", "map": "EM, posterior mode"}


def color(component: int) -> str:
    """The colour of a component, the same in every picture.

    Example:
        >>> color(0)
        '#0072B2'
    """
    return COLORS[component % len(COLORS)]


def method_style(method: str, position: int = 0) -> tuple[str, str, str]:
    """Colour, marker and name in words of a method, the same in every picture; others by their position.

    Example:
        >>> method_style("gibbs")
        ('#D55E00', 's', 'Gibbs')
        >>> method_style("mine")
        ('#7A6A00', 'X', 'mine')
    """
    place = METHODS.index(method) if method in METHODS else (len(METHODS) + position) % len(COLORS)
    return COLORS[place], MARKERS[place], DISPLAYED.get(method, str(method))


def axis_names(feature_names: Sequence[str] | None, num_features: int) -> list[str]:
    """Names of the features as they stand on axes: no character of theirs starts a formula.

    Example:
        >>> axis_names(None, 2)
        ['feature 0', 'feature 1']
    """
    if feature_names is None:
        return [f"feature {i}" for i in range(num_features)]
    return [plain(name) for name in feature_names]


def plain(text: object) -> str:
    r"""Text for a picture, character by character: matplotlib would read what stands between two dollars as a formula.

    Example:
        >>> plain("US$ per $")
        'US\\$ per \\$'
    """
    return str(text).replace("$", r"\$")
