"""What a board runs: reads /config.json, keeps Wi-Fi up, starts the node. Not run on a real board."""

import asyncio
import json
import sys
import time

import machine
import network

from lichen.node import Node


async def keep_wifi(config):
    """Joins the network and joins it again; nothing waits for it, and nothing reboots because it is away."""
    wlan = network.WLAN(network.STA_IF)
    wlan.active(True)
    while True:
        if not wlan.isconnected():
            try:
                wlan.connect(config["ssid"], config["wifi_password"])
            except OSError:  # "already connecting" on some ports
                pass
        await asyncio.sleep(20)


def load(path):
    """The configuration, with its defaults."""
    config = {"port": 1883, "user": None, "password": None, "base": "lichen/v1", "receipts": True}
    with open(path) as f:
        config.update(json.load(f))
    return config


async def main(path="/config.json", flash=""):
    """Runs for ever."""
    config = load(path)
    board = getattr(__import__("boards." + config["board"]), config["board"])
    node = Node(board, config, flash)
    if config.get("ssid"):
        asyncio.create_task(keep_wifi(config))
    await asyncio.gather(*[task for task in node.start() if task])


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (
        Exception
    ) as e:  # the publisher has its own boundary: this is a sensor's driver, the flash or the configuration
        sys.print_exception(e)
        time.sleep(30)  # time for Ctrl-C on the console
        machine.reset()
