"""The pictures of README and site, drawn anew: python notebooks/site/gallery.py"""

import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("agg")
from matplotlib.figure import Figure

import jaxgmm
from jaxgmm import plot

FOLDER = Path(__file__).parent / "docs" / "pictures"
KEY = jax.random.key(0)


def fitted(name, num_components, covariance_type="full"):
    """Data, prior and the mode under it."""
    x = jaxgmm.datasets.load(name)
    recipe = {"num_components": num_components, "covariance_type": covariance_type}
    prior = jaxgmm.default_prior(x, **recipe)
    return x, prior, jaxgmm.fit_restarts(KEY, x, prior, **recipe)


def comparison():
    """faithful: EM beside the posterior."""
    x, prior, fit = fitted("faithful", 2)
    names = jaxgmm.datasets.columns("faithful")
    found = jaxgmm.compare(fit, jaxgmm.nuts(KEY, fit.mixture, x, prior), x, feature_names=names)
    plot.comparison_figure(found, fit.mixture, x, feature_names=names).savefig(FOLDER / "comparison.png")


def calibrations():
    """Ranks of the truth among draws: Gibbs, and Laplace on few data."""
    prior = jaxgmm.Prior(*(jnp.asarray(v) for v in ([3.0, 3.0], [0.0], 0.1, 5.0, [[3.0]])))
    options = {"num_components": 2, "covariance_type": "tied", "num_observations": 50, "num_datasets": 256, "progress": False}
    return [jaxgmm.calibrate(KEY, prior, method, **options) for method in ("gibbs", "laplace")]


def gallery():
    """Six pictures on one sheet, and the two of calibration by themselves."""
    figure = Figure(figsize=(15, 9.5), dpi=110, layout="constrained")
    axes = figure.subplots(2, 3)
    iris, _, fit = fitted("iris", 3, "tied")
    pair, names = (2, 0), jaxgmm.datasets.columns("iris")
    plot.scatter(
        axes[0, 0],
        iris[:, pair],
        responsibilities=jaxgmm.responsibilities(fit.mixture, iris),
        feature_names=[f"{names[i].replace('_', ' ')} (cm)" for i in pair],
    )
    plot.contours(axes[0, 0], jaxgmm.marginal(fit.mixture, pair))
    axes[0, 0].set_title("iris: smallest regions of that mass")

    x, prior, fit = fitted("galaxies", 3)
    draws = {name: getattr(jaxgmm, name)(KEY, fit.mixture, x, prior) for name in ("nuts", "laplace")}
    found = jaxgmm.compare(fit, draws, x, feature_names=["velocity"])
    plot.forest(axes[0, 1], found)
    plot.coclustering(axes[0, 2], jaxgmm.coclustering(draws["nuts"], x), labels=jaxgmm.predict(fit.mixture, x))
    axes[0, 2].set_title("galaxies: who belongs together")

    swept = jaxgmm.select(KEY, jaxgmm.datasets.load("faithful"), num_components=range(1, 7))
    plot.selection(axes[1, 0], swept)
    axes[1, 0].set_title("faithful: how many components")
    pictures = dict(zip(("gibbs", "laplace"), calibrations(), strict=True))
    for ax, (name, calibration) in zip(axes[1, 1:], pictures.items(), strict=True):
        plot.rank_ecdfs(ax, calibration)
        ax.set_xlabel(f"rank of the truth among draws of {name}, N = 50")
        alone = Figure(figsize=(6.4, 4.2), dpi=130, layout="constrained")
        plot.rank_ecdfs(alone.subplots(), calibration)
        alone.savefig(FOLDER / f"calibration-{name}.png")
    figure.savefig(FOLDER / "gallery.png")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    comparison()
    gallery()
