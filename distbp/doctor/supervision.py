"""Supervision: a check that hangs, or a rank that dies in it, ends all ranks with a line that says who and where.

A thread on every rank calls no MPI. It tells a thread of rank 0, over TCP, which check its rank has entered and left.
When somebody is longer than the limit in a check, rank 0 asks all who are late where they are, and names

    those that do not answer: stopped, or cut off
    else those that have not come to the check at all
    else those whose collectives are behind the others'
    else all that are late

A connection that ends without a goodbye is a rank that died. MPI_Init keeps Python's other threads from running, so
there a process of its own looks at the clock.
"""

import contextlib
import fcntl
import json
import os
import secrets
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from distbp.comm.communicator import Communicator
from distbp.doctor.finding import EXIT_CODE, FAILURE, Finding, ranks_named

__all__ = ["Supervision", "start_limit"]

_CONNECT = 3.0
"""Seconds for a rank to connect."""
_ANSWER = 1.0
"""Seconds for the threads of late ranks to say where their ranks are."""
_GRACE = 5.0
"""Seconds beyond the limit in which rank 0 speaks, before a rank ends by itself."""
_FORWARD = 0.3
"""Seconds for the launcher to pass on what was printed."""
_LOOK = 0.1
_INTERFACE_ADDRESS = 0x8915  # SIOCGIFADDR of Linux

_GUARD = """
import os, select, signal, sys
parent, limit, text = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
if not select.select([0], [], [], limit)[0]:
    os.write(2, text.encode())
    os.kill(parent, signal.SIGKILL)
"""


@contextlib.contextmanager
def start_limit(limit: float) -> Iterator[None]:
    """End this process, with a line, when the block takes longer than `limit` seconds, even inside MPI_Init."""
    what = f"MPI_Init, or the first collective, did not return within {limit:g} s"
    text = f"distbp: rank ? on {socket.gethostname()}: {what}\n"
    command = [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), str(limit), text]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        assert guard.stdin
        guard.stdin.close()
        guard.wait()


class Supervision:
    """Watches over the checks of all ranks of `comm`, which all make one in the same place.

    Parameters
    ----------
    comm : Communicator
        The ranks.
    limit : float
        Seconds that a check may take.
    last_words : callable
        Called on rank 0, in another thread, with the finding that ends all.

    Attributes
    ----------
    unseen : list of int
        Ranks that could not connect to rank 0, which knows nothing of them.
    """

    def __init__(self, comm: Communicator, limit: float, last_words: Callable[[Finding], None]) -> None:
        self._comm, self._limit = comm, limit
        self._since = float("inf")
        self._check, self._over = "", False
        self._watch: _Watch | None = None
        server = socket.create_server(("", 0), backlog=comm.size) if comm.is_root else None
        token = secrets.token_hex(16)
        where = [comm.host, _addresses() if server else [], server.getsockname()[1] if server else 0, token]
        self._root_host, addresses, port, token = comm.bcast_obj(where)
        self._line = _connect(["127.0.0.1"] if self._root_host == comm.host else addresses, port)
        if self._line:
            self._send([token, comm.rank])
        everyone = comm.allgather_obj([comm.host, bool(self._line)])
        hosts = [host for host, _ in everyone]
        self.unseen = [rank for rank, (_, connected) in enumerate(everyone) if not connected]
        if server:
            watched = _accept(server, token, comm.size - len(self.unseen))
            self._watch = _Watch(watched, hosts, limit, last_words)
            threading.Thread(target=self._watch.run, daemon=True).start()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def check(self, name: str) -> Iterator[None]:
        """Inside, this rank is in the check `name`; all ranks enter the same ones in the same order."""
        self._check, self._since = name, time.monotonic()
        self._send(["enter", name])
        yield
        self._since = float("inf")
        self._send(["leave", name])

    def fail(self, check: str, problem: str) -> None:
        """Say that this rank alone cannot go on; rank 0 prints it and ends all."""
        self._send(["fail", check, problem])
        time.sleep(self._limit if self._line else 0)
        self._leave(f"{check}: {problem}")

    def close(self) -> None:
        """All checks are over on this rank."""
        self._over = True
        if self._watch:
            self._watch.tell("over")
        self._send(["bye"])
        self._thread.join(_ANSWER)

    def _send(self, message: list[Any]) -> None:
        if self._line:
            with contextlib.suppress(OSError):  # rank 0 is gone: the thread hears of it too
                self._line.sendall(json.dumps(message).encode() + b"\n")

    def _listen(self) -> None:
        """Answer rank 0; end when it says so, is gone, or has not spoken when it should have."""
        lines = _Lines(self._line) if self._line else None
        root_over = False
        with self._line or contextlib.nullcontext():
            while lines or not self._over:
                ready = select.select([self._line] if self._line else [], [], [], _LOOK)[0]
                for message in lines.read() if ready and lines else []:
                    if message == "where":
                        self._send(["at", self._comm.recorder.count, self._comm.recorder.inside])
                    elif message == "end" and not self._watch:  # which ends this process when it has told all
                        os._exit(EXIT_CODE[FAILURE])
                    elif message == "over":  # rank 0 is through, and its process may end before this one
                        root_over = True
                    elif message is None:
                        if not self._over and not root_over:
                            self._leave(f"the process of rank 0 on {self._root_host} has ended in '{self._check}'")
                        return
                if time.monotonic() - self._since > self._limit + _GRACE:
                    within = f"within {self._limit:g} s"
                    self._leave(f"rank 0 on {self._root_host} says nothing, and '{self._check}' did not end {within}")

    def _leave(self, problem: str) -> None:
        os.write(2, f"distbp: rank {self._comm.rank} on {self._comm.host}: {problem}\n".encode())
        time.sleep(_FORWARD)
        os._exit(EXIT_CODE[FAILURE])


