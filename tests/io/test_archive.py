"""Test that load returns every bit that save was given, and refuses foreign and damaged files."""

import dataclasses
import json
import os
import subprocess
import sys
import time
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.io.archive import load, save

from helpers import enabled_x64


def numbers(seed, *shape):
    """Random numbers in JAX's default float; the first four are a NaN, minus zero, an infinity and a denormal number."""
    values = np.random.default_rng(seed).normal(size=shape)
    values.reshape(-1)[:4] = np.array([np.nan, -0.0, np.inf, 1e-42])[: values.size]
    return jnp.asarray(values, float)


def finite(seed, *shape):
    return np.nan_to_num(np.asarray(numbers(seed, *shape)), posinf=1.0)


def mixture(*batch, kind="full", k=3, d=2):
    stored = {"full": (k, d, d), "tied": (1, d, d), "diag": (k, d), "spherical": (k, 1)}[kind]
    covariances = 1 + abs(finite(2, *batch, *stored))
    if stored[-2:] == (d, d) and kind in ("full", "tied"):
        covariances = np.eye(d, dtype=covariances.dtype) + 0.1 * (covariances + np.swapaxes(covariances, -1, -2))
    weights = np.exp(finite(0, *batch, k))
    weights /= weights.sum(-1, keepdims=True)
    return jax.tree.map(jnp.asarray, jaxgmm.Mixture(weights, finite(1, *batch, k, d), covariances, kind))


def fit(*batch):
    status = jnp.full(batch, jaxgmm.Status.SINGULAR, jnp.int32)
    component = jnp.full((*batch, 3), jaxgmm.ComponentStatus.AT_FLOOR, jnp.int32)
    history = numbers(5, *batch, 11)
    return jaxgmm.Fit(mixture(*batch), numbers(3, *batch), numbers(4, *batch), history, status + 5, status, component)


def prior(scale=None, d=2):
    c, mean = jnp.asarray(1 + abs(finite(6, 3))), jnp.asarray(finite(7, d))
    if scale is None:
        return jaxgmm.Prior(c, mean, jnp.asarray(0.1), jnp.asarray(d + 2.5), jnp.eye(d) * 1.1)
    return jaxgmm.IndependentPrior(c, mean, jnp.eye(d) * 3.1, scale)


def posterior(under, *batch, kind="full"):
    stats = {
        "diverging": jnp.ones((*batch, 2, 5), bool),
        "num_steps": jnp.full((*batch, 2, 5), 7, jnp.int32),
        "adapt_state.step_size": numbers(11, *batch, 2),
        "other modes/outside": [mixture(*batch, 4), {"log_density": numbers(12, *batch, 4)}],
        "nothing": None,
    }
    status = jnp.full(batch, jaxgmm.PosteriorStatus.DIVERGENCES, jnp.int32)
    return jaxgmm.Posterior(mixture(*batch, 2, 5, kind=kind), numbers(13, *batch, 2, 5), under, status, stats, "gibbs")


THINGS = {
    **{kind: mixture(kind=kind) for kind in ("full", "tied", "diag", "spherical")},
    "stack": mixture(4, 2),
    "fit": fit(),
    "fits": fit(6),
    "sound fit": dataclasses.replace(fit(), status=jnp.asarray(jaxgmm.Status.CONVERGED, jnp.int32)),
    "prior": prior(),
    "posterior": posterior(prior()),
    "without prior": posterior(None, kind="tied"),
    "inverse Wishart": posterior(prior(jaxgmm.InverseWishart(jnp.asarray(4.5), jnp.eye(2) * 0.7))),
    "inverse gamma": posterior(prior(jaxgmm.InverseGamma(jnp.asarray(2.5), jnp.array([0.3, 0.7]))), kind="diag"),
    "half-normal": posterior(prior(jaxgmm.HalfNormal(jnp.array([0.3, 0.7]), jnp.asarray(1.5)))),
    "posteriors": jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), posterior(prior())),
}


def assert_identical(a, b):
    assert type(a) is type(b)
    left, right = jax.tree.flatten(a), jax.tree.flatten(b)
    assert left[1] == right[1]  # types, field names and static fields
    for x, y in zip(left[0], right[0], strict=True):
        assert isinstance(y, jax.Array)
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.mark.parametrize("name", THINGS)
def test_round_trip_is_bitwise(tmp_path, name):
    assert_identical(THINGS[name], load(save(tmp_path / "thing.npz", THINGS[name])))


