"""Composition: builds the parts of a node from its board and configuration. Nothing else; forgotten when it is done."""

import os

import machine
from micropython import const

import lichen
from lichen.clock import Clock
from lichen.diary import Diary
from lichen.keeper import Keeper
from lichen.ring import Ring
from lichen.sampler import Sampler
from lichen.watch import Watch

_PM_CHANNELS = const(("pm25_cf1", "pm25_atm", "n03"))


def _tls(path):
    """A context that verifies the server by the CA in that DER file; boards' own default would not."""
    import tls

    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    with open(path, "rb") as f:
        context.load_verify_locations(f.read())
    return context


def build(node, board, config, flash, code):
    """Gives the node its parts, as told by Node. What only a start needs is imported where it is needed, and forgotten
    at once: the most that a start takes of the heap stays below what the running node takes.
    """
    from lichen.cause import reset_cause

    node.boot = int.from_bytes(os.urandom(4), "big")
    node.diary = Diary(flash + "/diary.json", reset_cause())
    floor = config.get("floor") or lichen.BUILD
    node.clock = Clock(machine.RTC(), floor)
    from lichen import detect

    meters, node.report = detect.find(board, config.get("pm_channels") or _PM_CHANNELS)
    del detect
    lichen.forget("lichen.cause", "lichen.detect")
    cycle_s = config.get("cycle_s") or 0
    if cycle_s:
        from lichen.cycles import Cycles

        node.sampler = Cycles(node.clock, meters, board.PERIOD_S, node.keep, cycle_s)
    else:
        node.sampler = Sampler(node.clock, meters, board.PERIOD_S, node.keep)
    node.ring = Ring(flash + "/ring", node.boot, node.sampler.columns(), config.get("ring_bytes"))
    node.keeper = Keeper(node.ring, node.kept)
    from lichen import about

    birth = about.of(config, board, meters, code, node.ring.boot_number)
    del about
    lichen.forget("lichen.opening", "lichen.about")
    from lichen.publisher import Publisher

    tls = _tls(config["ca"]) if config.get("ca") else None
    node.publisher = Publisher(config, node.ring, node.clock, birth, node.diag, node.diary.keep, node.dns, tls)
    node.timekeeper = None
    if config.get("ntp", True) and not config.get("offline"):
        from lichen.timekeeper import Timekeeper

        node.timekeeper = Timekeeper(node.clock, floor, config["host"], node.dns, config.get("ntp_port") or 123)
    tasks = {"sampler": node.sampler, "ring": node.keeper, "publisher": node.publisher, "clock": node.timekeeper}
    if config.get("offline"):
        del tasks["publisher"]
    node.watch = Watch({name: task for name, task in tasks.items() if task}, node.diary.note)
    node.power = None
    if cycle_s:
        from lichen.power import Power

        node.power = Power(node.clock, node.sampler, node.keeper, node.ring, node.publisher, node.watch, node.radio)
