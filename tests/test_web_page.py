"""The page as HTML and the JSON beside it, from the real server: numbers, what is missing, hostile names."""

import html.parser
import json
import math
import sqlite3
from contextlib import contextmanager

import httpx
import pytest
from made_store import COLS, DAY_S, HOUR_S, START_S, MadeStore, day_of_air, settings_of

from gateway.export import INDEX_COLUMNS, iso_time
from gateway.store import deadletters, derived
from gateway.store.database import FILE_NAME, transaction
from gateway.watch import Part
from gateway.web.app import create_app
from gateway.web.server import WebServer

NOW_S = START_S + DAY_S + 10 * HOUR_S + 1400
DASH = "\N{EN DASH}"
HOSTILE = '"><script>alert(1)</script>\N{RIGHT-TO-LEFT OVERRIDE}&amp;'


@pytest.fixture
def made(tmp_path):
    store = MadeStore(tmp_path)
    yield store
    store.db.close()


@contextmanager
def serving(made, *, now_s=NOW_S, trusted=True):
    settings = settings_of(made.dir)
    server = WebServer(
        lambda: create_app(settings, lambda: trusted, clock_ms=lambda: now_s * 1000), settings.web, Part("page", 60)
    )
    server.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
            yield client
    finally:
        server.stop()


class _Text(html.parser.HTMLParser):
    """The text a person sees, and every tag and attribute."""

    def __init__(self, markup):
        super().__init__()
        self.words, self.tags, self.attributes, self.titles = [], [], [], {}
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page(client):
    response = client.get("/")
    assert response.status_code == 200
    return _Text(response.text)


def test_the_page_shows_now_last_hour_day_and_both_indices_with_their_tables(made):
    made.add_span("roof", START_S, NOW_S - 20, day_of_air)
    made.status("roof", up=1)
    made.about("roof", b'{"v":1,"kit":"roof","board":"ESP32-S3","fw":{"version":"0.1.0","hash":"x"}}')
    made.derive()
    last = NOW_S // HOUR_S - 1
    hours = {r.hour: r for r in derived.read_hours(made.db, kit="roof")}
    newest = list(derived.read_air(made.db, kit="roof"))[-1].values["pm25_ugm3"][-1]
    day = math.fsum(hours[h].values["pm25_ugm3"] for h in range(last - 23, last + 1)) / 24
    with serving(made) as client:
        shown = page(client).text
        found = client.get("/api/v1/kits").json()
    (kit,) = found["kits"]
    figures = kit["pm25_ugm3"]
    assert figures["now"]["value"] == newest
    assert figures["last_hour"]["value"] == hours[last].values["pm25_ugm3"]
    assert figures["last_hour"]["raw"] == {"pm25_cf1": hours[last].values["pm25_cf1"]}
    assert figures["last_24h"]["value"] == day
    assert {figures[k]["interval"] for k in ("now", "last_hour", "last_24h")} == {"none"}
    assert (kit["state"], found["now"], found["clock_trusted"]) == ("up", iso_time(NOW_S * 1000), True)
    assert f"Now {newest:.1f} µg/m³" in shown
    assert (
        f"Last hour, mean {hours[last].values['pm25_ugm3']:.1f} µg/m³ 09:00 {DASH} 10:00 UTC · 60 of 60 minutes"
        in shown
    )
    assert f"24 hours, mean {day:.1f} µg/m³ to 2023-09-02 10:00 UTC · 24 of 24 hours interval: none" in shown
    assert f"uncorrected {hours[last].values['pm25_cf1']:.1f} µg/m³ pm25_cf1" in shown
    assert "up, last heard 2023-09-02 10:22 UTC" in shown
    assert "12 of 12 samples" in shown
    assert "ESP32-S3, firmware 0.1.0" in shown
    for record in derived.read_indices(made.db, site="roof", hour_from=last, hour_to=last + 1):
        title = {"us-2024": "US AQI", "tw-2025": "Taiwan AQI"}[record.scheme]
        category = {"good": "Good", "moderate": "Moderate"}[record.category]
        assert (
            f"{title} table {record.scheme}@1 {record.value} {category} PM2.5 equivalent, not an official value"
            in shown
        )
        assert (
            f"Hour ending 2023-09-02 10:00 UTC PM2.5, real-time mean {record.subs['pm25'].concentration:.1f}" in shown
        )


