"""Ranks: what they ask of each other, in MPI's own words; alone, under MPI, as threads, and when some of them die."""

from distbp.comm.communicator import Communicator, Host, Members
from distbp.comm.elastic import ElasticCommunicator
from distbp.comm.mpi import MPICommunicator
from distbp.comm.serial import SerialCommunicator
from distbp.comm.threads import ThreadCommunicator, run_threads

__all__ = [
    "Communicator",
    "ElasticCommunicator",
    "Host",
    "MPICommunicator",
    "Members",
    "SerialCommunicator",
    "ThreadCommunicator",
    "run_threads",
]
