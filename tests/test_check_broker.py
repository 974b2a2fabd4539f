"""`lichen check` at a real broker: what gateway and kit may and may not, and that nothing is left behind."""

import json
import socket
import subprocess
import sys
import time
from threading import Timer

import msgspec
import paho.mqtt.client as mqtt
import pytest
from components import REPO
from influxd import wait_until
from live_gateway import Kit, LiveGateway, batch, write_config
from test_check import bad, errors, one
from test_commands import lichen

from gateway.broker import Broker as Session
from gateway.check import takeover
from gateway.check.broker import Place, check_broker, mark_topic
from gateway.check.kit import check_kit
from gateway.settings import Broker, Settings, Store, load
from gateway.simulate import mosquitto as simulated
from gateway.simulate.mosquitto import DemoBroker, free_port
from gateway.watch import Part


class Variant(DemoBroker):
    """A broker that was set up in another way."""

    def __init__(self, folder, kits=("kit-1", "kit-2"), *, acl=None, conf=lambda text: text):
        super().__init__(folder, "lichen/v1", list(kits))
        self.acl, self.conf = acl, conf

    def _write(self, name, text):
        if name == "acl" and self.acl is not None:
            text = self.acl
        super()._write(name, self.conf(text) if name == "mosquitto.conf" else text)

    def settings(self, **more):
        broker = Broker(port=self.port, password_file=str(self.gateway_password_file), **more)
        return Settings(broker=broker, path=self._folder / "gateway.toml")

    def place(self, **more):
        return Place(self.settings(**more))


@pytest.fixture
def variant(mosquitto, tmp_path):
    started = []

    def make(**options):
        broker = Variant(tmp_path / f"broker-{len(started)}", **options)
        broker.start()
        started.append(broker)
        return broker

    yield make
    for broker in started:
        broker.stop()


GATEWAY = "user gateway\ntopic readwrite lichen/v1/#\n"
KIT = (
    "".join(f"pattern write lichen/v1/%u/{k}\n" for k in ("obs", "backlog", "about", "status", "diag", "reply"))
    + "pattern read lichen/v1/%u/cmd\npattern read lichen/v1/%u/stored\npattern read lichen/v1/gateway/time\n"
)


