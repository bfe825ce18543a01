"""limit.py SECONDS COMMAND...: run a command; end it, and all that it started, when it takes longer or nobody waits."""

import os
import signal
import subprocess
import sys
import time

process = subprocess.Popen(sys.argv[2:], start_new_session=True)
parent, end = os.getppid(), time.monotonic() + float(sys.argv[1])
try:
    while True:
        try:
            sys.exit(process.wait(1.0))
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:  # a script in the background, which gets no Ctrl-C, has been ended
                raise KeyboardInterrupt from None
        if time.monotonic() > end:
            print(f"time limit: {' '.join(sys.argv[2:])} took longer than {sys.argv[1]} s", file=sys.stderr)
            os.killpg(process.pid, signal.SIGKILL)
            sys.exit(124)
except KeyboardInterrupt:
    os.killpg(process.pid, signal.SIGTERM)
    sys.exit(130)
