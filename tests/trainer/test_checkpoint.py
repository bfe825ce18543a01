"""Files that either are whole or do not exist."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import prepared
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distbp import ArrayDataset, BinaryCrossEntropy, Huber, Model, Network, SoftmaxCrossEntropy, SquaredError
from distbp.files import DamagedFile, atomic_write, read_file, write_file
from distbp.trainer.checkpoints import Checkpoints

DTYPES = ["f4", "f8", "f2", "i1", "i4", "i8", "u1", "u8", "bool"]
ARRAYS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=5).filter(lambda name: name != "__metadata__"),
    st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(max_dims=3, min_side=0, max_side=4))),
    max_size=4,
)
KEYS = st.text(max_size=5).filter(lambda key: key != "sha256")
STATES = st.dictionaries(
    KEYS,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def same(one, two):
    return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()


@given(ARRAYS, STATES)
def test_what_is_written_is_read_back_and_equal_content_is_equal_bytes(tmp_path_factory, arrays, state):
    folder = tmp_path_factory.mktemp("files")
    write_file(folder / "a", arrays, state)
    write_file(folder / "b", dict(reversed(arrays.items())), state)
    back, back_state = read_file(folder / "a")
    assert back_state == state and set(back) == set(arrays)
    assert all(same(back[name], array) for name, array in arrays.items())
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


@pytest.mark.parametrize(
    "array",
    [np.arange(12.0).reshape(3, 4).T, np.arange(9.0)[::2], np.arange(3, dtype=">f8")],
    ids=["transposed", "strided", "big-endian"],
)
def test_unusual_arrays_are_read_back(tmp_path, array):
    write_file(tmp_path / "a", {"a": array}, {})
    back = read_file(tmp_path / "a")[0]["a"]
    assert back.shape == array.shape and np.array_equal(back, array)


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.safetensors"
    write_file(path, {"a": np.arange(3.0), "b": np.ones((2, 2), np.float32)}, {"step": 3, "text": "\u00e9"})
    return path, path.read_bytes()


def undetected(path, versions):
    """Which versions of a file are read as if they were whole, or raise anything but `DamagedFile`."""
    out = []
    for name, content in versions:
        path.write_bytes(content)
        try:
            read_file(path)
            out.append((name, "read"))
        except DamagedFile:
            pass
        except Exception as error:
            out.append((name, repr(error)))
    return out


@pytest.mark.parametrize("bits", [0x01, 0x20, 0x80, 0xFF])
def test_every_flipped_byte_is_noticed(small, bits):
    path, content = small
    flipped = ((i, content[:i] + bytes([content[i] ^ bits]) + content[i + 1 :]) for i in range(len(content)))
    assert undetected(path, flipped) == []


def test_every_truncation_and_extension_is_noticed(small):
    path, content = small
    assert undetected(path, ((n, content[:n]) for n in range(len(content)))) == []
    assert undetected(path, [("longer", content + b"\0"), ("twice", content * 2), ("shifted", content[1:])]) == []


def test_a_missing_file_is_not_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "nowhere")


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, function, before):
    path = tmp_path / "a"
    if before is not None:
        path.write_bytes(before)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, b"new")
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ([] if before is None else ["a"])
    assert before is None or path.read_bytes() == before


def test_a_write_replaces_the_old_file_whatever_a_killed_writer_left(tmp_path):
    (tmp_path / ".a.tmp").mkdir()
    (tmp_path / ".a.0a1b2c3d.tmp").write_bytes(b"half of an older one, long")
    for content in (b"old", b"new"):
        atomic_write(tmp_path / "a", content)
        assert (tmp_path / "a").read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 3


def test_writers_of_one_file_do_not_meet(tmp_path):
    contents = [bytes([k]) * 100_000 for k in range(8)]
    with ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit(atomic_write, tmp_path / "a", content) for content in contents * 10]
        while not all(job.done() for job in jobs):
            if (tmp_path / "a").exists():
                assert (tmp_path / "a").read_bytes() in contents
        assert [job.result() for job in jobs] == [None] * 80
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_stays_one_and_what_is_no_file_is_written_as_it_comes(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a")
    atomic_write(tmp_path / "link", b"through it")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "a").read_bytes() == b"through it"
    atomic_write(Path("/dev/null"), b"gone")
    assert not Path("/dev/null").is_file()
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        atomic_write(Path("/dev/full"), b"too much")


# checkpoints


def save_all(checkpoints, steps, best=None):
    for step in steps:
        checkpoints.save(step, {"theta": np.full(3, step)}, {"step": step}, best=best)


def steps_in(checkpoints):
    return [int(path.stem.removeprefix("step-")) for path in checkpoints.all()]


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [(1, None, [5]), (2, None, [4, 5]), (9, None, [1, 2, 3, 4, 5]), (1, 2, [2, 5]), (2, 4, [4, 5]), (2, 1, [1, 4, 5])],
)
def test_the_newest_and_the_best_stay(tmp_path, keep, best, left):
    checkpoints = Checkpoints(tmp_path / "new" / "folder", keep=keep)
    save_all(checkpoints, range(1, 6), best)
    assert steps_in(checkpoints) == left


def test_the_newest_is_by_step_not_by_name(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=9)
    save_all(checkpoints, [9, 10, 99, 100])
    path, arrays, state, warnings = checkpoints.newest()
    assert path == checkpoints.path(100) and state == {"step": 100} and not warnings
    assert arrays["theta"].tolist() == [100, 100, 100]


def test_later_files_are_of_a_branch_that_was_left(tmp_path):
    """A run resumed behind damaged files must not lose what it writes; the best one stays."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    save_all(Checkpoints(tmp_path, keep=9), [20, 60, 80])
    for step in (60, 80):
        checkpoints.path(step).write_bytes(b"damaged")
    checkpoints.save(30, {"theta": np.zeros(3)}, {"step": 30}, best=20)
    checkpoints.save(40, {"theta": np.zeros(3)}, {"step": 40}, best=20)
    assert checkpoints.all() == [checkpoints.path(step) for step in (20, 30, 40)]
    assert checkpoints.newest()[2] == {"step": 40}


