"""ONNX files of the real tables compute what their models do, also where values are missing or were never seen."""

import json

import numpy as np
import pandas as pd
import pytest
from test_onnx import same
from test_real_data import DATA

from distbp import fit

TABLES = DATA / "tables"


@pytest.mark.parametrize("ensemble", [1, 2])
@pytest.mark.parametrize("name", ["phoneme", "wine", "penbased", "taxis", "california", "diamonds"])
def test_a_table(name, ensemble):
    if not TABLES.exists():
        pytest.skip(f"real data is missing: {TABLES}")
    about = json.loads((TABLES / "tables.json").read_text())[name]
    task = "regression" if about["kind"] == "values" else "classification"
    train, rows = TABLES / name / "train.csv", pd.read_csv(TABLES / name / "test.csv")
    run = fit(train, about["target"], task=task, epochs=3, ensemble=ensemble, cache="none", verbose=False)
    strange = rows.drop(columns=about["target"]).head(20).copy()
    for column in strange:
        dates = strange[column].astype(str).str.match(r"\d{4}-\d\d-\d\d").any()
        texts = not pd.api.types.is_numeric_dtype(strange[column])
        strange[column] = strange[column].astype(object if texts else float)
        strange.loc[:5, column] = None if texts else np.nan
        if texts and not dates:
            strange.loc[6:9, column] = "never seen"
    same(run.model, pd.concat([rows.drop(columns=about["target"]), strange], ignore_index=True))