def test_statuses_come_back_as_codes(tmp_path):
    one = load(save(tmp_path / "fit", THINGS["fit"]))
    assert jaxgmm.Status(int(one.status)) is jaxgmm.Status.SINGULAR
    assert one.status.dtype == jnp.int32
    assert [jaxgmm.ComponentStatus(int(s)).name for s in one.component_status] == ["AT_FLOOR"] * 3
    assert "SINGULAR" in repr(one)
    assert not bool(one.converged)
    drawn = load(save(tmp_path / "posterior", THINGS["posterior"]))
    assert drawn.method == "gibbs"
    assert "DIVERGENCES" in repr(drawn)
    assert drawn.stats["diverging"].dtype == bool


def test_what_is_loaded_works(tmp_path):
    good = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [5.0]], [[[1.0]], [[1.0]]])
    again = load(save(tmp_path / "good", good))
    x = np.array([[1.0], [4.0]])
    assert (jaxgmm.log_prob(again, x) == jaxgmm.log_prob(good, x)).all()


def test_numpy_reads_the_file(tmp_path):
    path = save(tmp_path / "fit", THINGS["fit"])
    with np.load(path) as file:
        assert {"mixture/means", "history", "status", "jaxgmm"} <= set(file.files)
        assert json.loads(file["jaxgmm"].item())["format"] == 1


def test_python_and_numpy_numbers_become_arrays(tmp_path):
    loose = jaxgmm.Prior(np.ones(2, np.float32), [0.0, 1.0], 0.01, 4, np.float32(2.0))
    again = load(save(tmp_path / "loose", loose))
    assert again.mean_precision.dtype == jnp.result_type(float)
    assert again.mean_precision.shape == ()
    assert float(again.scale) == 2
    assert [float(m) for m in again.mean] == [0.0, 1.0]


@pytest.mark.parametrize(("given", "written"), [("a", "a.npz"), ("a.npz", "a.npz"), ("a.dat", "a.dat.npz")])
def test_suffix_is_added_as_numpy_does(tmp_path, given, written):
    path = save(str(tmp_path / given), THINGS["full"])
    assert path == tmp_path / written
    assert os.listdir(tmp_path) == [written]
    assert_identical(THINGS["full"], load(str(tmp_path / given)))
    path.rename(tmp_path / "renamed.bin")
    assert_identical(THINGS["full"], load(tmp_path / "renamed.bin"))


def test_overwrites_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = save(tmp_path / "a", THINGS["full"])
    (tmp_path / "link.npz").symlink_to(path)
    save(tmp_path / "link", THINGS["fit"])
    assert (tmp_path / "link.npz").is_symlink()
    assert isinstance(load(path), jaxgmm.Fit)

    def full_disk(file, **_):
        file.write(b"PK half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space"):
        save(path, THINGS["full"])
    assert isinstance(load(path), jaxgmm.Fit)
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "link.npz"]
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "no" / "folder", THINGS["full"])


