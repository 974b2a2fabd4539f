"""All subjects of `lichen check`, one after the other; safe beside a running gateway."""

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.check.broker import Place, check_broker
from gateway.check.clock import check_clock
from gateway.check.disk import check_disk
from gateway.check.files import check_files
from gateway.check.finding import Findings, Subject
from gateway.check.influx import check_influx
from gateway.check.kit import check_kit
from gateway.check.takeover import check_takeover
from gateway.check.versions import check_versions
from gateway.derive.recipe import Recipe
from gateway.errors import LichenError, SettingsError, StoreError
from gateway.metrics import Vitals
from gateway.settings import Settings, load, read_secret
from gateway.store.database import open_reader


@dataclass(frozen=True, slots=True)
class Options:
    """What is tried: as which kit, how long is listened, and what the gateway of this store says, if one runs."""

    kit: str | None = None
    kit_password_file: Path | None = None
    listen_s: float = 0.0
    runs_here: bool = False
    vitals: Vitals | None = None


def check_settings(path: Path) -> tuple[Settings | None, Findings]:
    """Read the configuration; returns it where it can be used, and what is to be said of it."""
    subject = Subject("settings", str(path))
    try:
        settings = load(path)
    except SettingsError as error:
        problem = str(error).removeprefix(f"{path}: ")
        return None, iter([subject.error(problem, "correct this line; docs/configuration.md tells every key")])
    return settings, _names(subject, settings)


def _names(subject: Subject, settings: Settings) -> Findings:
    try:
        Recipe.of(settings.derive, settings.schemes_dir)
    except LichenError as error:
        yield subject.error(str(error), "correct [derive]")
    else:
        yield subject.ok("every key and value is known")


def check_everything(settings: Settings, options: Options) -> Findings:
    """Yield the findings, those first that others depend on."""
    yield from check_files(settings)
    yield from check_versions(settings)
    with _store(settings) as db:
        yield from check_clock(settings, db)
        yield from check_disk(settings, db)
    place = Place(settings)
    yield from check_broker(place, options.listen_s)
    if not place.problem:
        mark = options.vitals.mark if options.vitals else None
        yield from check_takeover(
            settings, place, runs_here=options.runs_here, mark=mark, listen_s=options.listen_s
        )  # fmt: skip
        if options.kit and options.kit_password_file:
            yield from _kit(place, options.kit, options.kit_password_file, options.listen_s)
    yield from check_influx(settings)
    yield from _page(settings, runs_here=options.runs_here)


def _kit(place: Place, kit: str, password_file: Path, listen_s: float) -> Findings:
    try:
        password = read_secret(password_file)
    except SettingsError as error:
        yield Subject("kit", f"user {kit}").error(f"its password cannot be read: {error}", "name its file")
        return
    yield from check_kit(place, kit, password, listen_s)


def _page(settings: Settings, *, runs_here: bool) -> Findings:
    web = settings.web
    subject = Subject("page", f"{web.host}:{web.port}")
    if not web.enabled or runs_here:
        return
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    try:
        socket.create_server((web.host, web.port), family=family).close()
    except OSError as error:
        yield subject.error(f"the page cannot listen there ({error.strerror})", "set another [web] port or host")
    else:
        yield subject.ok("the page can listen there")


@contextmanager
def _store(settings: Settings) -> Iterator[sqlite3.Connection | None]:
    """Yield the store, None where there is none that can be read: the findings on files and versions say why."""
    try:
        db = open_reader(settings.store_dir)
    except (StoreError, OSError):
        yield None
        return
    with closing(db):
        yield db
