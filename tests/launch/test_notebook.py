"""The notebook runs as it stands: on one process and on four ranks, with curves, reasons and an ONNX file."""

from pathlib import Path

import nbclient
import nbformat

NOTEBOOK = Path(__file__).parents[2] / "examples" / "houses.ipynb"


def outputs(cell):
    """Return what a cell shows, as text."""
    found = []
    for one in cell.get("outputs", []):
        data = one.get("data", {})
        found.append(one.get("text", "") + data.get("text/plain", "") + ("<image>" if "image/png" in data else ""))
    return "".join(found)


def test_the_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [outputs(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert "Run(" in shown[1] and "rmse" in shown[1] and "4 columns" in shown[2]
    assert "<image>" in shown[3] and shown[4].splitlines()[-1].split()[1] == "noise"
    assert "held on test rows" in shown[6] and shown[7].strip() == "True"
    assert float(shown[8].split("(")[-1].strip(")")) < 0.01
