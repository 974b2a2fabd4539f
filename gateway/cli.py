"""The command line: which commands there are, and how an error is told."""

import os
import signal
import sqlite3
import sys
from typing import Final, NoReturn

import typer

from gateway.commands import clock, data, deadletter, kit, running
from gateway.commands.shared import EXIT_FAILED, EXIT_INTERRUPTED, messages
from gateway.errors import LichenError

app: Final = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown",
    help="Lichen: community air monitoring that keeps every reading and says how sure it is.",
)  # fmt: skip
for command in (running.run, running.demo, running.simulate, data.export, data.verify):
    app.command()(command)
for name, commands in (
    ("deadletter", deadletter.app), ("clock", clock.app), ("kit", kit.app), ("calibrate", kit.calibrate_app),
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
        _fail(str(error))
    except BrokenPipeError:  # the reader of an export went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(EXIT_FAILED)
    except (OSError, sqlite3.Error) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _fail(problem: str) -> NoReturn:
    messages.print(f"lichen: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