def test_damaged_ones_are_passed_over_and_named(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=9)
    save_all(checkpoints, [1, 2, 3, 4])
    checkpoints.path(4).write_bytes(b"")
    checkpoints.path(3).write_bytes(checkpoints.path(3).read_bytes()[:-1])
    path, _, state, warnings = checkpoints.newest()
    assert path == checkpoints.path(2) and state == {"step": 2}
    assert len(warnings) == 2 and all(checkpoints.path(n).name in w for n, w in zip((4, 3), warnings, strict=True))


def test_all_damaged_is_an_error_and_none_is_not(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest() == (None, {}, {}, [])
    save_all(checkpoints, [1, 2])
    for path in checkpoints.all():
        path.write_bytes(b"damage")
    with pytest.raises(DamagedFile, match=r"every checkpoint is damaged \(2\)"):
        checkpoints.newest()


def test_at_least_one_is_kept(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        Checkpoints(tmp_path, keep=0)


# the model file


RAW = ArrayDataset(np.random.default_rng(4).normal(size=(50, 3)), None, None)


def model(kind, dtype=np.float32):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(50, 3))
    y, n, loss = {
        "classes": (rng.integers(0, 3, 50), 3, SoftmaxCrossEntropy(0.1)),
        "binary": (rng.integers(0, 2, 50), 1, BinaryCrossEntropy()),
        "labels": (rng.integers(0, 2, (50, 2)), 2, BinaryCrossEntropy()),
        "values": (rng.normal(100, 20, (50, 2)), 2, SquaredError()),
        "huber": (rng.normal(100, 20, 50), 1, Huber(0.3)),
    }[kind]
    rows = prepared(X, y, scaling="standardize", scale_target=True, dtype=dtype)
    return Model(Network([3, 5, n], "tanh", dtype=dtype, seed=1), loss, rows.target, rows.preprocessor), rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["classes", "binary", "labels", "values", "huber"])
def test_a_model_file_gives_equal_predictions_and_equal_bytes(tmp_path, kind, dtype):
    before, rows = model(kind, dtype)
    before.save(tmp_path / "a.safetensors")
    after = Model.load(tmp_path / "a.safetensors")
    after.save(str(tmp_path / "b.safetensors"))
    model(kind, dtype)[0].save(tmp_path / "c.safetensors")
    X = RAW.take(np.arange(50))[0]
    assert np.array_equal(before.predict(X), after.predict(RAW)) and after.network.dtype == dtype
    assert after.target == before.target and vars(after.loss) == vars(before.loss)
    a, b, c = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert a == b == c


def test_a_whole_number_as_a_parameter_of_a_loss_is_kept(tmp_path):
    one, rows = model("values", np.float64)
    Model(one.network, Huber(2), rows.target, rows.preprocessor).save(tmp_path / "m.safetensors")
    assert Model.load(tmp_path / "m.safetensors").loss.threshold == 2


def test_a_model_file_whose_parameters_do_not_fit_is_damaged(tmp_path):
    model("values", np.float64)[0].save(tmp_path / "m.safetensors")
    tensors, state = read_file(tmp_path / "m.safetensors")
    state.pop("sha256", None)
    write_file(tmp_path / "m.safetensors", {k: v[:1] for k, v in tensors.items()}, state)
    with pytest.raises(DamagedFile, match="its parameters are not those of a network"):
        Model.load(tmp_path / "m.safetensors")


def test_predictions_are_probabilities_or_in_the_units_of_the_target():
    for kind, shape in (("classes", (50, 3)), ("binary", (50, 2))):
        one, rows = model(kind)
        p = one.predict_outputs(RAW)
        assert p.shape == shape
        np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-6)
    z = one.network.predict(rows.take(np.arange(50))[0])[:, 0]  # the log-odds of the second class
    np.testing.assert_allclose(p[:, 1], 1.0 / (1.0 + np.exp(-z)), rtol=1e-5)
    one, rows = model("values", np.float64)
    X = rows.take(np.arange(50))[0]
    scale, shift = np.array(rows.preprocessor.target_scale), np.array(rows.preprocessor.target_shift)
    found = one.predict_outputs(RAW)
    np.testing.assert_allclose((found - shift) * scale, one.network.predict(X), rtol=1e-9, atol=1e-12)


def test_a_model_file_has_the_names_and_shapes_of_pytorch(tmp_path):
    model("classes")[0].save(tmp_path / "a")
    shapes = {name: array.shape for name, array in read_file(tmp_path / "a")[0].items()}
    assert shapes == {"0.weight": (5, 3), "0.bias": (5,), "2.weight": (3, 5), "2.bias": (3,)}


@pytest.mark.parametrize("state", [{}, {"format": "other"}])
def test_a_whole_file_that_is_no_model(tmp_path, state):
    write_file(tmp_path / "a", {"theta": np.zeros(3)}, state)
    with pytest.raises(DamagedFile):
        Model.load(tmp_path / "a")


@pytest.mark.parametrize(
    "content", [b"", b"PK\3\4", b"\xff" * 100, b'{"json": 1}' * 9], ids=["empty", "zip", "ones", "json"]
)
def test_a_file_of_something_else_is_no_model(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DamagedFile):
        Model.load(tmp_path / "a")
