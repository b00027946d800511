"""`python -m mlops_local.worker`: serve requests on stdin, answers on stdout. Started by the program, not by people."""

from __future__ import annotations

import os
import signal

from mlops_local.worker.server import Server


def main() -> None:
    """Keep stdin and stdout for the conversation, send everything else a library prints to stderr, and serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for the program, which then says what to end
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    Server(requests, replies).serve()
    os._exit(0)  # Python's teardown of torch and its like takes a tenth of a second, and nothing here needs it


if __name__ == "__main__":
    main()
