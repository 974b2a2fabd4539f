"""What can happen to a gateway in a cupboard, as functions, and a seeded order of it."""

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress

KITS_AT_ONCE = 4
LONG_STOP_S = 30.0
_HOUR_S, _DAY_S = 3600, 86_400


def kill_gateway(scene, rng):
    """The gateway is killed, and started again as systemd would."""
    scene.gateway.kill()
    return rng.uniform(0, 1.0)


def kill_broker(scene, rng):
    """The broker is killed: it forgets what it had not saved."""
    scene.broker.kill()
    time.sleep(rng.uniform(0, 1.0))
    scene.broker.start_again()
    return 0.0


def _stop(pid, for_s):
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(for_s)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return 0.0


def stop_gateway(scene, rng):
    """The gateway stands still for up to 3 s."""
    return _stop(scene.gateway.pid, rng.uniform(0.2, scene.plan.stop_s))


def stop_broker(scene, rng):
    """The broker stands still for up to 3 s."""
    return _stop(scene.broker.pid, rng.uniform(0.2, scene.plan.stop_s))


def stop_sink(scene, rng):
    """The process that writes to InfluxDB stands still for up to 3 s."""
    pid = scene.gateway.sink_pid()
    with suppress(ProcessLookupError):
        return _stop(pid, rng.uniform(0.2, scene.plan.stop_s)) if pid else 0.0
    return 0.0


def stop_long(scene, rng):
    """The gateway, or the broker, stands still for 30 s."""
    return _stop(rng.choice((scene.gateway.pid, scene.broker.pid)), LONG_STOP_S)


def fill_disk(scene, rng):
    """The disk is full for some seconds."""
    scene.disk.full()
    try:
        time.sleep(rng.uniform(0.7, scene.plan.stop_s))
    finally:
        scene.disk.roomy()
    return 0.5


def step_clock(scene, rng):
    """The gateway's clock jumps by an hour or a day, and back."""
    scene.clock.set(rng.choice((-_DAY_S, -_HOUR_S, _HOUR_S, _DAY_S)))
    try:
        time.sleep(rng.uniform(0.5, scene.plan.stop_s))
    finally:
        scene.clock.set(0)
    return 0.0


def cut_network(scene, rng):
    """A network is cut, refuses connections, or lets nothing through for some seconds."""
    net = rng.choice((scene.net_gateway, scene.net_kits))
    how = rng.choice(("cut", "refuse", "hold", "hold and cut"))
    if how == "cut":
        net.cut()
        return rng.uniform(0, 1.0)
    begin, end = (net.refuse, net.accept) if how == "refuse" else (net.hold, net.let_go)
    begin()
    try:
        time.sleep(rng.uniform(0.5, scene.plan.stop_s))
        if how == "hold and cut":
            net.cut()
    finally:
        end()
    return 0.0


def poison(scene, rng):
    """Messages arrive that no kit should send."""
    scene.poisoner.order(scene.plan.poison_at_once)
    return rng.uniform(0, 0.6)


def flood(scene, rng):
    """Some kits send hundreds of old batches again."""
    scene.fleet.tell("flood", kits=rng.sample(scene.kits, 2), copies=rng.randint(100, 300))
    return rng.uniform(0, 1.0)


def reboot_kits(scene, rng):
    """Some kits lose their power for seconds; now and then one its ring too."""
    scene.fleet.tell("power_cut", kits=rng.sample(scene.kits, KITS_AT_ONCE), dark_s=rng.uniform(1.0, 4.0))
    scene.fleet.tell("wipe", kits=[scene.kits[2]])
    return rng.uniform(0, 0.6)


WEIGHTS = {
    kill_gateway: 5, kill_broker: 3, stop_gateway: 3, stop_broker: 3, stop_sink: 2, fill_disk: 2, step_clock: 4,
    cut_network: 5, poison: 9, flood: 3, reboot_kits: 5,
}  # fmt: skip


def absent(scene):
    """The kinds that cannot happen on this machine, each with what it lacks."""
    lacking = {}
    if not scene.disk.mounted:
        lacking[fill_disk] = "a full disk: needs the right to mount a small file system (root)"
    if not scene.clock.library:
        lacking[step_clock] = "steps of the gateway's clock: needs the package libfaketime"
    return lacking


def schedule(plan, lacking):
    """The order of events: each kind at least once, the long stops spread, all else at random."""
    rng = random.Random(f"{plan.seed} events")
    kinds = {kind: weight for kind, weight in WEIGHTS.items() if kind not in lacking}
    order = list(kinds)
    order += rng.choices(list(kinds), list(kinds.values()), k=max(0, plan.events - plan.long_stops - len(order)))
    rng.shuffle(order)
    for i in range(plan.long_stops):
        order.insert((i + 1) * len(order) // (plan.long_stops + 1), stop_long)
    return order


def happen(scene, order, log):
    """Let all of it happen; returns how often each kind did."""
    rng = random.Random(f"{scene.plan.seed} how")
    counts = Counter()
    for number, kind in enumerate(order, 1):
        began_s = time.monotonic()
        pause_s = kind(scene, rng)
        counts[kind.__name__] += 1
        scene.fleet.check()
        log(f"{number:3} {kind.__name__:13} {time.monotonic() - began_s:5.1f} s  {scene.fleet.state}")
        time.sleep(pause_s + rng.uniform(*scene.plan.pause_s))
    return counts
