"""What a board's main.py starts: reads /config.json, keeps Wi-Fi up, runs the node. Not run on a real board."""

import asyncio
import time

import machine
import network

import lichen
from lichen.diary import Diary
from lichen.node import Node


async def keep_wifi(wlan, config):
    """Joins the network and joins it again; nothing waits for it, and nothing reboots because it is away."""
    wlan.active(True)
    while True:
        if wlan.active() and not wlan.isconnected():
            try:
                wlan.connect(config["ssid"], config["wifi_password"])
            except OSError:  # "already connecting" on some ports
                pass
        await asyncio.sleep(20)


def build(path="/config.json", flash=""):
    """The node of that configuration, its tasks not begun but the one that keeps Wi-Fi up; reports on the console."""
    from lichen import settings

    config = settings.load(path)
    name = "boards." + config["board"]
    board = getattr(__import__(name), config["board"])
    wlan = network.WLAN(network.STA_IF) if config.get("ssid") else None
    node = Node(board, config, flash, "", wlan)
    for line in node.report:
        print(line)
    node.report = None
    lichen.forget("lichen.settings", name, "boards")
    if wlan:
        asyncio.create_task(keep_wifi(wlan, config))
    return node


async def run(node):
    """Its tasks, for ever."""
    sampling, publishing, others = node.start()
    await asyncio.gather(sampling, publishing, *others)


async def main(path="/config.json", flash=""):
    """Runs for ever."""
    await run(build(path, flash))


def start(path="/config.json", flash=""):
    """Runs for ever; whatever ends it is noted on flash, and the board starts again."""
    try:
        asyncio.run(main(path, flash))
    except (
        Exception
    ) as e:  # the publisher has its own boundary: this is a sensor's driver, the flash or the configuration
        Diary(flash + "/diary.json").keep(e)
        time.sleep(5)  # time for Ctrl-C on the console; where the watchdog runs it bites soon after
        machine.reset()
