"""The configuration file: one TOML file, every key with its meaning and default, unknown keys refused."""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from gateway.errors import SettingsError

_HOST: Final = r"^[0-9A-Za-z_:-]+(\.[0-9A-Za-z_-]+)*$"
_TOPIC: Final = r"^[^+#/\x00]+(/[^+#/\x00]+)*$"


def _doc(text: str) -> Meta:
    return Meta(description=text)


class Broker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[broker]`: where the kits' messages come from."""

    host: Annotated[str, Meta(pattern=_HOST, description="name or address of the MQTT broker")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="its port")] = 1883
    username: Annotated[str, _doc("the gateway's user at the broker")] = "gateway"
    password_file: Annotated[
        Annotated[str, Meta(min_length=1)] | None, _doc("file that holds the password; relative to this file")
    ] = None
    client_id: Annotated[str, Meta(min_length=1, description="name of the persistent session; one gateway each")] = (
        "lichen-gateway"
    )
    base: Annotated[str, Meta(pattern=_TOPIC, description="first part of every topic, without a slash at its ends")] = (
        "lichen/v1"
    )
    receive_maximum: Annotated[
        int, Meta(ge=1, le=65535, description="messages the broker may send ahead of acknowledgement")
    ] = 1000
    session_expiry_s: Annotated[
        int, Meta(ge=0, le=0xFFFFFFFE, description="how long the broker keeps messages while the gateway is away [s]")
    ] = 30 * 86_400


class Clock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[clock]`: how far the gateway believes its own clock."""

    trusted: Annotated[
        bool | Literal["auto"],
        _doc('true, false (every replay of old or invented time), or "auto": trusted while the system says it is set'),
    ] = "auto"


class Store(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[store]`: where readings are kept."""

    dir: Annotated[str, _doc("folder of the store; relative to this file")] = "store"
    commit_s: Annotated[
        float, Meta(gt=0, le=10, description="longest time messages are gathered for one commit [s]")
    ] = 1.0
    max_kits: Annotated[
        int, Meta(ge=1, le=1_000_000, description="kits that are known at most; beyond it new ones are dead letters")
    ] = 10_000
    budget_mb: Annotated[
        int, Meta(ge=200, description="room for the store, file and log; beyond it the oldest raw hours go [MB]")
    ] = 8000
    reserve_mb: Annotated[
        int, Meta(ge=0, description="free space of the file system that is left alone; below it they go too [MB]")
    ] = 200


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[retention]`: how long is kept what, while there is room."""

    raw_days: Annotated[
        int, Meta(ge=7, le=100_000, description="raw readings; older hours are sealed, and late rows stay so long [d]")
    ] = 730
    air_days: Annotated[
        int, Meta(ge=7, le=100_000, description="calibrated rows; they can be computed again from raw readings [d]")
    ] = 400
    hour_days: Annotated[
        int, Meta(ge=7, le=100_000, description="hourly means and indices, never shorter than raw readings [d]")
    ] = 36_500
    health_days: Annotated[
        int, Meta(ge=1, le=100_000, description="health of the kits and counters of the gateway, for sinks [d]")
    ] = 14
    tombstone_days: Annotated[
        int, Meta(ge=7, le=100_000, description="removals; a sink that is away for longer keeps what was withdrawn [d]")
    ] = 60


class DeadLetters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[dead_letters]`: how much is kept of messages that are no readings."""

    kit_mb: Annotated[
        int, Meta(ge=1, le=100_000, description="for each kit, and for messages of no kit [MB]; the oldest go first")
    ] = 4
    total_mb: Annotated[
        int, Meta(ge=1, le=1_000_000, description="for all together [MB]; the oldest of the kit with most go first")
    ] = 256
    days: Annotated[int, Meta(ge=1, le=100_000, description="how long a dead letter is kept [d]")] = 365


class Derive(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[derive]`: what is computed from the readings."""

    correction: Annotated[str, _doc("id of the PM2.5 correction for kits without a calibration of their own")] = (
        "barkjohn2021"
    )
    schemes: Annotated[
        tuple[str, ...],
        _doc(
            "air-quality index schemes, the first one is shown first: `us-2024` indexes all hours by that table, "
            "`us` each hour by the table in force then, `us-2024-daily` days from midnight to midnight of standard time"
        ),
    ] = ("us-2024", "tw-2025")
    zone: Annotated[
        str | None, _doc("time zone of the sites, such as Asia/Taipei or +08:00, for indices of days; whole hours")
    ] = None
    schemes_dir: Annotated[str, _doc("folder of schemes of your own, a TOML file each; relative to this file")] = (
        "schemes"
    )


