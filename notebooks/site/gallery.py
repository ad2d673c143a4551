"""Draw the pictures of the README and of the site. To run it: python notebooks/site/gallery.py."""

import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("agg")
from matplotlib.figure import Figure

import jaxgmm
from jaxgmm import plot
from jaxgmm.covariance import types as covariance_types

FOLDER = Path(__file__).parent / "docs" / "pictures"
KEY = jax.random.key(0)


def load_and_fit(name, num_components, covariance_type="full"):
    """Return a data set, its default prior and the posterior mode."""
    x = jaxgmm.datasets.load(name)
    settings = {"num_components": num_components, "covariance_type": covariance_type}
    prior = jaxgmm.default_prior(x, **settings)
    return x, prior, jaxgmm.fit_restarts(KEY, x, prior, **settings)


def comparison():
    """Draw the comparison of EM with the posterior for the data set faithful."""
    x, prior, fit = load_and_fit("faithful", 2)
    names = jaxgmm.datasets.columns("faithful")
    found = jaxgmm.compare(fit, jaxgmm.nuts(KEY, fit.mixture, x, prior), x, feature_names=names)
    plot.comparison_figure(found, fit.mixture, x, feature_names=names).savefig(FOLDER / "comparison.png")


def calibrations():
    """Return the calibrations of Gibbs and of Laplace with 50 observations per data set."""
    prior = jaxgmm.Prior(*(jnp.asarray(v) for v in ([3.0, 3.0], [0.0], 0.1, 5.0, [[3.0]])))
    options = {"num_components": 2, "covariance_type": "tied", "num_observations": 50, "num_datasets": 256, "progress": False}
    return [jaxgmm.calibrate(KEY, prior, method, **options) for method in ("gibbs", "laplace")]


def gallery():
    """Draw six pictures in one figure, and the two of calibration in their own figures."""
    figure = Figure(figsize=(15, 9.5), dpi=110, layout="constrained")
    axes = figure.subplots(2, 3)
    iris, _, fit = load_and_fit("iris", 3, "tied")
    pair, names = (2, 0), jaxgmm.datasets.columns("iris")
    plot.scatter(
        axes[0, 0],
        iris[:, pair],
        responsibilities=jaxgmm.responsibilities(fit.mixture, iris),
        feature_names=[f"{names[i].replace('_', ' ')} (cm)" for i in pair],
    )
    plot.contours(axes[0, 0], jaxgmm.marginal(fit.mixture, pair))
    axes[0, 0].set_title("iris: smallest regions with the given probability")

    x, prior, fit = load_and_fit("galaxies", 3)
    draws = {name: getattr(jaxgmm, name)(KEY, fit.mixture, x, prior) for name in ("nuts", "laplace")}
    found = jaxgmm.compare(fit, draws, x, feature_names=["velocity"])
    plot.forest(axes[0, 1], found)
    plot.coclustering(axes[0, 2], jaxgmm.coclustering(draws["nuts"], x), labels=jaxgmm.predict(fit.mixture, x))
    axes[0, 2].set_title("galaxies: co-clustering of the posterior")

    swept = jaxgmm.select(KEY, jaxgmm.datasets.load("faithful"), num_components=range(1, 7))
    plot.selection(axes[1, 0], swept)
    axes[1, 0].set_title("faithful: number of components")
    pictures = dict(zip(("gibbs", "laplace"), calibrations(), strict=True))
    for ax, (name, calibration) in zip(axes[1, 1:], pictures.items(), strict=True):
        plot.rank_ecdfs(ax, calibration)
        ax.set_xlabel(f"rank of the truth among draws by {name}, N = 50")
        alone = Figure(figsize=(6.4, 4.2), dpi=130, layout="constrained")
        plot.rank_ecdfs(alone.subplots(), calibration)
        alone.savefig(FOLDER / f"calibration-{name}.png")
    figure.savefig(FOLDER / "gallery.png")


def member(code):
    """Return a mixture of three components of a covariance type that differ as much as the type allows."""
    volumes, ratios, angles = [1.0, 2.0, 0.5], [2.2, 4.0, 1.2], [0.5, 2.0, 3.0]
    volume, ratio, angle = (
        values if letter == "V" else values[:1] * 3 for letter, values in zip(code, (volumes, ratios, angles), strict=True)
    )
    ratio = [1.0] * 3 if code[1] == "I" else ratio
    angle = [0.0] * 3 if code[2] == "I" else angle
    turns = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in angle]
    shapes = [v * t @ np.diag([r, 1 / r]) @ t.T for v, r, t in zip(volume, ratio, turns, strict=True)]
    covariances = np.array(shapes) if code[2] != "I" else np.array([np.diag(s) for s in shapes])
    rows, *_, width = covariance_types.storage_shape(code, 3, 2)
    means = np.array([[-5.0, -2.0], [3.0, 4.5], [5.0, -5.0]])
    return jaxgmm.make_mixture([1 / 3] * 3, means, covariances[:rows, ..., :width], covariance_type=code)


def fourteen_types():
    """Draw three components of each of the fourteen covariance types."""
    figure = Figure(figsize=(12, 4.4), dpi=110, layout="constrained")
    for ax, code in zip(figure.subplots(2, 7).ravel(), covariance_types.CODES, strict=True):
        plot.ellipses(ax, member(code))
        name = covariance_types.canonical(code)
        ax.set(title=code if name == code else f"{code}, {name}", xticks=[], yticks=[], xlabel="", ylabel="", aspect="equal")
        ax.set(xlim=(-12, 12), ylim=(-12, 12))
    figure.savefig(FOLDER / "covariance-types.png")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    comparison()
    gallery()
    fourteen_types()
