"""From a name or path to batches: formats, splitting, preprocessing, and the permutation of each epoch."""

from distbp.data.dataset import ArrayDataset, Column, Dataset, Target
from distbp.data.fitting import fit_preprocessor
from distbp.data.loading import load, open_dataset
from distbp.data.prepared import Data, Prepared
from distbp.data.preprocessing import Preprocessor
from distbp.data.sampling import BatchSampler, Epochs, Permutation
from distbp.data.splitting import Subset, split
from distbp.data.synthetic import SyntheticDataset
from distbp.data.table.formats import TableOptions

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "Column",
    "Data",
    "Dataset",
    "Epochs",
    "Permutation",
    "Prepared",
    "Preprocessor",
    "Subset",
    "SyntheticDataset",
    "TableOptions",
    "Target",
    "fit_preprocessor",
    "load",
    "open_dataset",
    "split",
]