def test_not_enough_data_says_what_is_missing(made):
    made.add_span("roof", NOW_S - 20 - 11 * HOUR_S, NOW_S - 20, day_of_air)
    made.add_span("late", NOW_S - 20 - 70 * 60, NOW_S - 20, day_of_air)
    made.derive()
    with serving(made) as client:
        shown = page(client).text
        kits = {k["kit"]: k for k in client.get("/api/v1/kits").json()["kits"]}
    assert "24 hours, mean Not enough data 10 of 24 hours, at least 18 are needed" in shown
    assert "PM2.5, 24 h mean not enough data: 10 of 24 hours" in shown
    late = shown[shown.index("late US AQI") : shown.index("roof US AQI")]
    assert f"US AQI table us-2024@1 {DASH} Not enough data PM2.5: 1 of the last 3 hours, at least 2 are needed" in late
    assert "PM2.5: 1 of the last 12 hours, at least 6 are needed" in late
    assert "PM2.5: 1 of the last 4 hours, at least 2 are needed" in late
    assert kits["late"]["pm25_ugm3"]["last_24h"]["value"] is None
    assert kits["late"]["pm25_ugm3"]["last_24h"]["missing"] == "1 of 24 hours, at least 18 are needed"
    assert kits["late"]["pm25_ugm3"]["last_hour"]["value"] is not None


