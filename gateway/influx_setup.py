"""Making an InfluxDB 2.x ready for a gateway: organisation, bucket, a token that may little, means of the hours.

Each step looks first and changes only what is missing, so that it can be run again at any time. It belongs to the
command line alone: importing influxdb-client costs half a second.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.authorization import Authorization
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.domain.onboarding_request import OnboardingRequest
from influxdb_client.domain.permission import Permission
from influxdb_client.domain.permission_resource import PermissionResource
from influxdb_client.domain.task_create_request import TaskCreateRequest
from influxdb_client.rest import ApiException
from influxdb_client.service.setup_service import SetupService
from urllib3.exceptions import HTTPError

from gateway.errors import LichenError
from gateway.settings import read_secret

_DAY_S: Final = 86_400
_TIMEOUT_MS: Final = 20_000
_ADMIN: Final = "admin"
HOURLY: Final = "_1h"
"""What the name of the bucket with the hourly means adds to that of the bucket."""

# The last two days again at each run: what came late is in the mean in the end. Whole hours only, labelled by their
# start as everywhere. boot and seq have no mean.
_FLUX: Final = """\
import "date"

option task = {{name: "{name}", every: 1h, offset: 10m}}

from(bucket: "{bucket}")
    |> range(start: date.truncate(t: -48h, unit: 1h), stop: date.truncate(t: now(), unit: 1h))
    |> filter(fn: (r) => r._measurement == "raw" and r._field != "boot" and r._field != "seq")
    |> toFloat()
    |> aggregateWindow(every: 1h, fn: mean, timeSrc: "_start", createEmpty: false)
    |> to(bucket: "{bucket}{hourly}", org: "{org}")
"""


class InfluxSetupError(LichenError):
    """InfluxDB could not be made ready."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What there is to be afterwards; `retention_days` 0 is for ever, `None` whatever the bucket has."""

    url: str
    org: str
    bucket: str
    token_path: Path
    retention_days: int | None = None
    downsample: bool = False


@dataclass
class Done:
    """What was found and what was made, a sentence each."""

    made: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)


def set_up(wish: Wish, admin_token: str | None, admin_token_path: Path | None) -> Done:
    """Make what is missing.

    Parameters
    ----------
    admin_token
        A token that may create organisations, buckets and tokens; `None` where none is known.
    admin_token_path
        Where the first token goes when the server is new.

    Raises
    ------
    InfluxSetupError
        Saying what failed and what to do.
    """
    done = Done()
    with _told(wish.url):
        admin_token = _first_start(wish, admin_token, admin_token_path, done)
        with InfluxDBClient(wish.url, token=admin_token, timeout=_TIMEOUT_MS) as client:
            org_id = _organisation(client, wish, done)
            bucket_id = _bucket(client, wish.bucket, org_id, wish.retention_days, done)
            if done.made:  # a new server came with them
                done.found.clear()
            _token(client, wish, org_id, bucket_id, done)
            if wish.downsample:
                _bucket(client, wish.bucket + HOURLY, org_id, None, done)
                _task(client, wish, org_id, done)
    return done


def _first_start(wish: Wish, token: str | None, path: Path | None, done: Done) -> str:
    """Return a token of an administrator; a new server gets its first user, whose token and password go to files."""
    with InfluxDBClient(wish.url, token="", timeout=_TIMEOUT_MS) as client:
        service = SetupService(client.api_client)
        if not service.get_setup().allowed:
            if not token:
                raise InfluxSetupError(
                    f"{wish.url} is set up already: give --admin-token-file, or type its admin token"
                )
            return token
        if path is None or token:
            raise InfluxSetupError(
                f"{wish.url} is new and knows no token yet: give --admin-token-file a file that is not there; "
                "the first token will be written to it"
            )
        token, password, password_path = secrets.token_urlsafe(48), secrets.token_urlsafe(18), _password_path(path)
        write_secret(path, token)  # first, so that no token gets lost whatever happens
        try:
            write_secret(password_path, password)
            rules = {"retention_period_seconds": (wish.retention_days or 0) * _DAY_S}
            service.post_setup(
                OnboardingRequest(
                    username=_ADMIN, password=password, org=wish.org, bucket=wish.bucket, token=token, **rules
                )
            )
        except ApiException:  # refused: else the server may have taken them, and the files are all there is of them
            path.unlink()
            password_path.unlink(missing_ok=True)
            raise
    done.made.append(f"first user {_ADMIN}, organisation {wish.org} and bucket {wish.bucket}; "
                     f"token in {path}, password in {password_path}: keep both")  # fmt: skip
    return token


def _organisation(client: InfluxDBClient, wish: Wish, done: Done) -> str:
    api = client.organizations_api()
    if found := _looked_up(lambda: api.find_organizations(org=wish.org)):
        done.found.append(f"organisation {wish.org}")
        return str(found[0].id)
    made = api.create_organization(name=wish.org)
    done.made.append(f"organisation {wish.org}")
    return str(made.id)


