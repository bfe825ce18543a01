"""Front door: ``python -m distbp.data FILE``: how the columns of a table are understood.

It takes the options of ``distbp.train`` that concern data, and reads what ``distbp.train`` would read.
"""

import sys

from distbp.comm.communicator import Communicator
from distbp.comm.serial import SerialCommunicator
from distbp.data.loading import open_dataset
from distbp.data.table.description import describe
from distbp.data.table.records import TableDataset
from distbp.errors import DONE, UsageError, UserError
from distbp.run.build import table_options
from distbp.run.config import parse_train_config
from distbp.run.entry_point import run
from distbp.run.options import TrainConfig

_USAGE = "usage: python -m distbp.data FILE [the options of distbp.train on data]"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] in (["--help"], ["-h"]):
        print(f"{_USAGE}\n\n{__doc__}")
        return DONE
    config, problem = TrainConfig(), None
    try:
        if not arguments or arguments[0].startswith("-"):
            raise UsageError(_USAGE)
        config = parse_train_config(["--data", *arguments])
    except UsageError as error:
        problem = error
    return run(lambda comm: show(config, comm), SerialCommunicator, problem=problem)


def show(config: TrainConfig, comm: Communicator) -> int:
    """Print what the table of a configuration holds."""
    dataset, remarks = open_dataset(config.data, table_options(config), comm=comm, cache=config.cache)
    if not isinstance(dataset, TableDataset):
        raise UserError(f"{config.data}: no table, whose columns could be shown")
    print(f"{dataset.source}: {dataset.n_rows:,} rows, {dataset.summary}")
    for line in [*remarks, "", *describe(dataset)]:
        print(line)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
