"""What the firmware's tests run kits with: a broker, a small stand-in for the gateway, and kits in simulated time."""

import csv
import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt

HERE = Path(__file__).resolve().parent
FIRMWARE = HERE.parent.parent / "firmware_micropython"
BASE = "lichen/v1"
HEADER = "end_s,cf1_a,atm_a,n03_a,n05_a,n10_a,n25_a,n50_a,n100_a,cf1_b,atm_b,n03_b,n25_b,temp,rh"


def wait_for(condition, seconds, what):
    """Waits for a condition with a deadline."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def free_port():
    """A loopback port nobody uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Broker:
    """mosquitto on 127.0.0.1, its store kept through restarts."""

    def __init__(self, binary, folder, access="allow_anonymous true\n"):
        self.binary, self.port, self.process = binary, free_port(), None
        self.config = Path(folder) / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""
        self.config.write_text(f"listener {self.port} 127.0.0.1\n{access}{user}max_queued_messages 0\n")

    def start(self):
        self.process = subprocess.Popen([self.binary, "-c", str(self.config)], stderr=subprocess.DEVNULL)

        def up():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0

        wait_for(up, 10, "broker listens")

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


class Gateway:
    """Keeps rows by (kit, boot, seq), sends receipts for what is whole, and a time message now and then."""

    def __init__(self, port, receipts=True, sync=0, tick_s=0.2, password=None):
        self.rows, self.copies, self.conflicts, self.retained, self.statuses = {}, 0, [], {}, []
        self.diags = []
        self.first, self.messages, self.receipts, self.sync = {}, [], receipts, sync
        self.clock, self.ticking = time.time, True
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "gateway")
        if password:
            self.client.username_pw_set("gateway", password)
        self.client.reconnect_delay_set(0.05, 0.2)
        self.client.on_connect = lambda c, *_: c.subscribe(BASE + "/#", 1)
        self.client.on_message = self._message
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, args=(tick_s,), daemon=True)
        self._thread.start()

    def _tick(self, seconds):
        while not self._stop.wait(seconds):
            if not self.ticking:
                continue
            now = self.clock()
            message = {"v": 1, "t": int(now), "ms": int(now % 1 * 1000), "sync": self.sync}
            self.client.publish(BASE + "/gateway/time", json.dumps(message))

    def _message(self, _client, _userdata, message):
        _, _, kit, name = message.topic.split("/")
        if kit == "gateway" or name in ("stored", "cmd"):
            return
        data = json.loads(message.payload)
        assert data["v"] == 1
        if name == "diag":
            self.diags.append(data)
            return
        if name in ("about", "status"):
            self.retained[kit, name] = data
            if name == "status":
                self.statuses.append(data)
            return
        self.messages.append((kit, name, data))
        assert len(message.payload) <= 16384
        assert len(data["rows"]) <= 256
        boot = data["boot"]
        for values in data["rows"]:
            row = dict(zip(data["cols"], values, strict=True))
            key = kit, boot, row["seq"]
            if key in self.rows:
                self.copies += 1
                if self.rows[key] != row:
                    self.conflicts.append(key)
            self.rows[key] = row
        self.first[kit, boot] = max(data["first"], self.first.get((kit, boot), 1))
        if self.receipts:
            self.receipt(kit, boot)

    def receipt(self, kit, boot):
        """Every row of the boot up to here is stored, or was never held."""
        seq = self.first[kit, boot] - 1
        while (kit, boot, seq + 1) in self.rows:
            seq += 1
        self.client.publish(f"{BASE}/{kit}/stored", json.dumps({"v": 1, "boot": boot, "seq": seq}), 1)

    def close(self):
        self._stop.set()
        self._thread.join()
        self.client.disconnect()
        self.client.loop_stop()


class Bench:
    """Kits in a folder."""

    def __init__(self, micropython, firmware, folder):
        self.micropython, self.firmware, self.folder = micropython, firmware, Path(folder)
        self.running = []

    def signal(self, rows, name="signal.csv"):
        """Writes a signal file from dicts; what is not given is 0."""
        path = self.folder / name
        with path.open("w") as f:
            f.write(HEADER + "\n")
            for row in rows:
                values = [row.get(c, 0) for c in HEADER.split(",")]
                f.write(",".join("" if v is None else str(v) for v in values) + "\n")
        return path

    def config(self, **keys):
        """A configuration with what every test wants the same."""
        config = {
            "kit": "k1", "host": "127.0.0.1", "port": 1, "user": None, "password": None, "base": BASE, "board": "host",
            "flash": str(self.folder / "k1.img"), "signal": str(self.folder / "signal.csv"),
            "ledger": str(self.folder / "k1.csv"), "end": None, "at_end": "off", "rtc": True, "floor": 1600000000,
            "offline": False,
        }  # fmt: skip
        return config | keys

    def start(self, config, epoch, speed=0, real_time=False, micropython=None, heap=None):
        """A kit's process."""
        path = self.folder / f"config{len(self.running)}.json"
        path.write_text(json.dumps(config))
        fw = self.firmware
        env = {"MICROPYPATH": f"{fw}/host:{fw}:.frozen"}
        options = ["-X", f"heapsize={heap}"] if heap else []
        if not real_time:
            env = {
                "MICROPYPATH": f"{fw}/host/discrete:{fw}/host:{fw}:.frozen",
                "SPEED": str(speed),
                "EPOCH": str(epoch),
            }
        with (self.folder / "kit.out").open("ab") as out, (self.folder / "kit.err").open("ab") as err:
            process = subprocess.Popen(
                [micropython or self.micropython, *options, f"{fw}/host/run.py", str(path)],
                env=os.environ | env, stdout=out, stderr=err,
            )  # fmt: skip
        self.running.append(process)
        return process

    def finish(self, process, seconds=30):
        """Waits for its end; what it said on stderr fails the test."""
        assert process.wait(seconds) == 0, (self.folder / "kit.err").read_text()
        assert (self.folder / "kit.err").read_text() == ""

    def start_script(self, text):
        """Starts a script with the firmware and the stand-ins on its path, in real time."""
        path = self.folder / "script.py"
        path.write_text(text)
        env = os.environ | {"MICROPYPATH": f"{self.firmware}/host:{self.firmware}:.frozen"}
        process = subprocess.Popen([self.micropython, str(path)], env=env)
        self.running.append(process)
        return process

    def ledger(self, name="k1.csv"):
        """{(kit, boot, seq): row} as written when the rows were made."""
        rows = {}
        if not (self.folder / name).exists():
            return rows
        with (self.folder / name).open() as f:
            for row in csv.DictReader(f):
                kit, boot = row.pop("kit"), int(row.pop("boot"))
                values = {k: int(v) if v else None for k, v in row.items()}
                assert (kit, boot, values["seq"]) not in rows
                rows[kit, boot, values["seq"]] = values
        return rows

    def close(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.wait()
