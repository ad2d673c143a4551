"""Compare calls with rows on four devices with the same calls on one device; test_row_shards.py runs this as a script.

Usage: python sharded_rows.py FOLDER NAME ... The folder is the one to which XLA_FLAGS write the compiled programs, which show
what moves between devices.
"""

import re
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxgmm
from jaxgmm.calls import public
from jaxgmm.devices.chain_shards import over_chains
from jaxgmm.padding import pad_data
from jaxgmm.posterior.gaussian_approximation import approximate_posterior
from jaxgmm.posterior.unconstrained_space import make_unconstrained_space

DEVICES, N, K = 4, 8192, 2
_COLLECTIVE = re.compile(r"= (.*) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")
_PER_ROW = ("log_prob", "responsibilities", "predict", "log_prob observations")


def calls(x, weight):
    """Return the calls by name. A name that ends in "unweighted" stands for a call without weights."""
    key, weighted = jax.random.key(0), {"sample_weight": weight}
    start = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 0.0], [2.5, 3.0]], [[1.0, 1.0], [1.0, 1.0]], covariance_type="diag")
    prior = jaxgmm.Prior(np.ones(K), np.ones(2), np.array(0.01), np.array(4.0), np.ones(2))
    model, few = {"num_components": K, "covariance_type": "diag"}, {"num_samples": 20, "num_chains": 2}

    @public
    def derivatives(x, weight):
        """Return the potential of NUTS and its gradient near the mode."""
        problem, found = approximate_posterior(key, start, *pad_data(x, weight), prior)
        space = make_unconstrained_space(problem, found.start)
        return jax.jit(jax.value_and_grad(space.potential))(found.mode + 0.01)

    rows = jaxgmm.Observations(x, weight, x < jnp.array([np.inf, 4.0]), noise=jnp.full((1, 2), 0.1))

    def laplace():
        return jaxgmm.laplace(key, start, x, prior, num_samples=200, **weighted)

    return {
        "e_step": lambda: jaxgmm.e_step(start, x, **weighted),
        "fit": lambda: jaxgmm.fit(start, x, tol=0, max_iter=5, **weighted),
        "fit unweighted": lambda: jaxgmm.fit(start, x, prior, accelerate=True),
        "log_prob": lambda: jaxgmm.log_prob(start, x),
        "responsibilities": lambda: jaxgmm.responsibilities(start, x),
        "predict": lambda: jaxgmm.predict(start, x),
        "bic": lambda: jaxgmm.bic(start, x, **weighted),
        "aic": lambda: jaxgmm.aic(start, x),
        "icl": lambda: jaxgmm.icl(start, x, **weighted),
        "initialize": lambda: jaxgmm.initialize(key, x, **model, **weighted),
        "initialize unweighted": lambda: jaxgmm.initialize(key, x, **model),
        "fit_restarts": lambda: jaxgmm.fit_restarts(key, x, **model, num_restarts=2, tol=0, max_iter=5, **weighted),
        "standard_errors": lambda: jaxgmm.standard_errors(start, x, kind="sandwich", **weighted),
        "default_prior": lambda: jaxgmm.default_prior(x, **model, **weighted),
        "laplace": laplace,
        "gibbs": lambda: jaxgmm.gibbs(key, start, x, prior, num_warmup=2, **few, **weighted),
        "gibbs unweighted": lambda: jaxgmm.gibbs(key, start, x, prior, num_warmup=2, **few),
        "nuts": lambda: jaxgmm.nuts(key, start, x, prior, num_warmup=5, **few, **weighted).status,
        "fit observations": lambda: jaxgmm.fit(start, rows, tol=0, max_iter=5),
        "e_step observations": lambda: jaxgmm.e_step(start, rows),
        "log_prob observations": lambda: jaxgmm.log_prob(start, rows),
        "default_prior observations": lambda: jaxgmm.default_prior(rows, **model),
        "standard_errors observations": lambda: jaxgmm.standard_errors(start, rows, kind="sandwich"),
        "laplace observations": lambda: jaxgmm.laplace(key, start, rows, prior, num_samples=200),
        "gibbs observations": lambda: jaxgmm.gibbs(key, start, rows, prior, num_warmup=2, **few),
        "derivatives": lambda: derivatives(x, weight),
        "log_evidence": lambda: jaxgmm.log_evidence(key, laplace(), x, num_samples=1000, **weighted),
    }


def main(names):
    """Make the named calls on one device, on a mesh with Auto axes and on a mesh with Explicit axes, and compare them."""
    jax.config.update("jax_enable_x64", True)
    warnings.filterwarnings("ignore", message=".*(draws|chains|max_iter|far from).*")  # runs of a few steps or draws
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 2)) + 3 * (np.arange(N) % 2)[:, None]
    weight = rng.integers(0, 3, N).astype(float)
    weight[: N // DEVICES] = 0  # the first device has no rows
    whole = calls(x, weight)
    expected = {name: jax.tree.map(np.asarray, whole[name]()) for name in names}
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((DEVICES,), ("rows",), axis_types=(kind,))
        rows = NamedSharding(mesh, PartitionSpec("rows"))
        placed = jax.device_put(x, rows)
        parts = calls(placed, weight if kind is AxisType.Auto else jax.device_put(weight, rows))
        with jax.set_mesh(mesh):
            for name in names:
                found = parts[name]()
                compare(name, found, expected[name])
                if name in _PER_ROW:
                    assert found.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec("rows")), found.ndim), name
                assert (placed.sum() + jax.tree.leaves(found)[0].sum()).shape == (), name  # they lie on one mesh
                print(kind.name, name, flush=True)


