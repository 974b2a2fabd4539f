"""Run in the machine: a kit that sends ten rows and waits for their receipt; arguments are name and password."""

import json
import sys
import threading
import time

import paho.mqtt.client as mqtt

name, password = sys.argv[1:]
received = threading.Event()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.username_pw_set(name, password)
client.on_message = lambda *_: received.set()
client.connect("127.0.0.1", 1883)
client.subscribe(f"lichen/v1/{name}/stored", 1)
client.loop_start()
now_s = int(time.time()) - 3600
rows = [[seq, 60 * seq, now_s + 60 * seq, 2, 60, 12, 0, 83, 83] for seq in range(1, 11)]
cols = ["seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "pm25_atm"]
batch = {"v": 1, "boot": now_s, "first": 1, "cols": cols, "rows": rows}
for _ in range(20):  # the subscription may come later than the batch
    client.publish(f"lichen/v1/{name}/backlog", json.dumps(batch), 1)
    if received.wait(1):
        break
client.loop_stop()
sys.exit(0 if received.is_set() else "no receipt")
