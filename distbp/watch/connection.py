"""Connections between ranks, beside MPI: by TCP, since the system closes them when a process ends, however it ends.

Each rank calls one other. Who ends as it should says goodbye first. Hosts that do not let each other in have none.

Lifelines are a ring of them. Launchers do not notice every death: under MPICH's mpirun on several hosts, or where a
rank leaves by ``os._exit(0)``, the others would wait in MPI for ever. So who finds its neighbour gone without a goodbye
says so, passes it on, and ends.
"""

import contextlib
import fcntl
import json
import math
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from distbp.comm.communicator import Communicator
from distbp.errors import FAILED

BYE, GONE, _WELCOME = "bye", "gone", "welcome"
_INTERFACE_ADDRESS = 0x8915  # SIOCGIFADDR of Linux


class Line:
    """Carries JSON values between this rank and another."""

    def __init__(self, connected: socket.socket, patience: float) -> None:
        connected.settimeout(patience)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket, self._rest = connected, b""
        self.fileno, self.close = connected.fileno, connected.close

    def send(self, message: Any) -> None:
        """Send a value; that the other rank is gone shows when reading."""
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def read(self) -> list[Any]:
        """Return the values that have come, waiting for the first; the last is None when the connection has ended."""
        try:
            data = self._socket.recv(1 << 16)
            *values, self._rest = (self._rest + data).split(b"\n")
            return [json.loads(value) for value in values] + ([] if data else [None])
        except (OSError, ValueError):  # gone, or no rank at all
            return [None]


def connect(
    comm: Communicator, other: int, *, patience: float = 3.0
) -> tuple[Line | None, dict[Line, int], list[str], list[int]]:
    """Call rank `other`, maybe itself, and answer those that call this one; all ranks do it in the same place.

    Returns the line to `other`, lines and ranks of those that have called, the hosts of all ranks, and the ranks that
    came through to nobody. A call takes at most about `patience` seconds.
    """
    with socket.create_server(("", 0), backlog=comm.size) as server:
        server.settimeout(patience)
        token = secrets.token_hex(16)
        everyone = comm.allgather_obj([comm.host, _addresses(), server.getsockname()[1], token, other])
        host, addresses, port, theirs, _ = everyone[other]
        called = _call(["127.0.0.1"] if host == comm.host else addresses, port, patience)
        if called:
            called.send([theirs, comm.rank])
        reached = comm.allgather_obj(called is not None)
        expected = sum(reached[rank] and whom == comm.rank for rank, (*_, whom) in enumerate(everyone))
        callers = _answer(server, token, expected, patience)
    if called and called.read() != [_WELCOME]:
        called.close()
        called = None
    connected = comm.allgather_obj(called is not None)  # nobody says anything before all are welcome
    unseen = [rank for rank, found in enumerate(connected) if not found]
    return called, callers, [host for host, *_ in everyone], unseen


def _call(addresses: list[str], port: int, patience: float) -> Line | None:
    deadline = time.monotonic() + patience
    for address in addresses:
        with contextlib.suppress(OSError):  # a firewall, or a name that is not known: MPI has found another way
            called = socket.create_connection((address, port), max(0.1, (deadline - time.monotonic()) / 2))
            return Line(called, 10 * patience)
    return None


def _answer(server: socket.socket, token: str, expected: int, patience: float) -> dict[Line, int]:
    callers: dict[Line, int] = {}
    with contextlib.suppress(OSError):  # nobody came, or there are too many
        while len(callers) < expected:
            caller = Line(server.accept()[0], patience)
            match caller.read():
                case [[theirs, rank]] if theirs == token:
                    caller.send(_WELCOME)
                    callers[caller] = rank
                case _:  # somebody who tries all ports
                    caller.close()
    return callers


def _addresses() -> list[str]:
    """Return where other hosts may find this one: its name, and the addresses of its interfaces."""
    found = [socket.gethostname()]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # one without an address
                answer = fcntl.ioctl(asking.fileno(), _INTERFACE_ADDRESS, struct.pack("256s", name[:15].encode()))
                found.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in found if not address.startswith("127.")]


class Lifeline:
    """Ends this rank when its neighbour in the ring of all ranks ends without a goodbye; a `Watch`.

    All ranks of `comm` make one in the same place; with a single one there is nothing to connect. For `grace` seconds
    after the end of a neighbour this rank may end by itself: all fail in step, or the launcher acts.
    """

    def __init__(self, comm: Communicator, *, grace: float = 2.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._comm, self._grace, self._clock = comm, grace, clock
        self._lost, self._deadline = -1, math.inf
        self._following = (comm.rank + 1) % comm.size
        self.lines: dict[Line, int] = {}
        if comm.size > 1:
            called, self.lines, self._hosts, _ = connect(comm, self._following)
            self.lines |= {called: self._following} if called else {}
        self._neighbours = list(self.lines)

    def hear(self, line: Line, message: Any) -> None:
        """Take the last word of a neighbour; None where its process has ended."""
        rank = self.lines.pop(line)
        if message == GONE:
            self._end()
        elif message != BYE and self._lost < 0:
            # the one before a dead rank says it; the one behind only where nobody has
            self._lost = rank
            self._deadline = self._clock() + (self._grace if rank == self._following else 2 * self._grace)

    def look(self) -> float:
        """End this rank when it is time; return the seconds until then."""
        if (left := self._deadline - self._clock()) > 0:
            return left
        comm, lost = self._comm, self._lost
        gone = f"the process of rank {lost} on {self._hosts[lost]} has ended: ending, too"
        os.write(2, f"distbp: rank {comm.name} on {comm.host}: error: {gone}\n".encode())
        self._end()
        return math.inf

    def close(self) -> None:
        """Say goodbye: this rank ends as it should, and no longer minds how the others end."""
        for line in self._neighbours:
            line.send(BYE)
            line.close()

    def _end(self) -> None:
        for line in self._neighbours:
            line.send(GONE)
        os._exit(FAILED)