def _bucket(client: InfluxDBClient, name: str, org_id: str, days: int | None, done: Done) -> str:
    """Return the bucket's id; one that is there may get to keep for longer, and never for shorter."""
    api = client.buckets_api()
    found = _looked_up(lambda: api.find_buckets(name=name, org_id=org_id).buckets)
    if not found:
        rules = BucketRetentionRules(type="expire", every_seconds=(days or 0) * _DAY_S)
        made = api.create_bucket(bucket_name=name, org_id=org_id, retention_rules=rules)
        done.made.append(f"bucket {name}, which keeps {_kept(days or 0)}")
        return str(made.id)
    bucket = found[0]
    has = sum(rule.every_seconds or 0 for rule in bucket.retention_rules) / _DAY_S
    if days is None or days == has:
        done.found.append(f"bucket {name}, which keeps {_kept(has)}")
    elif days == 0 or 0 < has < days:
        bucket.retention_rules = [BucketRetentionRules(type="expire", every_seconds=days * _DAY_S)]
        api.update_bucket(bucket)
        done.made.append(f"bucket {name} keeps {_kept(days)} instead of {_kept(has)}")
    else:
        raise InfluxSetupError(
            f"the bucket {name} keeps {_kept(has)}; keeping {_kept(days)} would remove points. Leave --retention-days "
            "out, or shorten it yourself with: influx bucket update"
        )
    return str(bucket.id)


def _looked_up(look: Callable[[], list[Any]]) -> list[Any]:
    """Return what was found; InfluxDB answers 404 for a name that it does not know."""
    try:
        return look()
    except ApiException as error:
        if error.status == 404:
            return []
        raise


def _kept(days: float) -> str:
    return f"{days:g} days" if days else "for ever"


def _token(client: InfluxDBClient, wish: Wish, org_id: str, bucket_id: str, done: Done) -> None:
    """Write a token to the file that may write and read this bucket, and nothing else."""
    api, path = client.authorizations_api(), wish.token_path
    if path.exists() and path.stat().st_size:
        token = read_secret(path)
        known = [one for one in api.find_authorizations(org_id=org_id) if one.token == token]
        if not known:
            raise InfluxSetupError(
                f"{path} holds a token that {wish.org} at {wish.url} does not know; move it away to have a new one made"
            )
        rights = {p.action for p in known[0].permissions if p.resource.id == bucket_id}
        if known[0].status != "active" or rights < {"read", "write"}:
            raise InfluxSetupError(
                f"the token in {path} may not both write and read {wish.bucket}; move it away to have a new one made"
            )
        done.found.append(f"token in {path}")
        return
    resource = PermissionResource(type="buckets", id=bucket_id, org_id=org_id)
    permissions = [Permission(action=action, resource=resource) for action in ("read", "write")]
    description = f"lichen: write and read {wish.bucket}"
    made = api.create_authorization(
        authorization=Authorization(org_id=org_id, permissions=permissions, description=description)
    )
    write_secret(path, made.token)
    done.made.append(f"token in {path}, which may write and read {wish.bucket} and nothing else")


def _task(client: InfluxDBClient, wish: Wish, org_id: str, done: Done) -> None:
    api, name = client.tasks_api(), f"lichen: hourly means of {wish.bucket}"
    flux = _FLUX.format(name=name, bucket=wish.bucket, org=wish.org, hourly=HOURLY)
    found = api.find_tasks(name=name, org_id=org_id)
    if not found:
        api.create_task(task_create_request=TaskCreateRequest(flux=flux, org_id=org_id, status="active"))
        done.made.append(f"task that writes hourly means into {wish.bucket}{HOURLY}")
        return
    done.found.append(f"task that writes hourly means into {wish.bucket}{HOURLY}")


def _password_path(path: Path) -> Path:
    return path.with_name(path.name + ".password")


def write_secret(path: Path, secret: str) -> None:
    """Write a file that its owner alone can read, and that holds all of the secret or is not there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as out:
        out.write(secret + "\n")
        out.flush()
        os.fsync(out.fileno())
    new.replace(path)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turn what the client library raises into what a person can act on."""
    try:
        yield
    except ApiException as error:
        raise InfluxSetupError(_meaning(url, error)) from error
    except HTTPError as error:
        reason: Any = getattr(error, "reason", None) or error
        told = str(reason).partition(": ")[2] or str(reason)
        raise InfluxSetupError(f"no InfluxDB answers at {url} ({told}); check --url, and that it runs") from error


def _meaning(url: str, error: ApiException) -> str:
    match error.status:
        case 401:
            return f"{url} refuses the admin token; take one of an administrator, or the operator token"
        case 403:
            return f"the admin token may not do this at {url}; take the operator token"
        case 404 | 405:
            return f"what answers at {url} is no InfluxDB 2.x; check --url"
        case _:
            return f"{url} answers {error.status}: {' '.join(str(error.message or error.reason or '').split())[:200]}"