class Station(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An official station's hourly values in a file: columns such as `pm25_ugm3`, `no2_ppb`, and a time."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    file: Annotated[str, Meta(min_length=1)]


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[drift]`: what kits are compared with; alarms in `lichen status`, nothing is corrected."""

    areas: Annotated[
        tuple[tuple[str, ...], ...],
        _doc('kits that breathe about the same air, a list each, such as [["kit-1", "kit-2"]]; none: all kits'),
    ] = ()
    stations: Annotated[
        tuple[Station, ...],
        _doc(
            'official stations, such as [{name = "roof", file = "roof.csv"}], CSV with columns `pm25_ugm3`, '
            "`no2_ppb`; relative to this file"
        ),
    ] = ()


class Influx(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[influx]`: an InfluxDB 2.x that receives everything; leave the section out where there is none."""

    url: Annotated[str, _doc("address of the server, such as http://127.0.0.1:8086")]
    org: Annotated[str, _doc("organisation")]
    bucket: Annotated[str, _doc("bucket")]
    token_file: Annotated[str, _doc("file that holds a token with write access; relative to this file")]
    timeout_s: Annotated[float, Meta(gt=0, description="longest time for one write [s]")] = 30.0
    batch_lines: Annotated[int, Meta(ge=1, le=50_000, description="lines a request, about")] = 10_000
    lag_days: Annotated[
        float, Meta(gt=0, le=100_000, description="unsent readings older than this mark InfluxDB as *behind* [d]")
    ] = 7.0
    lag_rows: Annotated[int, Meta(ge=1000, le=1_000_000_000, description="more unsent readings than these do too")] = (
        5_000_000
    )


class Web(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[web]`: the page."""

    enabled: Annotated[bool, _doc("whether there is a page")] = True
    host: Annotated[str, _doc("address to listen on; 0.0.0.0 opens it to the network")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port; 0 takes a free one")] = 8080


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    broker: Broker = Broker()
    clock: Clock = Clock()
    store: Store = Store()
    retention: Retention = Retention()
    dead_letters: DeadLetters = DeadLetters()
    derive: Derive = Derive()
    drift: Drift = Drift()
    influx: Influx | None = None
    web: Web = Web()
    path: Path = Path()

    def beside(self, name: str) -> Path:
        """Return a path of the file, which is relative to the folder the file lies in."""
        return self.path.parent / name

    @property
    def store_dir(self) -> Path:
        """Folder of the store."""
        return self.beside(self.store.dir)

    @property
    def schemes_dir(self) -> Path | None:
        """Folder of the operator's own index schemes, `None` where there is none."""
        found = self.beside(self.derive.schemes_dir)
        return found if found.is_dir() else None


SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    "broker": Broker, "clock": Clock, "store": Store, "retention": Retention, "dead_letters": DeadLetters,
    "derive": Derive, "drift": Drift, "influx": Influx, "web": Web,
}  # fmt: skip


def load(path: Path) -> Settings:
    """Read the configuration file.

    Raises
    ------
    SettingsError
        If it cannot be read, is not TOML, or has an unknown key or a wrong value.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(path, f"cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(path, f"is not TOML ({error})") from error
    _check_names(path, table)
    try:
        return msgspec.structs.replace(msgspec.convert(table, Settings), path=path.resolve())
    except msgspec.ValidationError as error:
        raise SettingsError(path, str(error).replace("$.", "")) from error


def _check_names(path: Path, table: dict[str, Any]) -> None:
    for section, keys in table.items():
        if section not in SECTIONS:
            raise SettingsError(path, f"unknown section [{section}]{_nearest(section, list(SECTIONS))}")
        known = [field.name for field in msgspec.structs.fields(SECTIONS[section])]
        for key in keys if isinstance(keys, dict) else ():
            if key not in known:
                raise SettingsError(path, f"unknown key {key} in [{section}]{_nearest(key, known)}")


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def read_secret(path: Path) -> str:
    """Return the content of a secret's file without white space around it.

    Raises
    ------
    SettingsError
        If it cannot be read or is empty.
    """
    try:
        secret = path.read_text("utf-8").strip()
    except OSError as error:
        raise SettingsError(path, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SettingsError(path, "is not text") from error
    if not secret:
        raise SettingsError(path, "is empty; it must hold the secret alone")
    return secret
