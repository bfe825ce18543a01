"""Front door: ``python -m distbp.study EXPERIMENT``: trainings, and a report; ``mpirun -n P`` in front for P ranks.

All options of ``distbp.train`` may follow: they are what the trainings have in common.
"""

import argparse
import dataclasses
import json
import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from distbp.comm.agreement import on_root, require_equal
from distbp.comm.communicator import Communicator
from distbp.comm.world import communicator
from distbp.errors import DONE, UsageError, UserError
from distbp.files import atomic_write
from distbp.markup import plain
from distbp.report import LANGUAGES
from distbp.report.page import compose, understood, write
from distbp.run.blas import bits_depend_on, kernel_warning, limited_blas
from distbp.run.build import build_trainer, load_data, with_usual
from distbp.run.config import parse_train_config
from distbp.run.entry_point import Parser, run
from distbp.run.findings import without_report
from distbp.run.options import MAY_CHANGE, TrainConfig
from distbp.study.batch_size.run import BATCH_SIZE
from distbp.study.experiment import Experiment, at_least_1, default_folder, read_study
from distbp.study.plan.run import PLAN
from distbp.study.stability.run import STABILITY
from distbp.study.tradeoff.run import TRADEOFF
from distbp.study.trials import say, sort_results

EXPERIMENTS = {"batch-size": BATCH_SIZE, "plan": PLAN, "stability": STABILITY, "tradeoff": TRADEOFF}

_MAY_DIFFER = ("command", "versions", "machine", "ranks", "ranks_per_trial")
"""What another start of the same study may say differently."""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m distbp.study", description=plain(__doc__), allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    experiments = parser.add_subparsers(dest="experiment", metavar="EXPERIMENT", required=True)
    for name, experiment in EXPERIMENTS.items():
        one = experiments.add_parser(
            name, help=experiment.about, description=experiment.about, allow_abbrev=False,
            epilog="All options of distbp.train may follow. Set here, if you do not: " + " ".join(experiment.defaults),
        )  # fmt: skip
        experiment.add_options(one)
        one.add_argument("--ranks-per-trial", type=int, default=1, metavar="N", help="ranks that train together [1]")
        one.add_argument("--run-dir", metavar="DIR", help=f"a new or unfinished study [studies/DATA-{name}]")
        one.add_argument("--report-only", action="store_true", help="write the report anew, train nothing")
        one.add_argument("--language", choices=LANGUAGES, default="en", help="of the report [en]")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options, config, problem = argparse.Namespace(), TrainConfig(), None
    try:
        options, rest = _parser().parse_known_args(arguments)
        config = parse_train_config([*EXPERIMENTS[options.experiment].defaults, *rest])
    except UsageError as error:
        problem = error
    command = shlex.join(["python", "-m", "distbp.study", *arguments])
    return run(
        lambda comm: study(options, config, comm, command),
        lambda: communicator(config.communicator, elastic=False),
        problem=problem,
    )


def study(options: argparse.Namespace, config: TrainConfig, comm: Communicator, command: str = "") -> int:
    """Do what is not done yet, then write the report; on all ranks of `comm`."""
    folder = Path(options.run_dir or default_folder(config.data, options.experiment))
    at_least_1(options, "ranks_per_trial")
    if comm.size % (ranks := options.ranks_per_trial):
        raise UserError(f"--ranks-per-trial {ranks}: {comm.size} ranks do not fall into groups of that size")
    if without := without_report(options.language):
        raise UserError(f"a study ends in a report, which {without.partition('it ')[2]}")
    if not options.report_only:
        require_equal(comm, command, "the options")
        with limited_blas(comm, most=1 if config.exact or comm.size == 1 else config.threads):
            try:
                _work(options, config, comm, folder, command)
            except KeyboardInterrupt:
                done = "the trainings that are done are kept" if (folder / "trials.jsonl").exists() else "none is done"
                raise UserError(f"interrupted: {done} in {folder}; the same command goes on") from None
    on_root(comm, lambda: _report(options.experiment, folder, options.language), f"cannot write the report in {folder}")
    return DONE


def _work(options: argparse.Namespace, config: TrainConfig, comm: Communicator, folder: Path, command: str) -> None:
    """Say in ``study.json`` what is asked, and do it."""
    experiment, data, bits = EXPERIMENTS[options.experiment], load_data(config, comm), bits_depend_on()
    asked = experiment.ask(options, config, data) | {"ranks_per_trial": options.ranks_per_trial}
    config = with_usual(config)
    assert config.batch_size is not None
    rows = min(config.batch_size, data.train.n_rows)
    with closing(build_trainer(dataclasses.replace(config, batch_size=rows), data, comm)) as trainer:
        network, n_parameters = trainer.network.describe(), trainer.network.n_parameters
    train_options = {k: v for k, v in dataclasses.asdict(config).items() if k not in MAY_CHANGE}
    study = {
        "study": options.experiment, "data": config.data, "rows": data.train.n_rows, "network": network,
        "parameters": n_parameters, **asked,
        "config": train_options | {"batch_size": str(config.batch_size)},  # as in studies that an earlier version began
        "command": command,
        "versions": {"python": sys.version.split()[0], "numpy": bits["numpy"], "BLAS": bits["BLAS"]},
        "machine": f"{bits['CPU']}, {comm.host_cores} cores", "ranks": comm.size,
    }  # fmt: skip
    on_root(comm, lambda: _open(folder, study, experiment), f"cannot use the folder {folder}")
    if comm.is_root:
        for text in [*data.remarks, *(f"warning: {w}" for w in [kernel_warning()] if w), f"study: {folder}"]:
            say(text)
    trials = experiment.run(asked, config, data, comm, folder)
    comm.barrier()
    if comm.is_root and trials:
        sort_results(folder, trials)


def _open(folder: Path, study: dict[str, Any], experiment: Experiment) -> None:
    """Make the folder, or make sure that it holds this very study."""
    folder.mkdir(parents=True, exist_ok=True)
    before = read_study(folder) if (folder / "study.json").exists() else {}
    if before and not (experiment.again and before["study"] == study["study"]):
        for key, value in json.loads(json.dumps(study)).items():
            if key not in _MAY_DIFFER and before.get(key) != value:
                what = f"{key} ({before.get(key)}, not {value})"
                raise UserError(f"{folder} holds a study with another {what}: give another --run-dir")
    atomic_write(folder / "study.json", (json.dumps(study, indent=1) + "\n").encode())


def _report(name: str, folder: Path, language: str) -> None:
    template = f"study/{name.replace('-', '_')}/report"
    with understood(folder):
        write(compose(template, language, EXPERIMENTS[name].figures(folder)), folder, language)
    say(f"report: {folder / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
