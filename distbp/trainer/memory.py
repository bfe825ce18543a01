"""All that a run remembers, taken and given back: for a checkpoint, for a rank that catches up, for the way back."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.errors import UserError
from distbp.gradient.reducer import GradientReducer
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.optim.optimizer import Optimizer
from distbp.trainer.state import Memory, TrainState, is_table

Array = NDArray[Any]


@dataclass
class RunMemory:
    """Takes and gives back what a training remembers."""

    network: Network | FunctionModel
    optimizer: Optimizer
    states: Mapping[str, Any]
    """What each component remembers beside, by its name: a dataclass of plain numbers and texts."""
    reducer: Callable[[], GradientReducer]
    """Returns the reducer of the moment, which knows this rank's shard."""
    best: dict[str, Array] = field(default_factory=dict)
    """The best parameters, where they are wanted again: this rank's shard ``theta``, and tables of weights."""

    def take(self) -> Memory:
        """Return it: arrays are live, states are copies."""
        arrays = {"theta": self.network.theta} | self._tables()
        arrays |= {f"optimizer/{name}": array for name, array in self.optimizer.state.items()}
        if "theta" in self.best:
            arrays |= {f"best/{name}": array for name, array in self.best.items()}
        return Memory(arrays, {"components": self._copy(), "t": self.optimizer.t})

    def give(self, memory: Memory) -> None:
        """Go on from there; of each array that is not a table it has this rank's shard."""
        arrays, state = memory
        self.set_theta(arrays["theta"])
        shards = {name.partition("/")[::2]: array for name, array in arrays.items() if not is_table(name)}
        self.optimizer.state = {name: array for (of, name), array in shards.items() if of == "optimizer"}
        self.optimizer.t = state["t"]
        self.best.pop("theta", None)
        if "best/theta" in arrays:
            self.best["theta"] = arrays["best/theta"]
            self._make_best_tables()
        reducer, ours = self.reducer(), self.take().arrays
        for name in filter(is_table, ours):
            if name in arrays and arrays[name].shape != ours[name].shape:
                raise UserError(
                    f"{name} was of {len(arrays[name])} values and is of {len(ours[name])}: another network"
                )
            reducer.copy_rows(ours[name], arrays.get(name, 0.0))
        self._load(state["components"])

    def keep_best(self) -> None:
        """Remember the parameters as the best ones."""
        reducer = self.reducer()
        self.best["theta"] = self.network.theta[reducer.shard].copy()
        self._make_best_tables()
        for j, table in enumerate(self.network.embeddings):
            reducer.copy_rows(self.best[f"embedding/{j}"], table)

    def return_to_best(self) -> None:
        """Set the best parameters, where there are any."""
        if "theta" in self.best:
            self.set_theta(self.best["theta"])
            for j, table in enumerate(self.network.embeddings):
                self.reducer().copy_rows(table, self.best[f"embedding/{j}"])

    def own_tables(self) -> None:
        """Keep what lies in memory that ranks share in memory of this rank's own."""
        self.optimizer.own_tables()
        self.best = {name: array.copy() for name, array in self.best.items()}

    def _tables(self) -> dict[str, Array]:
        """Return the embeddings, and what the optimiser keeps of them."""
        weights = {f"embedding/{j}": table for j, table in enumerate(self.network.embeddings)}
        return weights | {f"optimizer/embedding/{name}": array for name, array in self.optimizer.table_state.items()}

    def _make_best_tables(self) -> None:
        for j, table in enumerate(self.network.embeddings):
            if f"embedding/{j}" not in self.best:
                self.best[f"embedding/{j}"] = self.reducer().allocate(table)

    def _copy(self) -> TrainState:
        return {name: asdict(state) for name, state in self.states.items()}

    def _load(self, states: TrainState) -> None:
        """Set what `states` has; what else it has is of another version."""
        for name, state in self.states.items():
            for key, value in deepcopy(states.get(name, {})).items():
                if hasattr(state, key):
                    setattr(state, key, value)

    def share(self, comm: Communicator, *, changes: bool) -> None:
        """Bring parameters and states of rank 0 to those ranks of `comm` where it `changes` something."""
        states = comm.bcast_obj(self._copy())
        self.share_parameters(comm, changes=changes)
        if changes:
            self._load(states)

    def share_parameters(self, comm: Communicator, *, changes: bool = True) -> None:
        """Bring the parameters of rank 0 to those ranks of `comm` where that `changes` something."""
        for array in (self.network.theta, *self.network.embeddings):
            given = array if comm.is_root else array.copy()  # which others may share
            comm.bcast(given)
            if changes and not comm.is_root:
                array[:] = given

    def set_theta(self, mine: Array) -> None:
        """Set the parameters, each rank those of its shard."""
        reducer = self.reducer()
        self.network.theta[reducer.shard] = mine
        reducer.barrier()
