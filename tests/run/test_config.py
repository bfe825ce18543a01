"""The configuration: flags, TOML and their messages; and what a run reports."""

import dataclasses
import io
import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbp import Epochs
from distbp.__main__ import main
from distbp.comm.serial import SerialCommunicator
from distbp.errors import UsageError
from distbp.run import blas
from distbp.run.config import config_of, parse_train_config
from distbp.run.next_step import command
from distbp.run.options import TrainConfig, parse_every, parse_interval
from distbp.run.report import Reporter, format_record, read_records
from distbp.run.results import digits

FIELDS = [field for field in dataclasses.fields(TrainConfig) if field.name != "recipe"]
INTERVALS = ("warmup", "decay_every", "checkpoint_every", "eval_every", "log_every", "audit_every")


def parse_plain(arguments):
    """Return the configuration of arguments, with the options' own defaults."""
    return parse_train_config(["--recipe", "plain", *arguments])


def flag(field):
    return "--" + field.name.replace("_", "-")


def another(field):
    """A valid value of an option that is not its default."""
    if field.metadata["choices"]:
        return next(choice for choice in reversed(field.metadata["choices"]) if choice != field.default)
    if "bool" in str(field.type):
        return not field.default
    if "int" in str(field.type):
        return 7
    if "float" in str(field.type):
        return 0.125
    return "3 epochs" if field.name in INTERVALS else "8,4" if field.name == "hidden" else "some text"


def as_arguments(field):
    value = another(field)
    if isinstance(value, bool):
        return [flag(field) if value else flag(field).replace("--", "--no-", 1)]
    return [flag(field), str(value)]


@pytest.fixture
def from_file(tmp_path):
    """The configuration of a TOML file and flags."""

    def run(text, *arguments):
        path = tmp_path / "c.toml"
        path.write_text(text, encoding="utf-8")
        return parse_plain(["--config", str(path), *arguments])

    return run


def test_defaults():
    assert parse_plain([]) == TrainConfig()


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_flag_has_a_key_and_back(from_file, field):
    by_flag = parse_plain(as_arguments(field))
    assert getattr(by_flag, field.name) == another(field) != field.default
    assert by_flag == dataclasses.replace(TrainConfig(), **{field.name: another(field)})
    assert from_file(by_flag.to_toml()) == by_flag
    key = flag(field)[2:]
    for text in (f"{key} = ", f"{field.name} = ", f"[{field.metadata['group']}]\n{key} = "):
        assert from_file(text + json.dumps(another(field))) == by_flag


def test_all_at_once_and_the_defaults_are_read_back(from_file):
    for config in (TrainConfig(), TrainConfig(**{field.name: another(field) for field in FIELDS})):
        assert from_file(config.to_toml()) == config


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.floats(0.0, exclude_min=True, allow_infinity=False),
    st.integers(0, 2**62),
)
def test_any_text_and_number_is_read_back(tmp_path_factory, text, number, seed):
    config = TrainConfig(run_dir=text, target=text, clip_norm=number, bucket_mb=number, seed=seed)
    path = tmp_path_factory.mktemp("config") / "c.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert parse_plain(["--config", str(path)]) == config