@pytest.mark.parametrize("minutes", [1, 30, 44, 45, 59])
def test_an_hour_of_few_minutes_is_never_called_enough(made, minutes):
    start = (NOW_S // HOUR_S - 1) * HOUR_S
    made.add_span("roof", start, start + minutes * 60, day_of_air, dt_s=60)
    made.derive()
    with serving(made) as client:
        hour = client.get("/api/v1/kits").json()["kits"][0]["pm25_ugm3"]["last_hour"]
    assert (hour["value"] is not None) == (minutes >= 45)
    assert hour["missing"] == (None if minutes >= 45 else f"{minutes} of 60 minutes, at least 45 are needed")


def test_a_silent_kit_is_silent_and_its_old_reading_is_not_now(made):
    made.add_span("gone", START_S, NOW_S - 16 * 60, day_of_air)
    made.add_span("left", START_S, NOW_S - 60, day_of_air)
    made.status("left", up=0)
    made.derive()
    with serving(made) as client:
        shown = page(client).text
        kits = client.get("/api/v1/kits").json()["kits"]
    assert [k["state"] for k in kits] == ["silent", "silent"]
    assert [k["pm25_ugm3"]["now"]["value"] is None for k in kits] == [True, False]
    assert "Now Not enough data no reading in the last 15 minutes" in shown
    assert shown.count("silent since") == 2


def test_a_reading_without_a_valid_value_says_why(made):
    made.add_span("roof", START_S, NOW_S - 140, day_of_air)
    last = [9000, 9000, NOW_S - 20, 2, 120, 0, 12, None, None, 12, 0, 2130, 5500]
    made.add("roof", COLS, [last])
    made.derive()
    with serving(made) as client:
        assert "Now Not enough data the newest reading has no valid value (sensor fault)" in page(client).text


def test_untrusted_time_takes_the_newest_reading_as_now_and_says_so(made):
    end = START_S + DAY_S - 60
    made.add_span("roof", START_S, end, day_of_air)
    made.derive()
    with serving(made, now_s=NOW_S + 10 * 365 * DAY_S, trusted=False) as client:
        shown = page(client).text
        kits = client.get("/api/v1/kits").json()
        series = client.get("/api/v1/series", params={"kit": "roof"}).json()
    newest = iso_time(START_S * 1000 + (DAY_S - 120) * 1000)
    assert f"Replayed or untrusted time. The gateway does not trust its clock: now is {newest}" in shown
    assert (kits["now"], kits["clock_trusted"]) == (newest, False)
    assert kits["kits"][0]["state"] == "up"
    assert kits["kits"][0]["pm25_ugm3"]["now"]["value"] is not None
    assert "up, newest reading 2023-09-01 23:58 UTC" in shown
    # Nothing follows that would end the last hour of a recording: it counts once it is valid.
    assert kits["last_hour_start"] == "2023-09-01T23:00:00Z"
    assert series["to"] == "2023-09-02T00:00:00Z"


def test_trusted_time_says_nothing_of_a_replay_and_waits_for_the_hour_to_end(made):
    made.add_span("roof", START_S, START_S + DAY_S - 60, day_of_air)
    made.derive()
    with serving(made, now_s=START_S + DAY_S - 30) as client:
        assert "untrusted" not in page(client).text
        assert client.get("/api/v1/kits").json()["last_hour_start"] == "2023-09-01T22:00:00Z"


def test_hostile_names_and_births_are_text_only(made):
    made.add_span(HOSTILE, START_S, NOW_S - 20, day_of_air)
    hostile_about = {
        "v": 1,
        "kit": "k",
        "board": "<img src=x onerror=alert(1)>",
        "fw": {"version": "'\">", "hash": "h"},
    }
    made.about(HOSTILE, json.dumps(hostile_about).encode())
    made.derive()
    with serving(made) as client:
        shown = page(client)
        series = client.get("/api/v1/series", params={"kit": HOSTILE})
    seen = HOSTILE.replace("\N{RIGHT-TO-LEFT OVERRIDE}", "\N{REPLACEMENT CHARACTER}")
    assert seen in shown.text
    assert "<img src=x onerror=alert(1)>, firmware '\">" in shown.text
    assert shown.tags.count("script") == 2
    assert [value for name, value in shown.attributes if name == "src"] == [
        "/static/uplot/uPlot.iife.min.js", "/static/lichen.js", "/static/lichen.svg",
    ]  # fmt: skip
    assert not [name for name, _ in shown.attributes if name.startswith("on") or name == "style"]
    assert ("data-kit", HOSTILE) in shown.attributes
    assert series.status_code == 200
    assert series.json()["kit"] == HOSTILE


@pytest.mark.parametrize("about", [b"not json", b"\xff\xfe", b'{"v":1}', b"[" * 9000])
def test_an_unreadable_birth_certificate_is_left_out(made, about):
    made.add_span("roof", START_S, START_S + HOUR_S, day_of_air)
    made.about("roof", about)
    with serving(made) as client:
        assert "30 readings stored" in page(client).text


def test_an_empty_store_says_what_to_do_next(made):
    with serving(made) as client:
        shown = page(client).text
        assert client.get("/api/v1/kits").json()["kits"] == []
    assert "No kit has been heard yet" in shown
    assert "lichen demo" in shown
    with serving(made, trusted=False) as client:
        assert "no reading has brought a time yet" in page(client).text
        assert client.get("/api/v1/kits").json()["now"] is None
        assert client.get("/api/v1/index").json()["indices"] == []


def test_kits_whose_readings_wait_are_shown_as_such(made):
    cols = ("seq", "up", "t", "q", "dt", "pm25_cf1")
    made.add("clockless", cols, [[i, 60 * i, None, 0, 60, 100] for i in range(3)])
    for trusted in (True, False):
        with serving(made, trusted=trusted) as client:
            assert "3 wait until their time is known" in page(client).text
            assert client.get("/api/v1/kits").json()["kits"][0]["waiting"] == 3


def test_the_footer_counts_what_was_stored_and_turned_away(made):
    made.add_span("roof", START_S, START_S + HOUR_S, day_of_air)
    with transaction(made.db):
        deadletters.keep(made.db, received_ms=0, topic="t", kit=None, reason="r", detail="d", payload=b"p")
        made.db.execute("INSERT INTO counter VALUES (0, 'duplicates', 1234)")
    with serving(made) as client:
        assert "30 readings stored · 1,234 duplicates · 1 dead letters · 1 hours being derived" in page(client).text
        made.derive()
        assert "1 dead letters Data" in page(client).text


def test_every_answer_carries_a_policy_that_allows_this_gateway_alone(made):
    made.add_span("roof", START_S, NOW_S, day_of_air)
    with serving(made) as client:
        for path in (
            "/",
            "/api/v1/kits",
            "/static/lichen.js",
            "/static/uplot/uPlot.iife.min.js",
            "/nothing",
            "/healthz",
        ):
            headers = client.get(path).headers
            policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
            assert policy["default-src"] == "'none'", path
            assert set(policy.values()) == {"'none'", "'self'"}, path
            assert headers["x-content-type-options"] == "nosniff"
            assert "server" not in headers
        assert "://" not in client.get("/").text.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("path", "status", "where"),
    [
        ("/api/v1/series", 400, "kit"),
        ("/api/v1/series?kit=", 400, "kit"),
        ("/api/v1/series?kit=nobody", 404, "kit"),
        ("/api/v1/series?kit=roof&hours=0", 400, "hours"),
        ("/api/v1/series?kit=roof&hours=-1", 400, "hours"),
        ("/api/v1/series?kit=roof&hours=1e3", 400, "hours"),
        ("/api/v1/series?kit=roof&hours=745", 400, "hours"),
        ("/api/v1/series?kit=roof&hours=" + "9" * 5000, 400, "hours"),
        ("/api/v1/series?kit=roof&hours=%D9%A3", 400, "hours"),
        ("/api/v1/series?kit=roof&hour=3", 400, "hour"),
        ("/api/v1/series?kit=roof&quantity=rh", 400, "quantity"),
        ("/api/v1/index?site=nowhere", 404, "site"),
        ("/api/v1/index?scheme=uk", 404, "scheme"),
        ("/api/v1/index?hours=x", 400, "hours"),
        ("/api/v1/nothing", 404, "/api/v1/nothing"),
        ("/static/../app.py", 404, "/app.py"),
    ],
)
def test_a_bad_request_is_told_what_where_and_what_next(made, path, status, where):
    made.add_span("roof", START_S, START_S + HOUR_S, day_of_air)
    with serving(made) as client:
        response = client.get(path)
    assert response.status_code == status
    body = response.json()
    assert body.keys() == {"error", "where", "what_next"}
    assert body["where"] == where
    assert all(body.values())