def test_killed_while_writing(tmp_path):
    """The earlier file stays whole, and the unfinished one does not replace it."""
    path = save(tmp_path / "a", THINGS["full"])
    code = f"""
import os, numpy as np, jaxgmm
def dies(file, **arrays):
    file.write(b"PK half a file"); file.flush(); os.kill(os.getpid(), 9)
thing = jaxgmm.load({str(path)!r})
np.savez = dies
jaxgmm.save({str(path)!r}, thing)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert_identical(THINGS["full"], load(path))
    assert len(os.listdir(tmp_path)) == 2
    save(path, THINGS["full"])
    assert os.listdir(tmp_path) == ["a.npz"]  # the next run removes what the killed one left


def test_64_bits_where_there_are_32(tmp_path, x64):
    double = jaxgmm.make_mixture([0.1, 0.9], [[1 / 3], [5.0]], [[[1.0]], [[2.0]]])
    assert double.means.dtype == np.float64
    assert_identical(double, load(save(tmp_path / "double", double)))
    counts = jaxgmm.Posterior(mixture(1, 1), jnp.zeros((1, 1)), None, jnp.array(1), {"num_steps": jnp.array([2**20])})
    huge = jaxgmm.Posterior(mixture(1, 1), jnp.zeros((1, 1)), None, jnp.array(1), {"num_steps": jnp.array([2**40])})
    large = jaxgmm.Mixture(double.weights, 1e300 * double.means, double.covariances)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), double)
    paths = {
        name: save(tmp_path / name, thing)
        for name, thing in [("double", double), ("counts", counts), ("huge", huge), ("large", large), ("single", single)]
    }
    assert load(paths["single"]).means.dtype == np.float32
    with enabled_x64(False):
        with pytest.warns(RuntimeWarning, match="rounded to float32") as caught:
            rounded = load(paths["double"])
        assert caught[0].filename == __file__
        assert rounded.means.dtype == np.float32
        assert float(rounded.means[0, 0]) == np.float32(1 / 3)
        load(paths["single"])  # no warning
        with pytest.warns(RuntimeWarning, match="rounded to float32"):
            again = load(paths["counts"])
        assert again.status.dtype == np.int32
        assert again.stats["num_steps"].tolist() == [2**20]
        for name, words in [("large", "float64 numbers that float32 cannot hold"), ("huge", "int64 numbers that int32 cannot")]:
            with pytest.raises(ValueError, match=words):
                load(paths[name])


@pytest.mark.parametrize(
    ("thing", "error", "words"),
    [
        (3, TypeError, "one of Mixture, Fit, Posterior"),
        (jaxgmm.Moments(*numbers(0, 4)), TypeError, "thing is Moments"),
        (mixture, TypeError, "thing is function"),
        (jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), THINGS["full"]), TypeError, "weights has dtype bfloat16"),
        (jaxgmm.Mixture(numbers(0, 2), numbers(1, 3, 2), numbers(2, 3, 2, 2)), ValueError, "weights has shape"),
        (jaxgmm.Mixture(numbers(0, 3), numbers(1, 3, 2), numbers(2, 3), "round"), ValueError, "covariance_type is 'round'"),
        (jaxgmm.Posterior(mixture(1, 1), 0.0, None, 0, {"key": jax.random.key(0)}), TypeError, "stats/key is a random key"),
        (jaxgmm.Posterior(mixture(1, 1), 0.0, None, 0, {3: 1.0}), TypeError, "stats has an entry called 3"),
        (jaxgmm.Posterior(mixture(1, 1), 0.0, None, 0, {"a/b": 1, "a": {"b": 2}}), ValueError, "the name of two entries"),
    ],
)
def test_not_saved(tmp_path, thing, error, words):
    with pytest.raises(error, match=words):
        save(tmp_path / "a", thing)
    assert os.listdir(tmp_path) == []


def test_not_saved_from_inside_jit_or_to_no_path(tmp_path):
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda m: save(tmp_path / "a", m).name)(THINGS["full"])
    with pytest.raises(TypeError, match="path is int"):
        save(3, THINGS["full"])
    with pytest.raises(TypeError, match="path is NoneType"):
        load(None)


def test_files_that_are_not_ours(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .* written by jaxgmm\.save was expected"):
        load(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"folder' is not a file; a file written by jaxgmm\.save was expected"):
        load(tmp_path / "folder")
    (tmp_path / "folder").rmdir()
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "arrays.npz", weights=np.ones(3))
    np.save(tmp_path / "one.npy", np.ones(3))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=r"is not a file of jaxgmm; a file written by jaxgmm\.save was expected"):
            load(path)


def rewrite(path, change):
    """Write the file again after change(arrays, header), without checks."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(arrays.pop("jaxgmm").item())
    change(arrays, header)
    np.savez(path, **arrays, jaxgmm=np.array(json.dumps(header)))


