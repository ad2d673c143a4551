"""Gaussian mixtures in JAX: point estimates by EM, posteriors, and comparisons of the two.

A `Mixture` holds the parameters. `initialize` computes a start from the data. `fit` runs EM from this start and returns a
`Fit`, which contains the estimate and a status that says how EM ended. Without a prior, `fit` computes the maximum likelihood
estimate, with a small penalty that prevents degenerate components. With `default_prior`, it computes the posterior mode.

    k1, k2 = jax.random.split(jax.random.key(0))
    prior = jaxgmm.default_prior(x, num_components=3)
    fit = jaxgmm.fit(jaxgmm.initialize(k1, x, num_components=3), x, prior)

Under the same prior, `nuts` and `gibbs` draw from the posterior. `laplace` approximates the posterior quickly and reports how
accurate the approximation is. `smc` moves particles from the prior to the posterior, without a start. `telescope` draws the
number of components too. Each of these functions returns a `Posterior`, which holds a Mixture with leading axes (chains,
draws). `log_evidence` integrates the likelihood over the prior. `compare` shows the point estimate beside the posterior and
says whether they agree:

    print(jaxgmm.compare(fit, jaxgmm.nuts(k2, fit.mixture, x, prior), x))

`write_report` writes this comparison as an HTML page with figures. The functions of `jaxgmm.plot` draw such figures on
Matplotlib axes that you pass.

`fit_restarts` fits from several starts and returns the best fit. `select` compares numbers of components and covariance types.
`fit_many` fits many data sets, whose numbers of rows may differ. `fit_batches` fits data that do not fit into memory.
`standard_errors` computes standard errors from the information matrix or by the sandwich estimator, and `bootstrap` fits
replicates of the data. A fit is differentiable: `jax.grad` of a function that calls `fit` gives the influence of each point,
weight and hyperparameter.

`observations` takes data with missing or censored values, measurement noise or partly known labels. `impute` fills missing
values under a mixture, and `denoise` estimates the true values of rows with measurement noise.

All functions work on arrays. You can call `e_step` and `m_step` in your own loops, apply `jax.vmap` to `fit` for many data
sets, or evaluate `log_prob`, `responsibilities` and `predict` for any stack of mixtures. Every function that takes data also
takes `sample_weight`. If the input is invalid, a function raises an error whose message is one sentence. Inside jit and vmap,
the values of the input cannot be checked; `Fit.status` then says what happened to each data set.

Letters in shapes: N observations, D features, K components, B data sets, C chains, S draws.

Public names, grouped by purpose (for the full description of a name, call `help`, for example `help(jaxgmm.nuts)`):

    mixtures        Mixture make_mixture num_parameters marginal condition distance Distance
                    merge Merging
    densities       log_prob responsibilities predict sample
    incomplete data observations Observations impute denoise
    starts          initialize from_labels from_responsibilities
    EM              fit Fit Status ComponentStatus e_step m_step Moments fit_restarts
    many data sets  fit_many pad
    large data      fit_batches read_batches initialize_batches
    uncertainty     standard_errors StandardErrors InformationStatus bootstrap
    choosing K      select Selection bic aic icl log_evidence Evidence EvidenceStatus
                    likelihood_ratio_test LikelihoodRatioTest
    priors          default_prior Prior IndependentPrior InverseWishart InverseGamma HalfNormal VolumeShapeOrientation
                    log_prior sample_prior
    posteriors      nuts gibbs laplace smc telescope condition_on_occupied Posterior PosteriorStatus model relabel diagnose
                    to_arviz as_distribution modes Modes partition Partition
    predictions     predictive_log_prob predictive_sample predictive_responsibilities coclustering assignment_entropy
    comparison      compare Comparison
    studies         calibrate Calibration coverage_study Design Study
    files           save load read_table datasets
    figures         plot write_report
    scikit-learn    from_sklearn to_sklearn jaxgmm.sklearn.GaussianMixture
    compilation     enable_compilation_cache
"""

import importlib
import types
import typing