def compare(name, found, expected):
    """Raise AssertionError unless a result on several devices equals that on one device."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype, name
        scale = 1e-10 * (1 + abs(other).max(initial=0, where=np.isfinite(other)))
        np.testing.assert_allclose(np.asarray(one), other, rtol=1e-10, atol=scale, err_msg=name)


def refuse_features():
    """Features over devices are refused."""
    mesh = jax.make_mesh((DEVICES,), ("columns",), axis_types=(AxisType.Auto,))
    x = jax.device_put(np.ones((8, DEVICES)), NamedSharding(mesh, PartitionSpec(None, "columns")))
    try:
        jaxgmm.default_prior(x, num_components=1)
    except ValueError as error:
        assert "features divided among devices, over the axes 'columns'" in str(error)  # noqa: PT017  no pytest in this script
    else:
        raise AssertionError("features over devices were not refused")


def fit_many_data_sets():
    """Each device fits its own data sets."""
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(DEVICES, 40, 2)) + 4 * rng.integers(2, size=(DEVICES, 40, 1))
    starts = jaxgmm.Mixture(jnp.full((DEVICES, K), 0.5), jnp.asarray(xs[:, :K]), jnp.ones((DEVICES, K, 2)), "diag")
    whole = jaxgmm.fit_many(starts, xs, tol=1e-4)
    for kind in (AxisType.Auto, AxisType.Explicit):
        sets = NamedSharding(jax.make_mesh((DEVICES,), ("sets",), axis_types=(kind,)), PartitionSpec("sets"))
        found = jaxgmm.fit_many(jax.device_put(starts, sets), jax.device_put(xs, sets), tol=1e-4)
        assert len(found.mixture.means.devices()) == DEVICES
        compare("fit_many", found, jax.tree.map(np.asarray, whole))


def chains_on_devices(names, folder):
    """Each device runs its own chains, of which there need not be a multiple of the number of devices."""
    mesh = jax.make_mesh((DEVICES,), ("chains",), axis_types=(AxisType.Auto,))
    sums = jax.jit(lambda x: over_chains(jnp.add, mesh, (x,), (3,)))(jnp.arange(6))
    assert sums.tolist() == [3, 4, 5, 6, 7, 8]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)) + 3 * (np.arange(60) % 2)[:, None]
    key, few = jax.random.key(0), {"num_samples": 30, "num_chains": 6, "num_warmup": 5}
    start = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 0.0], [2.5, 3.0]], [[1.0, 1.0], [1.0, 1.0]], covariance_type="diag")
    prior = jaxgmm.Prior(np.ones(K), np.ones(2), np.array(0.01), np.array(4.0), np.ones(2))
    for name in names:
        sample = getattr(jaxgmm, name.split()[0])
        whole = sample(key, start, x, prior, **few)
        before = set(Path(folder).iterdir())
        for kind in (AxisType.Auto, AxisType.Explicit):
            everywhere = NamedSharding(jax.make_mesh((DEVICES,), ("chains",), axis_types=(kind,)), PartitionSpec())
            found = sample(key, start, jax.device_put(x, everywhere), prior, **few)
            compare(name, found.mixture.means, np.asarray(whole.mixture.means))
            compare(name, found.stats["rhat"], np.asarray(whole.stats["rhat"]))
            print(kind.name, name, flush=True)
        programs = [path.read_text() for path in set(Path(folder).glob("*after_optimizations.txt")) - before]
        parts = [part for program in programs for part in re.split(r"\n\n", program) if _COLLECTIVE.search(part)]
        assert parts
        assert all(part.startswith("ENTRY") for part in parts)  # no loop over the steps of chains moves anything


def check_programs(folder):
    """Raise AssertionError if a program moves more than small sums between devices."""
    seen = {}
    for path in Path(folder).glob("*after_optimizations.txt"):
        program = path.name.split(".")[1]
        for shapes, kind in _COLLECTIVE.findall(path.read_text()):
            sizes = [
                np.prod([int(n) for n in shape.split(",") if n], dtype=int) for shape in re.findall(r"\[([\d,]*)\]", shapes)
            ]
            assert kind == "all-reduce", (program, kind, shapes)
            assert max(sizes) < N, (program, kind, shapes)
            seen[program] = max(seen.get(program, 0), *sizes)
    print(seen)
    assert seen
    assert not any("fit_on_devices" in program for program in seen)


if __name__ == "__main__":
    main([name for name in sys.argv[2:] if name != "fit_many" and not name.endswith("chains")])
    refuse_features()
    if "fit_many" in sys.argv:
        fit_many_data_sets()
    check_programs(sys.argv[1])
    chains_on_devices([name for name in sys.argv[2:] if name.endswith("chains")], sys.argv[1])
