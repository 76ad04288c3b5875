"""What a decoder library may do to its process; called in the child by the tests of decode.py."""

import os
import signal
import time

import numpy as np


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    time.sleep(3600)


def grow() -> None:
    hoard = []
    while True:
        hoard.append(np.ones(20_000_000))
        time.sleep(0.02)


def told_to_end() -> str:
    os.kill(os.getpid(), signal.SIGTERM)
    return "whole"
