"""`lichen influx setup` against a real InfluxDB: what is missing is made, what is there stays, the token may little."""

import json
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from influxd import TOKEN, Influxd, wait_until
from main_job import LICHEN

from gateway.settings import load

pytestmark = pytest.mark.influxdb


@pytest.fixture
def server(influxd, tmp_path):
    with Influxd(influxd, tmp_path / "influxd") as server:
        yield server


@pytest.fixture
def fresh(influxd, tmp_path):
    server = Influxd(influxd, tmp_path / "influxd")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text('[broker]\npassword_file = "broker-password"\n')
    return path


def setup(config, server, *more, admin="admin.token"):
    command = [
        *LICHEN,
        "influx",
        "setup",
        "-c",
        config,
        "--url",
        server.url,
        "--admin-token-file",
        config.parent / admin,
    ]
    return subprocess.run([*command, *more], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def made(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["made"]


def asked(server, method, path, token, body=None):
    """The status and the body of an answer."""
    headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, body, headers, method=method)  # noqa: S310 - our own
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_new_server_gets_everything_and_again_nothing_is_changed(fresh, config):
    options = ("--org", "school", "--bucket", "air", "--retention-days", "400", "--downsample", "--json")
    first = setup(config, fresh, *options)
    assert len(made(first)) == 4  # the server with its user, the token, the bucket of means, the task
    folder = config.parent
    for name in ("admin.token", "admin.token.password", "influx-token"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600, name
        assert (folder / name).read_text().strip() not in first.stdout + first.stderr
    before = {name: (folder / name).read_text() for name in ("admin.token", "influx-token")}
    again = setup(config, fresh, *options)
    assert made(again) == []
    assert {name: (folder / name).read_text() for name in before} == before
    assert "nothing was changed" in setup(config, fresh, *options[:-1]).stdout


def test_the_token_writes_and_reads_its_bucket_and_nothing_else(server, config):
    (config.parent / "admin.token").write_text(TOKEN)
    server.create_bucket("other")
    assert "nothing else" in setup(config, server, "--org", "lichen", "--bucket", "mine").stdout
    token = (config.parent / "influx-token").read_text().strip()
    line, flux = b"raw,kit=k x=1 1795215600000", 'from(bucket: "{}") |> range(start: 0)'
    for bucket, may in (("mine", True), ("other", False)):
        path = f"/api/v2/write?org=lichen&bucket={bucket}&precision=ms"
        assert (asked(server, "POST", path, token, line)[0] == 204) == may
        server.write(line.decode(), bucket)
        body = json.dumps({"query": flux.format(bucket)}).encode()
        assert (b"raw" in asked(server, "POST", "/api/v2/query?org=lichen", token, body)[1]) == may
    org = json.loads(server.request("GET", "/api/v2/orgs"))["orgs"][0]["id"]
    bucket = json.dumps({"orgID": org, "name": "x"}).encode()
    assert asked(server, "POST", "/api/v2/buckets", token, bucket)[0] in {401, 403}
    # What was withdrawn is deleted, and how long the bucket keeps is asked.
    times = {"start": "2026-01-01T00:00:00Z", "stop": "2027-01-01T00:00:00Z"}
    span = json.dumps({**times, "predicate": 'kit="k"'}).encode()
    assert asked(server, "POST", "/api/v2/delete?org=lichen&bucket=mine", token, span)[0] == 204
    assert asked(server, "POST", "/api/v2/delete?org=lichen&bucket=other", token, span)[0] in {401, 403, 404}
    found = json.loads(asked(server, "GET", "/api/v2/buckets?org=lichen", token)[1])["buckets"]
    assert [bucket["name"] for bucket in found] == ["mine"]
    assert asked(server, "DELETE", f"/api/v2/orgs/{org}", token)[0] in {401, 403, 404}
    assert json.loads(server.request("GET", "/api/v2/orgs"))["orgs"]


def test_the_section_it_prints_leads_the_gateway_there(server, config, tmp_path):
    (config.parent / "admin.token").write_text(TOKEN)
    printed = setup(config, server, "--bucket", "mine").stdout.partition("[influx]")
    config.write_text(config.read_text() + printed[1] + printed[2])
    settings = load(config)
    assert (settings.influx.url, settings.influx.bucket) == (server.url, "mine")
    assert settings.beside(settings.influx.token_file).read_text().strip()
    assert "[influx]" not in setup(config, server).stdout  # it is in the file now


def test_a_service_gets_its_token_by_a_credential(server, config):
    (config.parent / "admin.token").write_text(TOKEN)
    config.write_text('[broker]\npassword_file = "/run/credentials/lichen-gateway.service/broker-password"\n')
    said = setup(config, server).stdout
    assert 'token_file = "/run/credentials/lichen-gateway.service/influx-token"' in said
    assert (config.parent / "credentials" / "influx-token").stat().st_mode & 0o777 == 0o600


def test_a_bucket_may_keep_longer_and_never_shorter(server, config):
    (config.parent / "admin.token").write_text(TOKEN)
    server.create_bucket("old", keep_s=30 * 86_400)
    assert (
        "keeps 60 days instead of 30 days" in setup(config, server, "--bucket", "old", "--retention-days", "60").stdout
    )
    shorter = setup(config, server, "--bucket", "old", "--retention-days", "10")
    assert (shorter.returncode, "keeps 60 days; keeping 10 days would remove points" in shorter.stderr) == (1, True)


def test_hourly_means_are_written_by_the_task(server, config):
    (config.parent / "admin.token").write_text(TOKEN)
    made(setup(config, server, "--downsample", "--json"))
    hour_s = int(time.time()) // 3600 * 3600 - 7200
    lines = [f"raw,kit=k pm25_cf1={v},pm_n={v}i,boot=7i,seq={v}i {(hour_s + 600 * v) * 1000}" for v in range(6)]
    server.write("\n".join(lines))
    task = json.loads(server.request("GET", "/api/v2/tasks?org=lichen"))["tasks"][0]
    assert task["status"] == "active"
    server.request("POST", f"/api/v2/tasks/{task['id']}/runs", b"{}")
    found = wait_until(lambda: server.points("raw", "air_1h"), "the means", 60)
    assert found == {((("kit", "k"),), hour_s * 1000): {"pm25_cf1": 2.5, "pm_n": 2.5}}


@pytest.mark.parametrize(
    ("token", "says"),
    [("wrong", "refuses the admin token"), (None, "is set up already")],
)
def test_a_wrong_and_a_missing_admin_token_are_told(server, config, token, says):
    if token:
        (config.parent / "admin.token").write_text(token)
    done = setup(config, server)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (config.parent / "influx-token").exists()


def test_a_token_that_may_too_little_is_told(server, config):
    (config.parent / "admin.token").write_text(TOKEN)
    assert setup(config, server, "--bucket", "mine").returncode == 0
    (config.parent / "admin.token").write_text((config.parent / "influx-token").read_text())
    (config.parent / "influx-token").unlink()
    done = setup(config, server, "--bucket", "third")
    assert done.returncode == 1
    assert "admin token" in done.stderr


def test_a_foreign_token_in_the_file_is_not_overwritten(server, config):
    (config.parent / "admin.token").write_text(TOKEN)
    (config.parent / "influx-token").write_text("of another server")
    done = setup(config, server)
    assert (done.returncode, "does not know; move it away" in done.stderr) == (1, True)
    assert (config.parent / "influx-token").read_text() == "of another server"


def test_nothing_that_answers_is_told(config):
    class Nowhere:
        url = "http://127.0.0.1:9"

    done = setup(config, Nowhere)
    assert done.returncode == 1
    assert "no InfluxDB answers at http://127.0.0.1:9" in done.stderr
    assert "Connection refused" in done.stderr
    assert not (config.parent / "admin.token").exists()
