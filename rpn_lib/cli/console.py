"""What `rpn` says: one logger, its lines above a bar, from the first process only.

Results go to standard output, warnings and errors to standard error.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("rpn_lib")

# A line that each process may write, not the first alone:
# `log.error(text, extra=EVERY_PROCESS)`.
EVERY_PROCESS = {"every_process": True}


class _Console(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; what a terminal cannot show is written as its number."""
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        if stream is None:  # closed, as some schedulers start their jobs
            return
        encoding = getattr(stream, "encoding", None) or "utf-8"
        text = record.getMessage()
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        bars = sys.modules.get("tqdm")
        try:
            if bars is None:
                stream.write(f"{text}\n")
            else:
                bars.tqdm.write(text, file=stream)
            stream.flush()
        except BrokenPipeError:  # its reader is gone, as `head` is; the work goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _from_first(record: logging.LogRecord) -> bool:
    # torchrun's variable is still there when the group of processes is gone.
    return getattr(record, "every_process", False) or os.environ.get("RANK", "0") == "0"


@contextmanager
def console() -> Iterator[None]:
    """Show what the library logs as the command's own output, and nothing else."""
    handler = _Console()
    handler.addFilter(_from_first)
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]
