"""Gaussian mixtures in JAX, as point estimates and as posteriors. The tour:

A `Mixture` is the one noun. `initialize` makes a start from data, `fit` runs EM from it and returns a `Fit`: the estimate with
its own diagnosis. Without a prior that is maximum likelihood kept from collapse; with `default_prior` the posterior mode.

    k1, k2 = jax.random.split(jax.random.key(0))
    prior = jaxgmm.default_prior(x, num_components=3)
    fit = jaxgmm.fit(jaxgmm.initialize(k1, x, num_components=3), x, prior)

The same prior serves `nuts`, whose `Posterior` holds a Mixture with leading axes (chains, draws), `gibbs`, and `laplace`, which is
quick and says how far to trust it; `log_evidence` integrates the likelihood. `compare` puts the point estimate beside the
posterior and says where they agree:

    print(jaxgmm.compare(fit, jaxgmm.nuts(k2, fit.mixture, x, prior), x))

`write_report` puts that on a page for a browser, with the pictures of `jaxgmm.plot`, which draw on axes of your own.

`fit_restarts` takes the best of several starts, `select` sweeps numbers of components and covariance types, `fit_many` takes data
sets of any lengths. `standard_errors` gives the information or the sandwich, `bootstrap` replicates, and a fit is
differentiable: `jax.grad` through `fit` is the influence of every point, weight and hyperparameter.

Everything is a function of arrays: call `e_step` and `m_step` in your own loops, `jax.vmap` a fit over many data sets, evaluate
`log_prob`, `responsibilities` or `predict` on any stack of mixtures. `sample_weight` is an option wherever data are taken.
Errors come at the door, in a sentence; inside jit and vmap nothing raises and `Fit.status` says what happened, lane by lane.

Letters: N observations, D features, K components, B data sets, C chains, S draws.

Names, by what they are for (`help(jaxgmm.fit)` tells each in full):

    a mixture       Mixture make_mixture num_parameters marginal condition
    what it says    log_prob responsibilities predict sample
    starts          initialize from_labels from_responsibilities
    point estimate  fit Fit Status ComponentStatus e_step m_step Moments fit_restarts
    many data sets  fit_many pad
    how sure        standard_errors StandardErrors InformationStatus bootstrap
    how many        select Selection bic aic icl log_evidence Evidence EvidenceStatus
    priors          default_prior Prior IndependentPrior InverseWishart InverseGamma HalfNormal log_prior sample_prior
    posterior       nuts gibbs laplace Posterior PosteriorStatus model relabel diagnose to_arviz
    its words       predictive_log_prob predictive_sample predictive_responsibilities coclustering assignment_entropy
    both            compare Comparison
    studies         calibrate Calibration coverage_study Design Study
    files           save load datasets
    pictures        plot write_report
"""

import importlib
import types
import typing

from . import datasets as datasets
from .density import condition as condition, log_prob as log_prob, marginal as marginal, predict as predict
from .density import responsibilities as responsibilities, sample as sample
from .em.fitting import fit as fit
from .em.moments import Moments as Moments, e_step as e_step, m_step as m_step
from .em.result import ComponentStatus as ComponentStatus, Fit as Fit, Status as Status
from .em.starts import from_labels as from_labels, from_responsibilities as from_responsibilities, initialize as initialize
from .mixture import Mixture as Mixture, make_mixture as make_mixture, num_parameters as num_parameters
from .prior import HalfNormal as HalfNormal, IndependentPrior as IndependentPrior, InverseGamma as InverseGamma
from .prior import InverseWishart as InverseWishart, Prior as Prior, default_prior as default_prior
from .prior import log_prior as log_prior, sample_prior as sample_prior

if typing.TYPE_CHECKING:  # the names below once more, for editors and type checkers, which run nothing
    from . import plot as plot
    from .em.many import fit_many as fit_many, fit_restarts as fit_restarts, pad as pad
    from .em.select import Selection as Selection, aic as aic, bic as bic, icl as icl, select as select
    from .em.standard_errors import InformationStatus as InformationStatus, StandardErrors as StandardErrors
    from .em.standard_errors import standard_errors as standard_errors
    from .posterior.draws import Posterior as Posterior, PosteriorStatus as PosteriorStatus
    from .posterior.bootstrap import bootstrap as bootstrap
    from .posterior.gibbs import gibbs as gibbs
    from .posterior.evidence import Evidence as Evidence, EvidenceStatus as EvidenceStatus, log_evidence as log_evidence
    from .posterior.laplace import laplace as laplace
    from .posterior.model import model as model
    from .posterior.diagnose import diagnose as diagnose
    from .posterior.nuts import nuts as nuts
    from .posterior.relabel import relabel as relabel
    from .posterior.predictive import (
        assignment_entropy as assignment_entropy,
        coclustering as coclustering,
        predictive_log_prob as predictive_log_prob,
    )
    from .posterior.predictive import (
        predictive_responsibilities as predictive_responsibilities,
        predictive_sample as predictive_sample,
    )
    from .posterior.export import to_arviz as to_arviz
    from .experiment.calibrate import calibrate as calibrate
    from .experiment.calibration import Calibration as Calibration
    from .experiment.compare import Comparison as Comparison, compare as compare
    from .experiment.design import Design as Design
    from .experiment.study import Study as Study, coverage_study as coverage_study
    from .report import write_report as write_report
    from .io import load as load, save as save

__version__ = "0.1.0"

# names that need numpyro (1.3 s), or that many never use, resolve on first use
_LAZY = {
    "fit_many": ".em.many",
    "fit_restarts": ".em.many",
    "pad": ".em.many",
    "Selection": ".em.select",
    "aic": ".em.select",
    "bic": ".em.select",
    "icl": ".em.select",
    "select": ".em.select",
    "InformationStatus": ".em.standard_errors",
    "StandardErrors": ".em.standard_errors",
    "standard_errors": ".em.standard_errors",
    "Posterior": ".posterior.draws",
    "PosteriorStatus": ".posterior.draws",
    "bootstrap": ".posterior.bootstrap",
    "gibbs": ".posterior.gibbs",
    "Evidence": ".posterior.evidence",
    "EvidenceStatus": ".posterior.evidence",
    "laplace": ".posterior.laplace",
    "log_evidence": ".posterior.evidence",
    "model": ".posterior.model",
    "diagnose": ".posterior.diagnose",
    "nuts": ".posterior.nuts",
    "relabel": ".posterior.relabel",
    "predictive_log_prob": ".posterior.predictive",
    "predictive_sample": ".posterior.predictive",
    "predictive_responsibilities": ".posterior.predictive",
    "coclustering": ".posterior.predictive",
    "assignment_entropy": ".posterior.predictive",
    "to_arviz": ".posterior.export",
    "calibrate": ".experiment.calibrate",
    "Calibration": ".experiment.calibration",
    "compare": ".experiment.compare",
    "Comparison": ".experiment.compare",
    "Design": ".experiment.design",
    "Study": ".experiment.study",
    "coverage_study": ".experiment.study",
    "write_report": ".report",
    "save": ".io",
    "load": ".io",
}
_LAZY_ROOMS = ("plot",)  # matplotlib


def __getattr__(name: str) -> typing.Any:
    if name in _LAZY_ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name not in _LAZY:
        raise AttributeError(f"module 'jaxgmm' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not; the rooms behind them are left out."""
    here = {name for name, value in globals().items() if name[0] != "_" and not isinstance(value, types.ModuleType)}
    return sorted(here | _LAZY.keys() | {"datasets", *_LAZY_ROOMS, "__version__"})
