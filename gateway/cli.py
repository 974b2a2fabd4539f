"""The command line: which commands there are, and how an error is told."""

import logging
import os
import signal
import sqlite3
import sys
from typing import Final, NoReturn

import typer

from gateway import log
from gateway.commands import backup, check, clock, data, deadletter, influx, kit, running, status
from gateway.commands.shared import EXIT_FAILED, EXIT_INTERRUPTED, messages
from gateway.errors import LichenError

app: Final = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown",
    help="Lichen: community air monitoring that keeps every reading and says how sure it is.",
)  # fmt: skip
for command in (
    running.run,
    running.demo,
    running.simulate,
    data.export,
    data.verify,
    backup.backup,
    backup.restore,
    check.check,
    status.status,
):
    app.command()(command)
for name, commands in (
    ("deadletter", deadletter.app), ("clock", clock.app), ("kit", kit.app), ("calibrate", kit.calibrate_app),
    ("influx", influx.app),
):  # fmt: skip
    app.add_typer(commands, name=name)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line; an error that a person can act on is one line, without a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)  # so that what was started is ended in order
    try:
        app()
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


def _fail(problem: str, status: int = EXIT_FAILED) -> NoReturn:
    told = f"lichen: {problem}"
    if log.for_journal():
        told = log.prefixed(told, logging.ERROR)
    messages.print(told, style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