from . import command_interrupt as command_interrupt
from . import datasets as datasets
from .density import log_prob as log_prob
from .density import predict as predict
from .density import responsibilities as responsibilities
from .em.assignments import from_labels as from_labels
from .em.assignments import from_responsibilities as from_responsibilities
from .em.fit import fit as fit
from .em.initialization import initialize as initialize
from .em.m_step import m_step as m_step
from .em.moments import Moments as Moments
from .em.moments import e_step as e_step
from .em.result import ComponentStatus as ComponentStatus
from .em.result import Fit as Fit
from .em.result import Status as Status
from .incomplete.observations import Observations as Observations
from .incomplete.observations import observations as observations
from .marginals import condition as condition
from .marginals import marginal as marginal
from .mixture import Mixture as Mixture
from .mixture import make_mixture as make_mixture
from .mixture import num_parameters as num_parameters
from .priors.conjugate import Prior as Prior
from .priors.covariance_laws import HalfNormal as HalfNormal
from .priors.covariance_laws import InverseGamma as InverseGamma
from .priors.covariance_laws import InverseWishart as InverseWishart
from .priors.defaults import default_prior as default_prior
from .priors.functions import log_prior as log_prior
from .priors.functions import sample_prior as sample_prior
from .priors.independent import IndependentPrior as IndependentPrior
from .priors.volume_shape_orientation import VolumeShapeOrientation as VolumeShapeOrientation
from .sampling import sample as sample

# editors and type checkers do not run code, so they need an explicit import of each name that is imported on first use
if typing.TYPE_CHECKING:
    from . import plot as plot
    from . import sklearn as sklearn
    from .calibration.calibrate import calibrate as calibrate
    from .calibration.result import Calibration as Calibration
    from .comparison.compare import compare as compare
    from .comparison.result import Comparison as Comparison
    from .compilation_cache import enable_compilation_cache as enable_compilation_cache
    from .conversions import from_sklearn as from_sklearn
    from .conversions import to_sklearn as to_sklearn
    from .coverage.design import Design as Design
    from .coverage.study import Study as Study
    from .coverage.study import coverage_study as coverage_study
    from .distances import Distance as Distance
    from .distances import distance as distance
    from .em.batch.fit_many import fit_many as fit_many
    from .em.batch.input_forms import pad as pad
    from .em.batch.restarts import fit_restarts as fit_restarts
    from .em.standard_errors import InformationStatus as InformationStatus
    from .em.standard_errors import StandardErrors as StandardErrors
    from .em.standard_errors import standard_errors as standard_errors
    from .em.stream.fit_batches import fit_batches as fit_batches
    from .em.stream.initialize_batches import initialize_batches as initialize_batches
    from .incomplete.imputation import denoise as denoise
    from .incomplete.imputation import impute as impute
    from .io.archive import load as load
    from .io.archive import save as save
    from .io.read_batches import read_batches as read_batches
    from .io.read_table import read_table as read_table
    from .merging import Merging as Merging
    from .merging import merge as merge
    from .posterior.arviz import to_arviz as to_arviz
    from .posterior.bootstrap import bootstrap as bootstrap
    from .posterior.coclustering import assignment_entropy as assignment_entropy
    from .posterior.coclustering import coclustering as coclustering
    from .posterior.diagnose import diagnose as diagnose
    from .posterior.distribution import as_distribution as as_distribution
    from .posterior.evidence.log_evidence import Evidence as Evidence
    from .posterior.evidence.log_evidence import EvidenceStatus as EvidenceStatus
    from .posterior.evidence.log_evidence import log_evidence as log_evidence
    from .posterior.gibbs import gibbs as gibbs
    from .posterior.laplace import laplace as laplace
    from .posterior.model import model as model
    from .posterior.modes import Modes as Modes
    from .posterior.modes import modes as modes
    from .posterior.nuts import nuts as nuts
    from .posterior.occupied import condition_on_occupied as condition_on_occupied
    from .posterior.partition import Partition as Partition
    from .posterior.partition import partition as partition
    from .posterior.predictive import predictive_log_prob as predictive_log_prob
    from .posterior.predictive import predictive_responsibilities as predictive_responsibilities
    from .posterior.predictive import predictive_sample as predictive_sample
    from .posterior.relabel import relabel as relabel
    from .posterior.result import Posterior as Posterior
    from .posterior.result import PosteriorStatus as PosteriorStatus
    from .posterior.smc.smc import smc as smc
    from .posterior.telescope import telescope as telescope
    from .report.write_report import write_report as write_report
    from .selection.criteria import aic as aic
    from .selection.criteria import bic as bic
    from .selection.criteria import icl as icl
    from .selection.likelihood_ratio import LikelihoodRatioTest as LikelihoodRatioTest
    from .selection.likelihood_ratio import likelihood_ratio_test as likelihood_ratio_test
    from .selection.select import Selection as Selection
    from .selection.select import select as select

