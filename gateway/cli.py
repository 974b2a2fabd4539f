"""The command line: its beginning, its end, and how an error is told."""

import logging
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Final, NoReturn

from gateway import log
from gateway.errors import EXIT_FAILED, EXIT_INTERRUPTED, LichenError

_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1"}
"""Lichen multiplies no matrices; without this numpy starts a thread a core at its import, which spin for 0.1 s of CPU.
The sink's process inherits it."""


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line; an error that a person can act on is one line, without a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)  # so that what was started is ended in order
    os.environ |= {**_ONE_THREAD, **os.environ}
    try:
        _run(sys.argv[1:])
        sys.stdout.flush()
    except LichenError as error:
        _fail(str(error), error.exit_status)
    except BrokenPipeError:  # the reader of an export went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(EXIT_FAILED)
    except (OSError, sqlite3.Error) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _run(arguments: list[str]) -> None:
    """Run one command.

    The gateway as its unit starts it is known without the libraries of the command line: they take 0.14 s of CPU, and
    11 MB that a gateway would hold as long as it runs.
    """
    match arguments:
        case ["run", "-c" | "--config", config] if not config.startswith("-"):
            from gateway.run import run

            run(Path(config))
        case _:
            from gateway.commands.tree import tree

            tree(arguments[0] if arguments else None)()


def _fail(problem: str, status: int = EXIT_FAILED) -> NoReturn:
    told = f"lichen: {problem}"
    if log.for_journal():
        told = log.prefixed(told, logging.ERROR)
    from gateway.commands.terminal import messages

    messages.print(told, style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
