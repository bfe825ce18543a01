"""Arrays on disk: digits, idx, npz and npy."""

import gzip
import struct

import h5py
import numpy as np
import pytest
from sklearn.datasets import load_digits

from distbp import ArrayDataset, UserError, load, open_dataset
from distbp.data.arrayfiles import find_idx, read_arrays, read_digits, read_idx, read_idx_pair, read_npy
from distbp.data.dataset import Target

IDX_TYPES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def write_idx(path, array):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, IDX_TYPES[array.dtype.str[1:]], array.ndim, *array.shape)
    content = head + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def everything(dataset):
    return dataset.take(np.arange(dataset.n_rows))


def random_array(dtype, shape):
    values = np.random.default_rng(0).normal(0, 50, shape)
    return np.abs(values).astype(dtype) if dtype == "u1" else values.astype(dtype)


def images_and_labels(folder, name, n=6, gz=""):
    X = np.arange(n * 4, dtype="u1").reshape(n, 2, 2)
    write_idx(folder / f"{name}-images-idx3-ubyte{gz}", X)
    write_idx(folder / f"{name}-labels-idx1-ubyte{gz}", (np.arange(n) % 3).astype("u1"))
    return X


def test_digits_are_those_of_scikit_learn():
    X, y, w = everything(read_digits())
    theirs = load_digits()
    assert np.array_equal(X, theirs.data) and np.array_equal(y, theirs.target) and w is None
    assert X.dtype == np.uint8 and read_digits().target.classes == tuple("0123456789")


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("shape", [(5,), (4, 3, 2), (1, 1)])
@pytest.mark.parametrize("dtype", IDX_TYPES)
def test_idx_is_read_back(tmp_path, dtype, shape, suffix):
    array = random_array(dtype, shape)
    back = read_idx(write_idx(tmp_path / f"a{suffix}", array))
    assert back.dtype == array.dtype and back.dtype.isnative and np.array_equal(back, array)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c[:-1], "23 bytes of data, 24 expected"),
        (lambda c: c + b"x", "25 bytes of data, 24 expected"),
        (lambda c: c[:16], "0 bytes of data"),
        (lambda c: c[:15], "truncated within the header"),
        (lambda c: c[:3], "not an idx file"),
        (lambda c: b"", "it begins with nothing"),
        (lambda c: b"\0\0\x07" + c[3:], "begins with 00000703"),
        (lambda c: b"\0\0\x08\0" + c[4:], "not an idx file"),
        (lambda c: b"\x89PNG" + c[4:], "not an idx file"),
        (lambda c: c[:4] + bytes(4) + c[8:16], "tells of \\(0, 3, 2\\) elements"),
        (lambda c: c[:3] + b"\x0b" + bytes(12) + b"\xff" * 32, "empty or damaged"),  # more than an array can count
    ],
)
def test_an_idx_file_that_is_none(tmp_path, damage, message, suffix):
    content = damage(write_idx(tmp_path / "a", random_array("u1", (4, 3, 2))).read_bytes())
    path = tmp_path / f"b{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(UserError, match=message):
        read_idx(path)


@pytest.mark.parametrize("length", [0, 1, 5, 20, -1, -8])
def test_a_truncated_gz_is_a_user_error(tmp_path, length):
    path = write_idx(tmp_path / "a.gz", random_array("i4", (40,)))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="a.gz"):
        read_idx(path)


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_a_folder_of_idx_files(tmp_path, gz):
    X = images_and_labels(tmp_path, "train", 6, gz)
    images_and_labels(tmp_path, "t10k", 3, gz)
    pairs = find_idx(tmp_path)
    assert sorted(pairs) == ["test", "train"]
    dataset = read_idx_pair(*pairs["train"])
    assert np.array_equal(everything(dataset)[0], X.reshape(6, 4))
    assert everything(dataset)[1].tolist() == [0, 1, 2, 0, 1, 2]
    assert read_idx_pair(*pairs["test"]).n_rows == 3


def test_a_lone_test_set_is_a_data_set_of_its_own(tmp_path):
    images_and_labels(tmp_path, "t10k")
    assert list(find_idx(tmp_path)) == ["train"]


def test_labels_that_are_missing_and_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="no idx files"):
        find_idx(tmp_path)
    images_and_labels(tmp_path, "train")
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="train-images-idx3-ubyte has no train-labels-idx1-ubyte"):
        find_idx(tmp_path)