class _Watch:
    """The thread of rank 0: where each rank is, and the end of all when one of them is no longer there."""

    def __init__(
        self, lines: dict[int, socket.socket], hosts: list[str], limit: float, last_words: Callable[[Finding], None]
    ) -> None:
        self._lines = {rank: _Lines(line) for rank, line in lines.items()}
        self._hosts, self._limit, self._last_words = hosts, limit, last_words
        self._entered, self._left = dict.fromkeys(lines, 0), dict.fromkeys(lines, 0)
        self._names: list[str] = []
        self._began: list[float] = []
        self._at: dict[int, tuple[int, str]] = {}

    def run(self) -> None:
        try:
            while self._lines:
                self._hear(_LOOK)
                number = min(self._left.values(), default=0)
                if number < len(self._began) and time.monotonic() - self._began[number] > self._limit:
                    self._late(number)
        finally:
            for line in self._lines.values():
                line.socket.close()

    def tell(self, word: str) -> None:
        """To all ranks that are still there."""
        for line in list(self._lines.values()):
            with contextlib.suppress(OSError):
                line.socket.sendall(json.dumps(word).encode() + b"\n")

    def _hear(self, patience: float) -> None:
        """Take what ranks say within `patience` seconds."""
        ready = select.select([line.socket for line in self._lines.values()], [], [], patience)[0]
        for rank, line in list(self._lines.items()):
            for message in line.read() if line.socket in ready else []:
                self._note(rank, message)

    def _note(self, rank: int, message: list[Any] | None) -> None:
        match message:
            case ["enter", name]:
                self._entered[rank] += 1
                if self._entered[rank] > len(self._names):
                    self._names.append(name)
                    self._began.append(time.monotonic())
            case ["leave", _]:
                self._left[rank] += 1
            case ["at", count, inside]:
                self._at[rank] = count, inside
            case ["fail", name, problem]:
                self._end(name, f"{ranks_named([rank], self._hosts)}: {problem}", "Mend what it says.", [rank])
            case ["bye"]:
                self._lines.pop(rank).socket.close()
                del self._left[rank]
            case None if rank in self._lines:
                names = [*self._names, "the end"]
                name = names[max(0, self._entered[rank] - (self._entered[rank] > self._left[rank]))]
                died = f"{ranks_named([rank], self._hosts)} died in '{name}'"
                self._end(name, died, "Look for its own message, and for the kernel's on lack of memory.", [rank])

    def _late(self, number: int) -> None:
        """Ask those who are late where they are, and end all."""
        late = [rank for rank in self._lines if self._left[rank] <= number]
        for rank in late:
            with contextlib.suppress(OSError):
                self._lines[rank].socket.sendall(b'"where"\n')
        deadline = time.monotonic() + _ANSWER
        while len(self._at) < len(late) and time.monotonic() < deadline:
            self._hear(_LOOK)
        if not (late := [rank for rank in late if rank in self._lines and self._left[rank] <= number]):
            return  # all came out meanwhile
        if silent := [rank for rank in late if rank not in self._at]:
            guilty, advice = silent, "It is stopped, or its host cannot be reached: look there."
        else:
            guilty = [rank for rank in late if self._entered[rank] <= number] or self._behind(late)
            advice = "Look at what it does there, e.g. with py-spy; others may wait for it."
        self._at.clear()
        name = self._names[number]
        said = f"{ranks_named(guilty, self._hosts)} did not answer in '{name}' within {self._limit:g} s"
        if guilty == late and len(late) == len(self._hosts) > 1 and not silent:
            said = f"no rank came out of '{name}' within {self._limit:g} s"
            advice = "The network between the hosts may not carry MPI's messages: check interfaces and firewall."
        self._end(name, said, advice, guilty)

    def _behind(self, late: list[int]) -> list[int]:
        """Those in front of a collective that others are in, or all."""
        last = max(self._at[rank][0] for rank in late)
        return (
            [rank for rank in late if self._at[rank][0] < last]
            or [rank for rank in late if not self._at[rank][1]]
            or late
        )  # fmt: skip

    def _end(self, check: str, said: str, advice: str, ranks: list[int]) -> None:
        self._last_words(Finding(check, FAILURE, said, advice, tuple(ranks)))
        time.sleep(_FORWARD)
        self.tell("end")
        os._exit(EXIT_CODE[FAILURE])