def observer(broker):
    """Everything that anybody sends, and what the broker keeps."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set("gateway", broker.passwords["gateway"])
    seen, ready = [], []
    client.on_message = lambda _c, _d, m: seen.append((m.topic, m.payload, m.retain))
    client.on_subscribe = lambda *_: ready.append(1)
    client.connect("127.0.0.1", broker.port)
    client.subscribe("lichen/v1/#", 1)
    client.loop_start()
    wait_until(lambda: ready, "it listens")
    return client, seen


def check_all(broker, kit="kit-1"):
    found = list(check_broker(broker.place(), 0.0))
    return found + list(check_kit(broker.place(), kit, broker.passwords[kit], 0.0))


@pytest.mark.mosquitto
def test_the_demonstrations_broker_is_as_it_should_be(variant):
    found = check_all(variant())
    assert bad(found) == []
    told = " ".join(f.what for f in found)
    assert "it lets nobody in without the right password" in told
    assert "it may not write its own commands, its own receipts, another kit's readings, the gateway's time" in told
    assert "its receipts reach it" in told


@pytest.mark.mosquitto
def test_the_deployed_access_list_is_as_it_should_be(variant):
    acl = REPO / "deploy" / "mosquitto" / "lichen.acl"
    if not acl.exists():
        pytest.skip("there is no deploy/mosquitto/lichen.acl")
    assert bad(check_all(variant(acl=acl.read_text()))) == []


@pytest.mark.mosquitto
def test_nothing_is_left_at_the_broker_and_no_kit_or_gateway_is_told_anything(variant):
    broker = variant()
    client, seen = observer(broker)
    assert bad(check_all(broker)) == []
    list(takeover.check_takeover(broker.settings(), broker.place(), runs_here=False, mark=None, listen_s=0.2))
    client.publish("lichen/v1/end", b"", 1)
    wait_until(lambda: any(topic == "lichen/v1/end" for topic, _, _ in seen), "the end")
    client.disconnect()
    client.loop_stop()
    for topic, payload, _ in seen:
        # What is sent at all: receipts, to a name that no kit has, or for a boot that no kit has.
        kind = topic.removeprefix("lichen/v1/").split("/")
        assert kind[-1] in {"stored", "end"}, (topic, payload)
        assert kind[0].startswith(("lichen-check-", "end")) or json.loads(payload)["seq"] == 0
    again, kept = observer(broker)
    time.sleep(0.3)
    again.disconnect()
    again.loop_stop()
    assert kept == []  # no retained message


def counting(variant):
    """A broker that counts its sessions for whoever asks."""
    acl = GATEWAY + "topic read $SYS/#\n" + KIT
    return variant(acl=acl, conf=lambda text: text + "sys_interval 1\n")


def assert_nothing_is_known(broker):
    """Wait until the broker counts no session but that of the observer, to whom nothing retained came."""
    client, seen = observer(broker)
    client.subscribe("$SYS/broker/clients/total", 0)
    wait_until(lambda: seen and seen[-1][1] == b"1", "only the observer is known", 8)
    client.disconnect()
    client.loop_stop()
    assert [topic for topic, _, _ in seen if not topic.startswith("$SYS")] == []


@pytest.mark.mosquitto
def test_the_broker_remembers_no_session_of_a_check(variant):
    broker = counting(variant)
    assert bad(check_all(broker)) == []
    assert_nothing_is_known(broker)


@pytest.mark.mosquitto
def test_a_check_that_is_killed_leaves_no_retained_message_and_no_session(variant, tmp_path):
    broker = counting(variant)
    config = write_config(tmp_path / "gw", broker)
    command = [sys.executable, "-m", "gateway.cli", "check", "-c", str(config), "--listen", "60"]
    with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True) as process:
        assert any("it may write" in line for line in process.stdout)  # it listens now
        process.kill()
    assert_nothing_is_known(broker)


@pytest.mark.mosquitto
def test_a_broker_that_does_not_answer_and_one_that_refuses_are_told_apart(variant, tmp_path):
    broker = variant()
    found = list(check_broker(broker.place(username="nobody"), 0.0))
    assert errors(found) == ["broker: it refuses the user nobody: Not authorized"]
    (broker._folder / "gateway.password").write_text("wrong\n")
    assert "it refuses the user gateway" in errors(check_broker(broker.place(), 0.0))[0]
    nothing = Settings(broker=Broker(port=free_port()))
    assert "it does not answer: Connection refused" in errors(check_broker(Place(nothing), 0.0))[0]
    unreadable = Settings(broker=Broker(password_file="absent"), path=tmp_path / "x.toml")
    assert "the password cannot be read" in errors(check_broker(Place(unreadable), 0.0))[0]


def test_something_else_than_a_broker_is_told(monkeypatch):
    monkeypatch.setattr("gateway.check.probe.WAIT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        settings = Settings(broker=Broker(port=mute.getsockname()[1]))
        assert "does not speak MQTT" in errors(check_broker(Place(settings), 0.0))[0]


@pytest.mark.mosquitto
def test_a_broker_that_lets_anybody_in_is_an_error(variant):
    open_to_all = variant(conf=lambda text: text.replace("allow_anonymous false", "allow_anonymous true"))
    assert errors(check_broker(open_to_all.place(), 0.0)) == [
        "broker: it lets somebody without a name in: anybody may write readings"
    ]


@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("acl", "words"),
    [
        (GATEWAY.replace("readwrite", "read") + KIT, "it may not write +/stored, +/cmd, gateway/time"),
        (GATEWAY.replace("readwrite", "write") + KIT, "grants the subscription and brings nothing"),
        ("user gateway\ntopic read lichen/v1/#\ntopic write lichen/v1/+/stored\ntopic write lichen/v1/+/cmd\n" + KIT,
         "it may not write gateway/time"),
    ],
)  # fmt: skip
def test_what_the_gateway_may_not_is_found(variant, acl, words):
    found = errors(check_broker(variant(acl=acl).place(), 0.0))
    assert any(words in text for text in found), found


@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("pattern write lichen/v1/%u/obs\n", ""), "it may not write kit-1/obs"),
        (("pattern read lichen/v1/%u/stored\n", ""), "its receipts do not reach it"),
        (("", "pattern readwrite lichen/v1/%u/#\n"), "it may write its own commands, its own receipts"),
        (("", "pattern write lichen/v1/+/obs\n"), "it may write another kit's readings"),
        (("", "pattern write lichen/v1/gateway/time\n"), "it may write the gateway's time"),
        (("", "pattern read lichen/v1/#\n"), "it may read what is not its own"),
    ],
)
def test_what_a_kit_may_not_or_may_too_much_is_found(variant, change, words):
    old, new = change
    broker = variant(acl=GATEWAY + (KIT.replace(old, new) if old else KIT + new))
    found = errors(check_kit(broker.place(), "kit-1", broker.passwords["kit-1"], 0.0))
    assert any(words in text for text in found), found


@pytest.mark.mosquitto
def test_a_kit_with_a_wrong_password_is_refused(variant):
    broker = variant()
    assert errors(check_kit(broker.place(), "kit-1", "wrong", 0.0)) == ["kit: the broker refuses it: Not authorized"]


@pytest.mark.mosquitto
def test_what_a_broker_grants_too_little_is_found(variant):
    small = variant(conf=lambda text: text + "max_packet_size 8000\nretain_available false\n")
    found = errors(check_broker(small.place(), 0.0))
    assert any("it takes messages of at most 8000 bytes" in text for text in found)
    assert any("it keeps no retained messages" in text for text in found)
    narrow = variant(conf=lambda text: text.replace("max_inflight_messages 1000", "max_inflight_messages 5"))
    assert one(check_broker(narrow.place(), 0.0), "it keeps at most 5 messages under way") == "warning"


@pytest.mark.mosquitto
def test_beside_a_running_gateway_nothing_is_stored_lost_or_taken_over(variant, tmp_path):
    broker = variant()
    port = free_port()
    config = write_config(tmp_path / "gw", broker, web=f"[web]\nport = {port}\n")
    password = broker._folder / "kit.password"
    password.write_text(broker.passwords["kit-1"])
    with LiveGateway(config) as gateway, Kit(broker) as kit:
        gateway.receives()
        kit.send(batch(7, range(5)), "obs")
        wait_until(lambda: gateway.totals().get("rows") == 5, "it is stored")
        result = lichen("check", "-c", config, "--kit", "kit-1", "--kit-password-file", password, "--json")
        told = json.loads(result.stdout)
        assert (result.returncode, told["errors"]) == (0, 0), told
        assert any(f["what"] == "the gateway of this store has it" for f in told["findings"])
        kit.send(batch(7, range(5, 9)), "obs")
        wait_until(lambda: gateway.totals().get("rows") == 9, "it goes on")
        assert gateway.totals().get("dead_letters", 0) == 0
        assert "lost" not in gateway.log
        text = lichen("check", "-c", config).stdout
    assert "ok      broker: it lets the user gateway in" in text
    assert " 0 errors," in text


@pytest.mark.mosquitto
def test_another_gateway_on_the_same_session_or_topics_is_found(variant, tmp_path):
    broker = variant()
    config = write_config(tmp_path / "other", broker)
    settings = msgspec.structs.replace(load(config), store=Store(dir=str(tmp_path / "mine")))
    look = lambda **more: list(takeover.check_takeover(settings, Place(settings), **more))  # noqa: E731
    assert bad(look(runs_here=False, mark=None, listen_s=0.2)) == []
    with LiveGateway(config) as gateway, Kit(broker) as kit:
        gateway.receives()
        found = look(runs_here=True, mark="not-this-one", listen_s=0.0)
        assert one(found, "another gateway has taken this session") == "error"
        said = Timer(0.5, lambda: kit.send(b'{"v":1,"up":1,"boot":7}', "status", wait=False))  # it is greeted
        said.start()
        assert one(look(runs_here=False, mark=None, listen_s=10.0), "another gateway runs on these topics") == "error"
        said.join()
        assert gateway.process.poll() is None
        assert "receiving" in gateway.status


def test_the_mark_is_looked_for_where_the_gateway_leaves_it():
    settings = Settings()
    assert Session(settings.broker, None, Part("broker", 1.0))._mark_topic == mark_topic(settings)


def test_every_topic_of_a_kit_is_in_the_rules_of_the_demonstration():
    for line in KIT.splitlines():
        assert line.replace("lichen/v1", "{base}") in simulated._ACL


def test_the_access_list_of_the_page_is_the_one_that_is_tried():
    text = (REPO / "docs" / "operations.md").read_text()
    assert "\n".join(f"    {line}".rstrip() for line in f"{GATEWAY}\n{KIT}".splitlines()) in text
