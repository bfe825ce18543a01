"""Lifelines: each rank learns that its neighbour's process has ended, whatever MPI thinks of it.

Launchers do not notice every death: under MPICH's mpirun on several hosts, or where a rank leaves by ``os._exit(0)``,
the others would wait in MPI for ever. So each rank holds a TCP connection to the next one, in a ring. Nothing is sent
on it: the system closes it when a process ends, however it ends. Who ends as it should says goodbye first; who finds
its neighbour gone without a goodbye says so, passes it on, and ends.

A thread sleeps on the two connections; it calls no MPI. Where hosts do not let each other in there is no lifeline.
"""

import os
import secrets
import select
import socket
import threading
import time

from distbp.comm.communicator import Communicator
from distbp.errors import FAILED

__all__ = ["Lifeline"]

_PATIENCE = 2.0
"""Seconds for a neighbour to connect."""
_GRACE = 2.0
"""Seconds after the end of a neighbour in which this rank may end by itself: all fail in step, or the launcher acts."""
_GOODBYE, _GONE = b"bye", b"gone"


class Lifeline:
    """Connects the ranks of `comm` in a ring, and ends this rank when its neighbour ended without `close`.

    Parameters
    ----------
    comm : Communicator
        The ranks, which all make one in the same place. With a single rank there is nothing to connect.
    """

    def __init__(self, comm: Communicator) -> None:
        self._comm = comm
        self._neighbours: dict[socket.socket, int] = {}
        if comm.size > 1:
            self._hosts = self._connect()
            self._wake, self._woken = socket.socketpair()
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def _connect(self) -> list[str]:
        """Call the next rank, answer the one before; the hosts of all."""
        comm = self._comm
        with socket.create_server(("", 0)) as server:
            token = secrets.token_hex(16) if comm.is_root else ""
            everyone = comm.allgather_obj([comm.host, server.getsockname()[1], token])
            token = everyone[0][2]
            following = (comm.rank + 1) % comm.size
            host, port, _ = everyone[following]
            try:
                line = socket.create_connection(("127.0.0.1" if host == comm.host else host, port), _PATIENCE)
                self._neighbours[line] = following
                line.sendall(token.encode())
            except OSError:
                pass  # a firewall, or a name that is not known: MPI has found another way
            deadline = time.monotonic() + _PATIENCE
            while (left := deadline - time.monotonic()) > 0:
                server.settimeout(left)
                try:
                    line, _ = server.accept()
                    line.settimeout(left)
                    if line.recv(len(token), socket.MSG_WAITALL) == token.encode():
                        self._neighbours[line] = (comm.rank - 1) % comm.size
                        break
                    line.close()  # somebody who tries all ports
                except OSError:
                    continue
        for line in self._neighbours:
            line.settimeout(None)
        return [host for host, *_ in everyone]

    def close(self) -> None:
        """Say goodbye: this rank ends as it should, and no longer minds how the others end."""
        if self._comm.size > 1:
            self._tell(_GOODBYE)
            self._wake.close()
            self._thread.join()
            for line in [*self._neighbours, self._woken]:
                line.close()

    def _tell(self, word: bytes) -> None:
        for line in self._neighbours:
            try:
                line.sendall(word)
            except OSError:
                continue

    def _watch(self) -> None:
        lines, lost, deadline = dict(self._neighbours), -1, float("inf")
        while lines or lost >= 0:
            patience = None if lost < 0 else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([*lines, self._woken], [], [], patience)
            if self._woken in ready:
                return
            for line in ready:
                rank, word = lines.pop(line), _word(line)
                if word == _GONE:
                    self._end()
                    return
                if word != _GOODBYE and lost < 0:
                    # the one before a dead rank says it; the one behind only where nobody has
                    following = rank == (self._comm.rank + 1) % self._comm.size
                    lost, deadline = rank, time.monotonic() + (_GRACE if following else 2 * _GRACE)
            if time.monotonic() >= deadline:
                comm = self._comm
                gone = f"the process of rank {lost} on {self._hosts[lost]} has ended: ending, too"
                os.write(2, f"distbp: rank {comm.name} on {comm.host}: error: {gone}\n".encode())
                self._end()
                return

    def _end(self) -> None:
        self._tell(_GONE)
        os._exit(FAILED)


def _word(line: socket.socket) -> bytes:
    """What the neighbour says; nothing where its process has ended."""
    try:
        return line.recv(8)
    except OSError:
        return b""
