"""limit.py SECONDS COMMAND...: run a command; when it takes longer, end it and all that it started."""

import os
import signal
import subprocess
import sys

process = subprocess.Popen(sys.argv[2:], start_new_session=True)
try:
    sys.exit(process.wait(float(sys.argv[1])))
except subprocess.TimeoutExpired:
    print(f"time limit: {' '.join(sys.argv[2:])} took longer than {sys.argv[1]} s", file=sys.stderr)
    os.killpg(process.pid, signal.SIGKILL)
    sys.exit(124)
except KeyboardInterrupt:
    os.killpg(process.pid, signal.SIGTERM)
    sys.exit(130)
