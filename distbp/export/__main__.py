"""Front door: ``python -m distbp.export RUN --onnx FILE``: a trained model for other programs."""

import argparse
import sys
from pathlib import Path

from distbp.comm.serial import SerialCommunicator
from distbp.errors import DONE, UsageError, UserError
from distbp.export.onnx import to_onnx
from distbp.files import atomic_write
from distbp.markup import plain
from distbp.run.entry_point import run
from distbp.run.going_on import model_at


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m distbp.export", description=plain(__doc__), allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="a run directory, or a model.safetensors")
    parser.add_argument("--onnx", metavar="FILE", type=Path, required=True, help="what is written; it ends in .onnx")
    options = parser.parse_args(arguments)
    return run(lambda comm: export(options), SerialCommunicator)


def export(options: argparse.Namespace) -> int:
    """Write the file that `options` ask for."""
    model, path = model_at(options.run), options.onnx.expanduser()
    if path.suffix != ".onnx":
        raise UsageError(f"--onnx {path}: a name that ends in .onnx")
    content = to_onnx(model)
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}")
    atomic_write(path, content)
    print(f"{model.target}: {path}, {len(content):,} bytes; raw columns in, predictions out")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