@pytest.mark.parametrize("name", ["clip-norm", "bucket-mb", "huber-threshold", "lr-floor"])
def test_infinity_is_refused_or_read_back(from_file, name):
    try:
        config = parse_plain([f"--{name}", "inf"])
    except UsageError as error:
        assert name in str(error)
    else:
        assert from_file(config.to_toml()) == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batchsize", "3"], "unknown argument --batchsize; did you mean --batch-size?"),
        (["--hiden=3"], "unknown argument --hiden=3; did you mean --hidden?"),
        (["--batch-sizes", "3"], "unknown argument --batch-sizes; did you mean --batch-size?"),
        (["--xyzzy"], "--help lists all"),
        (["stray"], "unknown argument stray"),
        (["--batch-size", "many"], "--batch-size"),
        (["--batch-size"], "--batch-size"),
        (["--batch-size", "8-64"], "a batch has one size now: a number of rows, not '8-64'"),
        (["--batch-size", "auto"], "a batch has one size now: a number of rows, not 'auto'"),
        (["--schedule", "adascale"], "adascale"),
        (["--lr-scaling", "adascale"], "adascale"),
        (["--lr", "fast"], "--lr"),
        (["--loss", "hinge"], "hinge"),
        (["--config", "nowhere.toml"], "cannot read nowhere.toml"),
    ],
)
def test_wrong_flags(arguments, message):
    with pytest.raises(UsageError) as caught:
        parse_plain(arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize = 3", "unknown key 'batchsize'; did you mean batch-size?"),
        ("[model]\nhiden = 3", "unknown key 'hiden'; did you mean hidden?"),
        ("xyzzy = 3", "--help lists all"),
        ("[modle]\nhidden = 3", "unknown key 'modle'"),
        ("batch-size = 3.0", "a value of type int"),
        ("batch-size = true", "a value of type int"),
        ("batch-size = '32-4096'", "batch-size: a batch has one size now: a number of rows, not '32-4096'"),
        ("batch-size = 'auto'", "batch-size: a batch has one size now: a number of rows, not 'auto'"),
        ("lr-scaling = 'adascale'", "lr-scaling = 'adascale': one of none, linear, sqrt"),
        ("steps = 'three'", "steps = 'three': a value of type int"),
        ("steps = 3.0", "a value of type int"),
        ("steps = true", "a value of type int"),
        ("seed = [1]", "a value of type int"),
        ("lr = '0.1'", "a value of type float"),
        ("lr = true", "a value of type float"),
        ("drop-last = 1", "a value of type bool"),
        ("drop-last = 'yes'", "a value of type bool"),
        ("hidden = 2.5", "a value of type str"),
        ("hidden = true", "a value of type str"),
        ("optimizer = 'adma'", "optimizer = 'adma': one of"),
        ("batch-size = ", "is not TOML"),
        ("lr = 1\nlr = 2", "is not TOML"),
    ],
)
def test_wrong_files(from_file, text, message):
    with pytest.raises(UsageError) as caught:
        from_file(text)
    assert message in str(caught.value) and "c.toml" in str(caught.value)


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not TOML"):
        parse_plain(["--config", str(tmp_path / "c.toml")])


CHOICES = [field for field in FIELDS if field.metadata["choices"]]


@pytest.mark.parametrize("field", CHOICES, ids=lambda field: field.name)
def test_choices(field):
    for choice in field.metadata["choices"]:
        assert getattr(parse_plain([flag(field), choice]), field.name) == choice
    with pytest.raises(UsageError, match=flag(field)):
        parse_plain([flag(field), "none of them"])


BAD_VALUES = {
    "batch-size": ["0", "-1", "", "many", "8-", "-8", "1-8", "8-8", "8-4", "4-8-16", "4 - 8", "\u00b2"],
    "epochs": ["-1"], "steps": ["-1"], "micro-batch": ["0"], "early-stopping": ["0"],
    "keep": ["0"], "lr-scaling-base": ["0"], "clip-norm": ["0", "-1", "nan"], "lr": ["0", "-1", "nan", "inf"],
    "dropout": ["1", "-0.1", "nan"], "momentum": ["1", "-0.1", "nan"], "label-smoothing": ["1", "-0.1", "nan"],
    "weight-decay": ["-1", "nan", "inf"], "decay": ["0", "1.1", "nan"], "bucket-mb": ["0", "nan"],
    "huber-threshold": ["0", "nan"], "lr-floor": ["nan"], "validation-fraction": ["nan"], "test-fraction": ["nan"],
    "warmup": ["soon", "-1", "1.5"], "decay-every": ["2 years"], "checkpoint-every": [""], "eval-every": ["epoch"],
    "log-every": ["2epochs", "1 2", "\u00b2"], "hidden": ["0", "-3", "8,,4", "wide", "8.5"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values])
def test_ranges(name, value):
    with pytest.raises(UsageError, match=f"--{name}"):
        parse_plain([f"--{name}={value}"])


def test_flags_go_before_the_file_and_the_file_before_defaults(from_file):
    text = "lr = 0.5\nhidden = '9'\n[run]\nbatch-size = 8\n"
    config = from_file(text, "--lr", "0.25", "--no-scale-target")
    assert (config.lr, config.hidden, config.batch_size, config.scale_target) == (0.25, "9", 8, False)
    assert config.optimizer == "adam"


def test_flags_can_return_to_a_default(from_file):
    config = from_file("drop-last = true\nbatch-size = 8\n", "--no-drop-last", "--batch-size", "32")
    assert config == TrainConfig(batch_size=32)


def test_tables_and_flat_keys_say_the_same(from_file):
    flat = from_file("data = 'synthetic:'\nloss = 'huber'\nseed = 3\n")
    tables = from_file("[data]\ndata = 'synthetic:'\n[loss]\nloss = 'huber'\n[run]\nseed = 3\n")
    assert flat == tables and flat.data == "synthetic:"