FIELDS = ("thing", "fields")
DAMAGES = {
    "an array is missing": lambda a, h: a.pop("means"),
    "an array too many": lambda a, h: a.update(more=np.ones(2)),
    "an array of another shape": lambda a, h: a.update(means=np.ones((3, 3), np.float32)),
    "words in the place of numbers": lambda a, h: a.update(weights=np.array(["a", "b", "c"])),
    "an unknown kind": lambda a, h: h["thing"].update(kind="os.system"),
    "an unknown field": lambda a, h: h["thing"]["fields"].update(colour="red"),
    "a field that is missing": lambda a, h: (h["thing"]["fields"].pop("means"), a.pop("means")),
    "text in the place of an array": lambda a, h: (h["thing"]["fields"].update(means="no"), a.pop("means")),
    "a list in the place of a type": lambda a, h: h["thing"]["fields"].update(covariance_type=["full"]),
    "an unknown covariance type": lambda a, h: h["thing"]["fields"].update(covariance_type="round"),
    "no description": lambda a, h: h.pop("thing"),
    "a description of nothing": lambda a, h: (h.update(thing=None), a.clear()),
    "a description that is a number": lambda a, h: h.update(thing=3),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged(tmp_path, name):
    path = save(tmp_path / "a", THINGS["full"])
    rewrite(path, DAMAGES[name])
    with pytest.raises(ValueError, match="is damaged"):
        load(path)


def set_to(name, value):
    """Change an array so that its first number is a value."""

    def change(arrays, header):
        arrays[name] = arrays[name].copy()
        arrays[name].reshape(-1)[0] = value

    return change


def without(field):
    """Leave a field empty in the header, and its array out."""

    def change(arrays, header):
        node = header["thing"]["fields"]
        *parents, last = field.split("/")
        for parent in parents:
            node = node[parent]["fields"]
        for name in [name for name in arrays if name == field or name.startswith(f"{field}/")]:
            arrays.pop(name)
        node[last] = None

    return change


INVALID = {
    "weights that are NaN": ("full", set_to("weights", np.nan), "weights holds NaN"),
    "a negative weight": ("full", set_to("weights", -0.5), "weights has a negative value"),
    "weights that do not sum to one": ("full", set_to("weights", 3.0), "weights sum to"),
    "means that are infinite": ("diag", set_to("means", np.inf), "means holds NaN or infinity"),
    "a negative variance": ("diag", set_to("covariances", -1.0), "covariances has a variance of -1"),
    "a variance of zero": ("spherical", set_to("covariances", 0.0), "variances > 0"),
    "a negative diagonal": ("full", set_to("covariances", -1.0), "covariances has a variance of -1"),
    "a matrix that is not symmetric": ("tied", lambda a, h: a["covariances"].__setitem__((0, 0, 1), 5.0), "not symmetric"),
    "weights of a sound fit": ("sound fit", set_to("mixture/weights", np.nan), "weights holds NaN"),
    "a variance of a sound fit": ("sound fit", set_to("mixture/covariances", -1.0), "covariances has a variance"),
    "a status that is none": ("fit", set_to("status", 99), "status holds values that are no codes"),
    "a status of another shape": ("fit", lambda a, h: a.update(status=np.zeros(4, np.int32)), "status has shape"),
    "weights of a posterior": ("posterior", set_to("mixture/weights", -1.0), "weights has a negative value"),
    "a density of another shape": ("posterior", lambda a, h: a.update(log_density=np.zeros(3)), "log_density has shape"),
    "a concentration below zero": ("prior", set_to("weight_concentration", -1.0), "prior.weight_concentration"),
    "a scale below zero": ("prior", set_to("scale", -1.0), "scale"),
    "a prior inside a posterior": ("posterior", set_to("prior/weight_concentration", np.nan), "weight_concentration"),
    "a law of covariances": ("inverse gamma", set_to("prior/scale/shape", -1.0), "shape"),
}


@pytest.mark.filterwarnings("ignore:.*will refuse it")
@pytest.mark.parametrize("name", INVALID)
def test_values_that_no_constructor_takes(tmp_path, name):
    thing, change, words = INVALID[name]
    path = save(tmp_path / "a", THINGS[thing])
    rewrite(path, change)
    with pytest.raises(ValueError, match=words) as refused:
        load(path)
    assert "a.npz' is" in str(refused.value)


@pytest.mark.parametrize(
    ("thing", "field"),
    [
        ("full", "weights"),
        ("fit", "history"),
        ("fit", "mixture"),
        ("prior", "mean"),
        ("prior", "weight_concentration"),
        ("posterior", "log_density"),
        ("posterior", "prior/scale"),
        ("half-normal", "prior/scale/sd"),
    ],
)
def test_fields_that_are_none(tmp_path, thing, field):
    path = save(tmp_path / "a", THINGS[thing])
    rewrite(path, without(field))
    with pytest.raises(ValueError, match=rf"is damaged: .*{field.rpartition('/')[2]} is missing"):
        load(path)


def test_failed_results_may_hold_anything(tmp_path):
    """A stack is loaded although one of its fits, or one of its posteriors, failed."""
    nan = jax.tree.map(lambda leaf: leaf * jnp.nan, mixture(6))
    assert_identical(
        dataclasses.replace(fit(6), mixture=nan), load(save(tmp_path / "a", dataclasses.replace(fit(6), mixture=nan)))
    )
    failed = dataclasses.replace(posterior(None), status=jnp.asarray(jaxgmm.PosteriorStatus.NONFINITE, jnp.int32))
    failed = dataclasses.replace(failed, mixture=jax.tree.map(lambda leaf: leaf * jnp.nan, failed.mixture))
    assert_identical(failed, load(save(tmp_path / "a", failed)))


def test_what_load_will_refuse_is_saved_with_a_warning(tmp_path):
    with pytest.warns(
        RuntimeWarning, match=r"is written, but jaxgmm\.load will refuse it: weights has a negative value"
    ) as caught:
        path = save(tmp_path / "a", jaxgmm.Mixture(jnp.array([-1.0, 2.0]), jnp.zeros((2, 1)), jnp.ones((2, 1)), "diag"))
    assert caught[0].filename == __file__
    with np.load(path) as file:
        assert file["weights"].tolist() == [-1, 2]
    with pytest.raises(ValueError, match="is not valid: weights has a negative value"):
        load(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name(tmp_path):
    path = save(tmp_path / "a", THINGS["full"])
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("means.npy", file.read("means.npy"))
    with pytest.raises(ValueError, match="is damaged: it holds two arrays of one name"):
        load(path)


def test_many_arrays_take_no_longer_each(tmp_path):
    """A file of 20 000 arrays is refused in a second or two, not after a search through all names for each of them."""
    path = save(tmp_path / "a", THINGS["full"])
    with zipfile.ZipFile(path, "a") as file:
        content = file.read("means.npy")
        for i in range(20_000):
            file.writestr(f"more/{i}.npy", content)
    start = time.process_time()
    with pytest.raises(ValueError, match="is damaged"):
        load(path)
    assert time.process_time() - start < 20


def test_newer_formats(tmp_path):
    path = save(tmp_path / "a", THINGS["full"])
    rewrite(path, lambda a, h: h.update(format=2, thing="what only the next version knows"))
    with pytest.raises(ValueError, match="has format 2; up to 1 was expected: a newer jaxgmm wrote it"):
        load(path)


def test_bytes_that_were_cut_or_turned(tmp_path):
    """Half a file is refused; with one bit flipped in every 50th byte, a file is refused or loads unchanged."""
    path = save(tmp_path / "a", THINGS["fit"])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"not a file of jaxgmm|is damaged"):
        load(path)
    refused = 0
    for place in range(0, len(whole), 50):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            again = load(path)
        except ValueError:
            refused += 1
        else:
            assert_identical(THINGS["fit"], again)
    assert refused > len(whole) / 50 / 2


def test_files_made_to_harm(tmp_path):
    """A compressed member (a small file of a huge array), a header that claims 2^60 numbers, a name outside the folder."""
    path = save(tmp_path / "a", THINGS["full"])
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    with pytest.raises(ValueError, match="is damaged: it is compressed"):
        load(bomb)
    claimed = members["means.npy"].replace(b"(3, 2)", b"(" + str(2**60).encode() + b",)")
    for change in ({"means.npy": claimed}, {"../../climbs.npy": members["means.npy"]}):
        with zipfile.ZipFile(bomb, "w") as file:
            for name, content in (members | change).items():
                file.writestr(name, content)
        with pytest.raises(ValueError, match="is damaged"):
            load(bomb)
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "bomb.npz"]


def test_loading_a_posterior_needs_no_numpyro(tmp_path):
    path = save(tmp_path / "a", THINGS["posterior"])
    code = f"import sys, jaxgmm; jaxgmm.load({str(path)!r}); print([m for m in ('numpyro', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