def test_images_and_labels_of_different_length(tmp_path):
    images = write_idx(tmp_path / "i", random_array("u1", (4, 2)))
    labels = write_idx(tmp_path / "l", np.arange(5, dtype="u1"))
    with pytest.raises(UserError, match="4 rows of inputs but 5 targets"):
        read_idx_pair(images, labels)


X4, Y4 = np.arange(12.0).reshape(4, 3), np.array([3, 1, 3, 7])


@pytest.mark.parametrize(
    ("x", "y"),
    [("X", "y"), ("x", "target"), ("images", "labels"), ("data", "targets"), ("X_train", "y_train"),
     ("x_train", "y_train"), ("inputs_train", "labels_train")],
)  # fmt: skip
def test_npz(tmp_path, x, y):
    np.savez(tmp_path / "a.npz", **{x: X4.reshape(4, 3, 1), y: Y4})
    dataset = read_arrays(tmp_path / "a.npz")
    X, labels, _ = everything(dataset)
    assert np.array_equal(X, X4) and labels.tolist() == [1, 0, 1, 2] and dataset.in_memory
    assert dataset.target.classes == ("1", "3", "7")
    assert read_arrays(tmp_path / "a.npz", "test") is None


def test_npz_with_a_test_part_and_weights(tmp_path):
    np.savez(tmp_path / "a.npz", X=X4, y=Y4, w=np.arange(1.0, 5.0), X_test=X4[:2], y_test=Y4[:2])
    train = read_arrays(tmp_path / "a.npz", weight="w")
    test = read_arrays(tmp_path / "a.npz", "test", weight="w", like=train.target)
    assert everything(train)[2].tolist() == [1, 2, 3, 4]
    assert np.array_equal(everything(test)[0], X4[:2]) and everything(test)[1].tolist() == [1, 0]


def test_npz_without_a_target(tmp_path):
    np.savez(tmp_path / "a.npz", X=X4)
    assert read_arrays(tmp_path / "a.npz").target is None


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"Z": X4, "y": Y4}, {}, "no array X in it; it has Z, y"),
        ({}, {}, "no array X"),
        ({"X": X4, "y": Y4[:3]}, {}, "4 rows of inputs but 3 targets"),
        ({"X": X4, "y": Y4}, {"weight": "w"}, "no array 'w'"),
        ({"X": X4, "y": Y4, "w": -np.ones(4)}, {"weight": "w"}, "sample weights"),
        ({"X": np.array([["a", "b"]] * 4), "y": Y4}, {}, "numbers .* are needed"),
        ({"X": X4[:, 0], "y": Y4}, {}, "shape"),
        ({"X": X4, "y": X4.reshape(4, 3, 1)}, {}, "a target of shape"),
        ({"X": X4, "y": np.float64(1.0)}, {}, "target"),
    ],
)
def test_npz_that_does_not_fit(tmp_path, arrays, options, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message):
        read_arrays(tmp_path / "a.npz", **options)


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_no_pickle_is_ever_opened(tmp_path, kind):
    trace, path = tmp_path / "trace", tmp_path / f"a.{kind}"
    objects = np.array([[Evil(str(trace)), 1], [2, 3]], dtype=object)
    if kind == "npz":
        np.savez(path, X=objects, y=np.arange(2))
    else:
        np.save(path, objects)
    with pytest.raises(UserError):
        (read_arrays if kind == "npz" else read_npy)(path)
    assert not trace.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_npz(tmp_path, share):
    path = tmp_path / "a.npz"
    np.savez(path, X=X4, y=Y4)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="not a whole .npz file"):
        read_arrays(path)


def test_a_column_vector_is_a_target(tmp_path):
    np.savez(tmp_path / "a.npz", X=X4, y=Y4[:, None])
    assert everything(read_arrays(tmp_path / "a.npz"))[1].tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize(
    "y",
    [np.array([False, True] * 2), np.array([b"no", b"yes"] * 2), np.array(["no", "yes"] * 2), np.array([2, 10] * 2)],
    ids=["booleans", "bytes", "text", "numbers"],
)
def test_the_classes_of_a_test_part_are_those_of_the_training_part(tmp_path, y):
    np.savez(tmp_path / "a.npz", X_train=X4, y_train=y, X_test=X4, y_test=y)
    train = read_arrays(tmp_path / "a.npz")
    test = read_arrays(tmp_path / "a.npz", "test", like=train.target)
    assert train.target.kind == "classes" and everything(test)[1].tolist() == [0, 1, 0, 1]


