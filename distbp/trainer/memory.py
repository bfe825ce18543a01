"""All that a run remembers, taken and given back: for a checkpoint, for a rank that catches up, for the way back."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.gradient.reducer import GradientReducer
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.optim.optimizer import Optimizer
from distbp.trainer.early_stopping import Judge
from distbp.trainer.state import Memory, TrainState

Array = NDArray[Any]


@dataclass
class RunMemory:
    """Takes and gives back what a training remembers."""

    network: Network | FunctionModel
    optimizer: Optimizer
    judge: Judge
    states: Mapping[str, Any]
    """What each component remembers beside, by its name: a dataclass of plain numbers and texts."""
    reducer: Callable[[], GradientReducer]
    """Returns the reducer of the moment, which knows this rank's shard."""

    def take(self) -> Memory:
        """Return it: arrays are live, states are copies."""
        arrays = {"theta": self.network.theta}
        arrays |= {f"optimizer/{name}": array for name, array in self.optimizer.state.items()}
        if self.judge.best_theta is not None:
            arrays["best/theta"] = self.judge.best_theta
        return Memory(arrays, {"components": self._copy(), "t": self.optimizer.t})

    def give(self, memory: Memory) -> None:
        """Go on from there; of each array it has this rank's shard."""
        arrays, state = memory
        self.set_theta(arrays["theta"])
        self.judge.best_theta = arrays.get("best/theta")
        self.optimizer.state = {
            name.removeprefix("optimizer/"): array for name, array in arrays.items() if name.startswith("optimizer/")
        }
        self.optimizer.t = state["t"]
        self._load(state["components"])

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
        theta = self.network.theta if comm.is_root else self.network.theta.copy()  # which others may share
        comm.bcast(theta)
        if changes:
            self.network.theta[:] = theta
            self._load(states)

    def set_theta(self, mine: Array) -> None:
        """Set the parameters, each rank those of its shard."""
        reducer = self.reducer()
        self.network.theta[reducer.shard] = mine
        reducer.barrier()
