"""All that a run remembers, taken and given back: for a checkpoint, for a rank that catches up, for the way back."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict
from typing import Any

from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.gradient.reducer import GradientReducer
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.optim.optimizer import Optimizer
from distbp.trainer.early_stopping import Judge
from distbp.trainer.state import Memory, TrainState

__all__ = ["RunMemory"]

Array = NDArray[Any]


class RunMemory:
    """Takes and gives back what a training remembers.

    Parameters
    ----------
    network, optimizer, judge
        Whose arrays are remembered.
    states : dict of dataclass
        What each component remembers beside: plain numbers and texts.
    reducer : callable
        Returns the reducer of the moment, which knows this rank's shard.
    """

    def __init__(
        self,
        network: Network | FunctionModel,
        optimizer: Optimizer,
        judge: Judge,
        states: Mapping[str, Any],
        reducer: Callable[[], GradientReducer],
    ) -> None:
        self._network, self._optimizer, self._judge = network, optimizer, judge
        self._states, self._reducer = states, reducer

    def take(self) -> Memory:
        """Return it: arrays are live, states are copies."""
        arrays = {"theta": self._network.theta}
        arrays |= {f"optimizer/{name}": array for name, array in self._optimizer.state.items()}
        if self._judge.best_theta is not None:
            arrays["best/theta"] = self._judge.best_theta
        return Memory(arrays, {"components": self._copy(), "t": self._optimizer.t})

    def give(self, memory: Memory) -> None:
        """Go on from there; of each array it has this rank's shard."""
        arrays, state = memory
        self.set_theta(arrays["theta"])
        self._judge.best_theta = arrays.get("best/theta")
        self._optimizer.state = {
            name.removeprefix("optimizer/"): array for name, array in arrays.items() if name.startswith("optimizer/")
        }
        self._optimizer.t = state["t"]
        self._load(state["components"])

    def _copy(self) -> TrainState:
        return {name: asdict(state) for name, state in self._states.items()}

    def _load(self, states: TrainState) -> None:
        """Set what `states` has; what else it has is of another version."""
        for name, state in self._states.items():
            for key, value in deepcopy(states.get(name, {})).items():
                if hasattr(state, key):
                    setattr(state, key, value)

    def share(self, comm: Communicator, *, changes: bool) -> None:
        """Bring parameters and states of rank 0 to those ranks of `comm` where it `changes` something."""
        states = comm.bcast_obj(self._copy())
        theta = self._network.theta if comm.is_root else self._network.theta.copy()  # which others may share
        comm.bcast(theta)
        if changes:
            self._network.theta[:] = theta
            self._load(states)

    def set_theta(self, mine: Array) -> None:
        """Set the parameters, each rank those of its shard."""
        reducer = self._reducer()
        self._network.theta[reducer.shard] = mine
        reducer.barrier()
