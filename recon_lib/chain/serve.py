"""The process that serves the queue: `python -m recon_lib.chain.serve OUTPUTS CORES SCHEDULER`; see `dispatch`."""

import signal
import sys
from pathlib import Path

from recon_lib.chain import dispatch

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts in the background
    dispatch.serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
