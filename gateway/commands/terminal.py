"""What people see while a command runs: messages on standard error, and how far long work is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import TaskID

messages: Final = Console(stderr=True)


@contextmanager
def progress() -> Iterator[Callable[[str, float, float], None]]:
    """Show a bar for each thing in progress on a terminal, and a line each quarter elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:>14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}
        quarters: dict[str, int] = {}

        def show(what: str, done: float, total: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=int(done), total=max(1, int(total)))
            quarter = int(4 * done / total) if total else 0
            if not messages.is_terminal and quarter > quarters.get(what, 0):
                quarters[what] = quarter
                messages.print(f"{what}: {done:.0f} of {total:.0f}", highlight=False)

        yield show