__version__ = "0.1.0"

# these lazy names are imported on first use, because they need numpyro (1.3 s to import) or because many users never need them
_LAZY = {
    "fit_many": ".em.batch.fit_many",
    "fit_restarts": ".em.batch.restarts",
    "pad": ".em.batch.input_forms",
    "fit_batches": ".em.stream.fit_batches",
    "initialize_batches": ".em.stream.initialize_batches",
    "read_batches": ".io.read_batches",
    "Distance": ".distances",
    "distance": ".distances",
    "LikelihoodRatioTest": ".selection.likelihood_ratio",
    "likelihood_ratio_test": ".selection.likelihood_ratio",
    "Merging": ".merging",
    "merge": ".merging",
    "Selection": ".selection.select",
    "aic": ".selection.criteria",
    "denoise": ".incomplete.imputation",
    "impute": ".incomplete.imputation",
    "bic": ".selection.criteria",
    "icl": ".selection.criteria",
    "select": ".selection.select",
    "InformationStatus": ".em.standard_errors",
    "StandardErrors": ".em.standard_errors",
    "standard_errors": ".em.standard_errors",
    "Posterior": ".posterior.result",
    "PosteriorStatus": ".posterior.result",
    "smc": ".posterior.smc.smc",
    "telescope": ".posterior.telescope",
    "condition_on_occupied": ".posterior.occupied",
    "Modes": ".posterior.modes",
    "modes": ".posterior.modes",
    "Partition": ".posterior.partition",
    "partition": ".posterior.partition",
    "bootstrap": ".posterior.bootstrap",
    "gibbs": ".posterior.gibbs",
    "Evidence": ".posterior.evidence.log_evidence",
    "EvidenceStatus": ".posterior.evidence.log_evidence",
    "laplace": ".posterior.laplace",
    "log_evidence": ".posterior.evidence.log_evidence",
    "model": ".posterior.model",
    "diagnose": ".posterior.diagnose",
    "nuts": ".posterior.nuts",
    "relabel": ".posterior.relabel",
    "predictive_log_prob": ".posterior.predictive",
    "predictive_sample": ".posterior.predictive",
    "predictive_responsibilities": ".posterior.predictive",
    "coclustering": ".posterior.coclustering",
    "assignment_entropy": ".posterior.coclustering",
    "to_arviz": ".posterior.arviz",
    "as_distribution": ".posterior.distribution",
    "calibrate": ".calibration.calibrate",
    "Calibration": ".calibration.result",
    "compare": ".comparison.compare",
    "Comparison": ".comparison.result",
    "Design": ".coverage.design",
    "Study": ".coverage.study",
    "coverage_study": ".coverage.study",
    "write_report": ".report.write_report",
    "save": ".io.archive",
    "load": ".io.archive",
    "read_table": ".io.read_table",
    "from_sklearn": ".conversions",
    "to_sklearn": ".conversions",
    "enable_compilation_cache": ".compilation_cache",
}
_LAZY_MODULES = ("plot",)  # `plot` is imported on first use, because it imports matplotlib
_OPTIONAL_MODULES = ("sklearn",)  # not in `dir(jaxgmm)`, so that help and tab completion do not import scikit-learn


def __getattr__(name: str) -> typing.Any:
    """Import a lazy name when it is first used, and return its value."""
    if name in _LAZY_MODULES + _OPTIONAL_MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _LAZY:
        raise AttributeError(f"module 'jaxgmm' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return all public names, including lazy names that are not imported yet; internal submodules are left out."""
    here = {name for name, value in globals().items() if name[0] != "_" and not isinstance(value, types.ModuleType)}
    return sorted(here | _LAZY.keys() | {"datasets", *_LAZY_MODULES, "__version__"})
