"""The command line: `rpn train`, `rpn check` and the rest; `rpn --help` lists them.

Also `python -m rpn_lib`. A mistake of the user's ends in one line and exit code 2;
`rpn check` ends with 1 where it finds something, an interrupted run with 130.
"""

from collections.abc import Sequence
from importlib import import_module

from rpn_lib.cli.console import EVERY_PROCESS, console, log
from rpn_lib.cli.parser import parser
from rpn_lib.errors import Interrupted, ProcessLost, RPNError

MISTAKE, STOPPED = 2, 130  # exit codes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; `rpn --help` lists them.

    Args:
        arguments: `sys.argv` without the program's name if not given.

    Returns:
        the exit code.

    >>> main(["check", "nowhere"])  # the line goes to standard error
    2
    """
    commands = parser()
    options = commands.parse_args(arguments)
    if options.command is None:
        commands.print_help()
        return MISTAKE
    with console():
        try:
            # Not before a command is known: torch takes seconds.
            code: int = import_module(f"rpn_lib.cli.{options.command}").run(options)
            return code
        except Interrupted as error:
            log.error(f"{error} Continue with: rpn train --resume --out {options.out}")
            return STOPPED
        except KeyboardInterrupt:
            log.error("stopped.")
            return STOPPED
        except (RPNError, OSError, ImportError) as error:
            everywhere = EVERY_PROCESS if isinstance(error, ProcessLost) else None
            log.error(f"error: {' '.join(str(error).split())}", extra=everywhere)
            return MISTAKE
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's
                raise
            first = str(error).split(". ")[0]
            log.error(f"error: {first}. Give a smaller --batch-size or --side.")
            return MISTAKE