def test_a_class_that_the_training_part_has_not(tmp_path):
    np.savez(tmp_path / "a.npz", X_train=X4, y_train=Y4, X_test=X4, y_test=Y4 + [0, 0, 6, 0])
    test = read_arrays(tmp_path / "a.npz", "test", like=read_arrays(tmp_path / "a.npz").target)
    with pytest.raises(UserError, match=r"row 2 \(from 0\): the target 9 is none of the classes"):
        everything(test)


@pytest.fixture
def matrix(tmp_path):
    M = np.random.default_rng(0).normal(size=(6, 4))
    np.save(tmp_path / "m.npy", M)
    return tmp_path / "m.npy", M


@pytest.mark.parametrize(
    ("target", "columns"), [(None, [3]), ("3", [3]), ("-1", [3]), ("0", [0]), ("-3", [1]), ("0,2", [0, 2])]
)
def test_npy_matrix_with_the_target_in_a_column(matrix, target, columns):
    path, M = matrix
    dataset = read_npy(path, target)
    X, y, _ = everything(dataset)
    assert np.array_equal(X, np.delete(M, columns, axis=1)) and np.array_equal(y, M[:, columns])
    assert dataset.target == Target("values", tuple(map(str, columns)))


def test_npy_is_mapped_not_read(matrix):
    path, M = matrix
    dataset = read_npy(path)
    assert not dataset.in_memory
    assert np.array_equal(dataset.take(np.array([4, 1]))[0], M[[4, 1], :3])


def test_npy_without_a_target(matrix):
    path, M = matrix
    dataset = read_npy(path, "")
    assert dataset.target is None and np.array_equal(everything(dataset)[0], M)


def test_a_pair_of_npy_files(tmp_path):
    np.save(tmp_path / "x.npy", X4.reshape(4, 3, 1))
    np.save(tmp_path / "y.npy", Y4)
    dataset = read_npy(tmp_path / "x.npy", None, tmp_path / "y.npy")
    X, y, _ = everything(dataset)
    assert np.array_equal(X, X4) and y.tolist() == [1, 0, 1, 2] and not dataset.in_memory


def test_a_fortran_ordered_and_big_endian_npy(tmp_path):
    np.save(tmp_path / "m.npy", np.asfortranarray(X4.astype(">f4")))
    X, y, _ = everything(read_npy(tmp_path / "m.npy", task="regression"))
    assert np.array_equal(X, X4[:, :2]) and np.array_equal(y, X4[:, 2:])


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.arange(4.0), {}, "a matrix is needed"),
        (np.zeros((2, 2, 2)), {}, "a matrix is needed"),
        (np.zeros((4, 1)), {}, "one column only"),
        (X4, {"target": "3"}, "no column '3'; it has columns 0 to 2"),
        (X4, {"target": "y"}, "no column 'y'"),
        (np.array([["a", "b"]]), {}, "numbers are needed"),
        (X4.astype(complex), {}, "numbers are needed"),
        (np.float64(3), {}, "numbers are needed"),
    ],
)
def test_npy_that_does_not_fit(tmp_path, array, options, message):
    np.save(tmp_path / "m.npy", array)
    with pytest.raises(UserError, match=message):
        read_npy(tmp_path / "m.npy", **options)


