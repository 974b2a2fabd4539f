"""What a board's main.py starts: reads /config.json, keeps Wi-Fi up, runs the node. Not run on a real board."""

import asyncio
import io
import sys
import time

import machine
import network

from lichen import settings
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


async def main(path="/config.json", flash=""):
    """Runs for ever."""
    config = settings.load(path)
    board = getattr(__import__("boards." + config["board"]), config["board"])
    wlan = network.WLAN(network.STA_IF) if config.get("ssid") else None
    node = Node(board, config, flash, "", wlan)
    for line in node.report:
        print(line)
    if wlan:
        asyncio.create_task(keep_wifi(wlan, config))
    sampling, publishing, others = node.start()
    await asyncio.gather(sampling, publishing, *others)


def start(path="/config.json", flash=""):
    """Runs for ever; whatever ends it is noted on flash, and the board starts again."""
    try:
        asyncio.run(main(path, flash))
    except (
        Exception
    ) as e:  # the publisher has its own boundary: this is a sensor's driver, the flash or the configuration
        sys.print_exception(e)
        text = io.StringIO()
        sys.print_exception(e, text)
        Diary(flash + "/diary.json").note(text.getvalue())
        time.sleep(5)  # time for Ctrl-C on the console; where the watchdog runs it bites soon after
        machine.reset()