@pytest.mark.parametrize(
    ("value", "sizes"),
    [("[256, 128]", [256, 128]), ("[8]", [8]), ("8", [8]), ("'8, 4'", [8, 4]), ("'none'", []), ("[]", []), ("''", [])],
)
def test_hidden_layers_in_a_file(from_file, value, sizes):
    assert from_file(f"hidden = {value}").hidden_sizes() == sizes


def test_other_types_that_a_file_may_use(from_file):
    config = from_file("lr = 1\nwarmup = 100\ntarget = ['a', 'b']\nignore = 3\n")
    assert (config.lr, config.warmup, config.target, config.ignore) == (1.0, "100", "a,b", "3")


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("0", 0),
        ("500", 500),
        ("500 steps", 500),
        ("1 step", 1),
        ("1 epoch", 40),
        ("2 epochs", 80),
        (" 3  epochs ", 120),
    ],
)
def test_intervals(text, steps):
    assert parse_interval(text, 40) == steps


@pytest.mark.parametrize("text", ["", "epochs", "-1", "1.5 epochs", "2 years", "2 epochs more", "\u00b2"])
def test_wrong_intervals(text):
    with pytest.raises(UsageError, match="--eval-every"):
        parse_interval(text, 40, "eval_every")


@pytest.mark.parametrize(
    ("text", "every"), [("0", 0), ("0 epochs", 0), ("500 steps", 500), ("1 epoch", Epochs(1)), ("2 epochs", Epochs(2))]
)
def test_intervals_of_steps_or_epochs(text, every):
    assert parse_every(text) == every


@pytest.mark.parametrize("value", ["64", "'64'"])
def test_a_batch_size_in_a_file(from_file, value):
    """Earlier versions wrote it as text."""
    assert from_file(f"batch-size = {value}").batch_size == 64


def test_help_mentions_every_option_in_its_group(capsys):
    assert main(["train", "--help", "all"]) == main(["train", "--help"]) == 0
    text, short = capsys.readouterr().out.split("usage:")[1:]
    assert short.count("\n  --") < 28 and "mpirun -n 4 distbp train digits" in short and "[off]" in short
    assert "``" not in text and "Front door" not in text
    groups = list(dict.fromkeys(field.metadata["group"] for field in FIELDS))
    places = [text.index(f"\n{group}:\n") for group in groups] + [len(text)]
    assert places == sorted(places)
    for field in FIELDS:
        i = groups.index(field.metadata["group"])
        section = text[places[i] : places[i + 1]]
        assert f"{flag(field)} " in section or f"{flag(field)}," in section


# reporting


RECORDS = [{"step": s, "epoch": s / 4, "loss/train": 1 / s, "accuracy/val": 0.5, "lr": 0.01} for s in range(1, 6)]


def test_records_are_lines_for_programs_and_for_people(tmp_path):
    stream, path = io.StringIO(), tmp_path / "metrics.jsonl"
    for part in (RECORDS[:3], RECORDS[3:]):
        reporter = Reporter(True, path, stream)
        reporter.start_bar(0, 5)  # no terminal, no bar
        for record in part:
            reporter.record(record)
            reporter.progress(record["step"], 0.5, 10.0)
        reporter.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == RECORDS == read_records(path)
    assert stream.getvalue().splitlines() == [format_record(record) for record in RECORDS]


def test_other_ranks_are_silent(tmp_path, capsys):
    stream, path = io.StringIO(), tmp_path / "metrics.jsonl"
    reporter = Reporter(False, path, stream)
    reporter.start_bar(0, 5)
    reporter.say("words")
    reporter.record(RECORDS[0])
    reporter.progress(1, 0.5, 1.0)
    reporter.close()
    assert not stream.getvalue() and not path.exists() and not any(capsys.readouterr())