@pytest.mark.parametrize("length", [0, 3, 50, -1])
def test_a_truncated_npy(matrix, length):
    path, _ = matrix
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="not a whole .npy file"):
        read_npy(path)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_changed_byte_is_read_or_a_user_error_never_a_crash(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    np.save(path, X4) if kind == "npy" else np.savez(path, X=X4, y=Y4)
    content, crashes = path.read_bytes(), []
    for i in range(len(content)):
        for bit in (1, 16, 128):
            path.write_bytes(content[:i] + bytes([content[i] ^ bit]) + content[i + 1 :])
            try:
                (read_npy if kind == "npy" else read_arrays)(path)
            except UserError:
                pass
            except Exception as error:
                crashes.append((i, bit, type(error).__name__))
    assert crashes == []


@pytest.mark.parametrize("y", [[0.5, np.nan, 1.5, 2.5], [0.0, np.nan, 1.0, 0.0], [0.5, np.inf, 1.5, 2.5]])
@pytest.mark.parametrize("kind", ["npz", "npy", "pair"])
def test_a_target_that_is_no_number_names_its_row(tmp_path, kind, y):
    np.savez(tmp_path / "a.npz", X=X4, y=y)
    np.save(tmp_path / "x.npy", X4)
    np.save(tmp_path / "y.npy", y)
    np.save(tmp_path / "m.npy", np.column_stack([X4, y]))
    arguments = {"npz": ["a.npz"], "npy": ["m.npy"], "pair": ["x.npy", None, "y.npy"]}[kind]
    arguments = [a and tmp_path / a for a in arguments]
    with pytest.raises(UserError, match=r"row 1 \(from 0\)"):
        everything((read_arrays if kind == "npz" else read_npy)(*arguments))


@pytest.mark.parametrize(("shape", "what"), [((0, 5), "rows"), ((5, 0), "columns")])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_arrays_of_nothing(tmp_path, kind, shape, what):
    X, path = np.zeros(shape), tmp_path / f"a.{kind}"
    np.save(path, X) if kind == "npy" else np.savez(path, X=X, y=np.arange(len(X)) % 2)
    with pytest.raises(UserError, match=f"{kind}: an array of shape .* has no {what}"):
        load(str(path))


def test_an_npy_whose_header_tells_of_a_negative_length(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((40, 5)))
    path.write_bytes(path.read_bytes().replace(b"(40, 5), ", b"(-40, 5),"))
    with pytest.raises(UserError, match=r"a\.npy: not a whole \.npy file"):
        load(str(path))


def test_no_rows_can_be_taken(tmp_path, matrix):
    for dataset in (ArrayDataset(X4, Y4), read_npy(matrix[0])):
        X, y, _ = dataset.take(np.zeros(0, np.int64))
        assert X.shape == (0, 3) and len(y) == 0


def test_loading_a_mapped_file_prepares_rows_as_they_are_taken(matrix):
    data = load(str(matrix[0]), validation_fraction=0.0, test_fraction=0.0, dtype=np.float64)
    X, y, _ = data.train.take(np.arange(6))
    np.testing.assert_allclose(X.mean(axis=0), 0.0, atol=1e-15)
    np.testing.assert_allclose(y.std(axis=0), 1.0)


@pytest.fixture(params=[".npz", ".h5"])
def arrays_file(request, tmp_path):
    """Write arrays by name: the path."""

    def write(**arrays):
        path = tmp_path / f"a{request.param}"
        if request.param == ".npz":
            np.savez(path, **arrays)
        else:
            with h5py.File(path, "w") as file:
                for name, array in arrays.items():
                    file["part/" * name.startswith("part") + name] = array
        return path

    return write


@pytest.mark.parametrize("names", [("X", "y"), ("x_train", "y_train"), ("features", "answer"), ("f_train", "a_train")])
def test_arrays_of_other_names(arrays_file, names):
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    asked = {} if names[0].lower()[0] == "x" else dict(zip(("inputs", "targets"), names, strict=True))
    test = [name.removesuffix("_train") + "_test" for name in names]
    path = arrays_file(**dict(zip([*names, *test], (X, y, X[:5], y[:5]), strict=True)))
    train = read_arrays(path, **asked)
    assert train.n_rows == 20 and everything(train)[1].tolist() == y.tolist()
    assert read_arrays(path, "test", like=train.target, **asked).n_rows == 5


def test_arrays_that_are_not_there(arrays_file):
    path = arrays_file(features=np.eye(4), answer=np.arange(4))
    with pytest.raises(UserError, match="it has features, answer|it has answer, features"):
        read_arrays(path)
    with pytest.raises(UserError, match="no array 'z' in it"):
        read_arrays(path, inputs="z")


def test_a_text_beside_idx_files_is_no_table(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((20, 2, 2), np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte", (np.arange(20) % 2).astype(np.uint8))
    (tmp_path / "README.txt").write_text("digits,of,somebody\n1,2,3\n")
    dataset, _ = open_dataset(tmp_path)
    assert dataset.n_rows == 20 and len(dataset.columns) == 4