class _Lines:
    """JSON values that come on a connection, one a line."""

    def __init__(self, line: socket.socket) -> None:
        self.socket, self._rest = line, b""

    def read(self) -> list[Any]:
        """Those that are there; the last is None when the connection has ended."""
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            data = b""
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(text) for text in whole] + ([] if data else [None])


def _connect(addresses: list[str], port: int) -> socket.socket | None:
    deadline = time.monotonic() + _CONNECT
    for address in addresses:
        try:
            line = socket.create_connection((address, port), max(0.1, (deadline - time.monotonic()) / 2))
            line.settimeout(None)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return line
        except OSError:
            continue
    return None


def _accept(server: socket.socket, token: str, number: int) -> dict[int, socket.socket]:
    """The connections of that many ranks, which have all connected already; strangers are sent away."""
    found: dict[int, socket.socket] = {}
    server.settimeout(_CONNECT)
    with server, contextlib.suppress(TimeoutError):
        while len(found) < number:
            line, _ = server.accept()
            line.settimeout(_CONNECT)
            head = b""
            with contextlib.suppress(OSError):
                while not head.endswith(b"\n") and (byte := line.recv(1)):
                    head += byte
            line.settimeout(None)
            said = json.loads(head) if head.startswith(f'["{token}", '.encode()) else None
            if said:
                found[said[1]] = line
            else:
                line.close()
    return found


def _addresses() -> list[str]:
    """Where other hosts may find this one: its name, and the addresses of its interfaces."""
    found = [socket.gethostname()]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # one without an address
                answer = fcntl.ioctl(asking.fileno(), _INTERFACE_ADDRESS, struct.pack("256s", name[:15].encode()))
                found.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in found if not address.startswith("127.")]