def test_nothing_can_be_written_through_the_page(made):
    with serving(made) as client:
        for path in ("/", "/api/v1/kits", "/healthz"):
            assert client.post(path).status_code == 405
            assert client.delete(path).status_code == 405


def test_series_are_the_stored_readings_and_hours(made):
    made.add_span("roof", START_S, START_S + DAY_S, day_of_air)
    made.add_span("roof", START_S + DAY_S + 4 * HOUR_S, NOW_S - 20, day_of_air, boot=8)
    made.derive()
    with serving(made) as client:
        found = client.get("/api/v1/series", params={"kit": "roof", "hours": "12"}).json()
    last = NOW_S // HOUR_S
    air = list(derived.read_air(made.db, kit="roof", hour_from=last - 11))
    assert found["readings"]["time_ms"] == [t for hour in air for t in hour.time_ms.tolist()]
    assert found["readings"]["pm25_ugm3"] == [v for hour in air for v in hour.values["pm25_ugm3"].tolist()]
    assert [t // 3_600_000 for t in found["hours"]["hour_start_ms"]] == list(range(last - 11, last + 1))
    stored = {r.hour: r for r in derived.read_hours(made.db, kit="roof")}
    expected = [stored[h].values.get("pm25_ugm3") if h in stored else None for h in range(last - 11, last + 1)]
    assert found["hours"]["pm25_ugm3"] == expected
    assert expected.count(None) == 4 + 1  # the four hours of the gap, and the hour that runs
    assert (found["unit"], found["from"]) == ("µg/m³", iso_time((last - 11) * 3_600_000))


def test_indices_have_the_names_of_the_export(made):
    made.add_span("roof", START_S, NOW_S, day_of_air)
    made.derive()
    with serving(made) as client:
        found = client.get("/api/v1/index", params={"site": "roof", "scheme": "us-2024", "hours": "3"}).json()
    assert [tuple(row) for row in found["indices"]] == [(*INDEX_COLUMNS, "interval")] * 3
    assert [row["hour_start"][11:13] for row in found["indices"]] == ["07", "08", "09"]
    assert {row["equivalent"] for row in found["indices"]} == {"PM2.5 equivalent"}


def test_health_tells_whether_the_store_answers(made):
    with serving(made) as client:
        assert client.get("/healthz").json()["status"] == "ok"
        (made.dir / FILE_NAME).rename(made.dir / "away")
        response = client.get("/healthz")
        assert response.status_code == 503
        assert response.json().keys() == {"error", "where", "what_next"}
        shown = client.get("/")
        assert shown.status_code == 503
        assert "cannot be read just now" in shown.text
        (made.dir / "away").rename(made.dir / FILE_NAME)
        assert client.get("/healthz").status_code == 200


def test_reading_the_page_changes_nothing_in_the_store(made):
    made.add_span("roof", START_S, NOW_S, day_of_air)
    made.derive()
    before = made.db.execute("SELECT value FROM revision").fetchone(), made.db.total_changes
    version = made.db.execute("PRAGMA data_version").fetchone()
    with serving(made) as client:
        for path in ("/", "/api/v1/kits", "/api/v1/series?kit=roof", "/api/v1/index"):
            assert client.get(path).status_code == 200
    assert (made.db.execute("SELECT value FROM revision").fetchone(), made.db.total_changes) == before
    assert made.db.execute("PRAGMA data_version").fetchone() == version
    other = sqlite3.connect(made.dir / FILE_NAME)
    other.execute("UPDATE revision SET value = value + 1")
    other.commit()
    assert made.db.execute("PRAGMA data_version").fetchone() != version  # the check above can fail
    other.close()