def test_a_terminal_gets_a_bar(tmp_path, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    reporter = Reporter(True, None, stream)
    reporter.start_bar(2, 5)
    reporter.progress(3, 0.5, 10.0)
    reporter.record(RECORDS[3])
    assert reporter._bar._bar.tasks[0].total == 5
    reporter._bar._next = 0.0
    reporter.progress(4, 0.5, 10.0)
    assert (reporter._bar._bar.tasks[0].completed, reporter._bar._bar.tasks[0].total) == (4, 5)
    reporter.close()
    reporter.close()
    reporter.say("after the bar")
    assert "after the bar" in stream.getvalue()


@pytest.mark.parametrize("tail", ["", '{"step": 6, "epo', "{", '{"step"'])
@pytest.mark.parametrize("up_to", [None, 0, 3, 5, 9])
def test_records_after_a_resume(tmp_path, tail, up_to):
    path = tmp_path / "metrics.jsonl"
    content = "".join(json.dumps(record) + "\n" for record in RECORDS) + tail
    path.write_text(content)
    expected = RECORDS if up_to is None else [record for record in RECORDS if record["step"] <= up_to]
    assert read_records(path, up_to_step=up_to) == expected
    if up_to is None:
        assert path.read_text() == content
    else:
        assert path.read_text() == "".join(json.dumps(record) + "\n" for record in expected)


@pytest.mark.parametrize("up_to", [None, 3])
def test_records_of_a_new_run(tmp_path, up_to):
    assert read_records(tmp_path / "metrics.jsonl", up_to_step=up_to) == []
    assert not list(tmp_path.iterdir())


def test_a_record_as_a_line():
    record = RECORDS[3] | {"samples_per_second": 12345.6, "confusion/val": [[1]], "r2/val": -0.123456}
    assert format_record(record) == (
        "step       4  epoch    1.00  loss/train 0.25  accuracy/val 0.5  r2/val -0.1235  lr 0.01  12,346 samples/s"
    )
    assert format_record({"step": 7, "epoch": 0.5, "skipped": "loss nan"}).endswith("epoch    0.50  loss nan")


# the words of others

UNDERSTOOD = {
    ("--learning-rate", "0.1"): {"lr": 0.1}, ("--optimizer", "Adam"): {"optimizer": "adam"},
    ("--loss", "mse"): {"loss": "squared-error"}, ("--activation", "swish"): {"activation": "silu"},
    ("--activation", "ReLU"): {"activation": "relu"}, ("--batch_size", "8"): {"batch_size": 8},
    ("--hidden-layer-sizes=3,4",): {"hidden": "3,4"}, ("digits", "--max-iter", "5"): {"data": "digits", "epochs": 5},
    ("--tensorboard",): {"track": "tensorboard"}, ("--dtype", "double"): {"dtype": "float64"},
    ("--activation", "leaky-relu"): {"activation": "leaky_relu"}, ("--random-state", "7"): {"seed": 7},
}  # fmt: skip


@pytest.mark.parametrize("words", UNDERSTOOD, ids=" ".join)
def test_what_people_type_is_understood(words):
    config = parse_train_config(list(words))
    assert {name: getattr(config, name) for name in UNDERSTOOD[words]} == UNDERSTOOD[words]


def test_so_it_is_in_a_file_and_in_python(tmp_path):
    (tmp_path / "c.toml").write_text('learning_rate = 0.5\nactivation = "Swish"\n')
    config = parse_train_config(["--config", str(tmp_path / "c.toml")])
    assert (config.lr, config.activation) == (0.5, "silu")
    config = config_of({"learning_rate": 0.5, "hidden": (4, 5), "loss": "MSE", "epochs": np.int64(3)}, "fit()")
    assert (config.lr, config.hidden, config.loss, config.epochs) == (0.5, "4,5", "squared-error", 3)


def test_the_next_step_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my env" / "bin" / "python"))
    (tmp_path / "my env" / "bin").mkdir(parents=True)
    for name in ("python", "mpirun"):
        (tmp_path / "my env" / "bin" / name).touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    assert command("distbp.predict", "runs/a b", ranks=2) == (
        "'my env/bin/mpirun' -n 2 'my env/bin/python' -m distbp.predict 'runs/a b'"
    )
    monkeypatch.setenv("PATH", str(tmp_path / "my env" / "bin"))
    assert command("distbp.predict", "runs/x") == "python -m distbp.predict runs/x"


def test_threads_are_limited_by_the_environment_the_option_and_busy_cores(monkeypatch):
    comm = SerialCommunicator()
    comm.host_cores = 4
    monkeypatch.setattr(blas, "available_cores", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(blas, "_busy_cores", lambda comm: 0)
    monkeypatch.setattr(blas.os, "cpu_count", lambda: 4)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)

    def threads(most=None):
        with blas.limited_blas(comm, most) as n:
            return n

    assert (threads(), threads(2)) == (4, 2)
    monkeypatch.setattr(blas, "_busy_cores", lambda comm: 3)
    assert threads() == 1
    monkeypatch.setattr(blas, "_busy_cores", lambda comm: 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert threads() == 2


DIGITS = [(0.99157, "0.9916"), (0.0, "0.0000"), (3.14e-7, "3.14e-07"), (46134.25, "46134.2"), (529.4, "529.4000")]


@pytest.mark.parametrize(("value", "text"), DIGITS)
def test_figures_have_digits_that_say_something(value, text):
    assert digits(value) == text
