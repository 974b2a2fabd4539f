"""Runs inside MicroPython: parsers and the MQTT core fed with captured, mutated and random bytes in random pieces.

argv: part, seed, bytes. Nothing may escape but the core's own errors, and what is intact is found. Prints JSON.
"""

import json
import random
import struct
import sys

from drivers import ads1115, bme280, pms, sht31
from lichen import dns, mqtt, sntp, wire

CAPTURED = bytes.fromhex("424d001c00000008000800000008000800d20046002d001e00000000970002c5")
REPLY = b"\x42\x4d\x00\x04\xe4\x00\x01\x77"


def noise(n):
    """Random bytes."""
    return bytes([random.getrandbits(8) for _ in range(n)])


def pieces(data):
    """The bytes as a line brings them."""
    at = 0
    while at < len(data):
        n = random.choice((1, 2, 7, 31, 32, 33, 200))
        yield data[at : at + n]
        at += n


def flipped(data):
    """A copy with one to three bits flipped, cut short, or with a byte lost or doubled."""
    out = bytearray(data)
    way = random.getrandbits(2)
    at = random.randrange(len(out))
    if way == 0:
        return bytes(out[:at])
    if way == 1:
        return bytes(out[:at] + out[at + 1 :])
    if way == 2:
        return bytes(out[: at + 1] + out[at:])
    for _ in range(random.randint(1, 3)):
        out[random.randrange(len(out))] ^= 1 << random.getrandbits(3)
    return bytes(out)


def frame():
    body = b"\x42\x4d\x00\x1c" + noise(26)
    return body + struct.pack(">H", sum(body))


def whole_at(data, at):
    """Length of the frame that begins there, by the data sheet alone; 0 if none does."""
    if data[at : at + 3] != b"\x42\x4d\x00" or len(data) < at + 4 or data[at + 3] not in (28, 4):
        return 0
    n = data[at + 3] + 4
    if len(data) < at + n or sum(data[at : at + n - 2]) != data[at + n - 2] << 8 | data[at + n - 1]:
        return 0
    return n


def fuzz_pms(size):
    done = found = hidden = 0
    while done < size:
        out = bytearray()
        intact = {}
        for _ in range(40):
            way = random.getrandbits(3)
            if way < 3:
                good = (CAPTURED, REPLY, frame())[way]
                intact[len(out)] = good
                out += good
            elif way == 3:
                out += flipped(CAPTURED)
            elif way == 4:
                out += flipped(frame())
            elif way == 5:
                out += b"\x42\x4d\x00\x1c"
            elif way == 6:
                out += b"\x42" * random.randint(1, 40)
            else:
                out += noise(random.randint(1, 60))
        out = bytes(out) + bytes(40)  # so that no candidate is left waiting
        parser = pms.Parser()
        got = []
        for piece in pieces(out):
            got += parser.feed(piece)
            assert len(parser._buf) < 32 + 200
        expected = []
        at = 0
        while at < len(out):
            n = whole_at(out, at)
            if n:
                data = out[at + 4 : at + n - 2]
                expected.append(struct.unpack(">12H", data[:24]) if n == 32 else data)
                intact.pop(at, None)
            at += n or 1
        # what is left over starts within bytes that make a frame with a right checksum, by chance or by a copy
        hidden += len(intact)
        assert got == expected, (got, expected)
        found += len(got)
        done += len(out)
    assert hidden * 200 < found, (hidden, found)
    return done, found


def fuzz_sht31(size):
    done = found = 0
    good = b"\x66\x66" + bytes((sht31.crc8(b"\x66\x66"),))
    while done < size:
        way = random.getrandbits(2)
        data = noise(random.randint(0, 9)) if way == 0 else flipped(good + good) if way == 1 else noise(6)
        if way == 3:
            data = b"".join([w + bytes((sht31.crc8(w),)) for w in (noise(2), noise(2))])
        values = sht31.decode(data)
        right = len(data) == 6 and sht31.crc8(data[:2]) == data[2] and sht31.crc8(data[3:5]) == data[5]
        assert (values is not None) == right
        if values:
            found += 1
            assert -4500 <= values[0] <= 13000 and 0 <= values[1] <= 10000
        done += len(data)
    return done, found


def fuzz_bme280(size):
    done = found = 0
    while done < size:
        low, high = noise(26), noise(7)
        calibration = bme280.Calibration(low, high)
        calibration.plausible()
        done += 33
        for _ in range(20):
            data = noise(8)
            values = bme280.decode(calibration, data)
            done += 8
            if values:
                found += 1
                temp, rh, pressure = values
                assert -4000 <= temp <= 8500 and 0 <= rh <= 10000 and 30000 <= pressure <= 110000
    return done, found


class Bus:
    """An I2C bus that answers whatever it likes."""

    def __init__(self):
        self.bytes = 0

    def _maybe(self):
        if random.getrandbits(4) == 0:
            raise OSError(19)

    def writeto(self, address, data):
        self._maybe()

    def readfrom(self, address, n):
        self._maybe()
        self.bytes += n
        return noise(n)

    def readfrom_mem(self, address, register, n):
        self._maybe()
        self.bytes += n
        if register == 0xD0:
            return b"\x60"
        return noise(n)

    def read(self):
        n = random.getrandbits(6)
        self.bytes += n
        return noise(n) if n else None

    def write(self, data):
        pass


def fuzz_drivers(size):
    """The sensors themselves on such a bus: an answer is values, None or False."""
    bus = Bus()
    sensors = [pms.Pms(bus, pms.NAMES.split()), sht31.Sht31(bus), bme280.Bme280(bus), ads1115.No2B43f(bus)]
    found = 0
    while bus.bytes < size:
        for sensor in sensors:
            random.choice((sensor.start, sensor.check, sensor.sleep, sensor.wake, sensor.give_up, sensor.trigger))()
            sensor.trigger()
            for _ in range(9):
                values = sensor.poll()
                if values is not None:
                    break
            assert values is None or values is False or len(values) == len(sensor.channels)
            found += bool(values)
    return bus.bytes, found


def packet():
    """A packet of the broker's side and its event."""
    way = random.randrange(5) if random.getrandbits(5) else 5
    pid = random.randint(1, 65535)
    if way == 0:
        return b"\x20\x02\x01\x00", ("connack", 1, 0)
    if way == 1:
        return bytes(mqtt.puback(pid)), ("puback", pid)
    if way == 2:
        return b"\xd0\x00", ("pingresp",)
    if way == 3:
        return b"\x90\x04" + bytes((pid >> 8, pid & 255)) + b"\x01\x80", ("suback", pid, b"\x01\x80")
    payload = noise(random.choice((0, 1, 40, 127, 128, 300)))
    if way == 4:
        return bytes(mqtt.publish("a/b", len(payload), 1, pid)) + payload, ("publish", "a/b", payload, 1, pid)
    return bytes(mqtt.publish("t", 5000, 1, pid)) + bytes(5000), ("oversized", 1, pid)


def fuzz_mqtt(size):
    done = found = errors = 0
    while done < size:
        decoder = mqtt.Decoder()
        stream, expected = b"", []
        for _ in range(random.randint(0, 8)):
            data, event = packet()
            stream += data
            expected.append(event)
        way = random.getrandbits(2)
        tail = noise(random.randint(1, 200)) if way == 0 else flipped(packet()[0]) if way < 3 else b""
        got = []
        try:
            for piece in pieces(stream + tail):
                done += len(piece)
                events = decoder.feed(piece)
                for event in events:
                    if event[0] == "publish":
                        wire.receipt(event[2])
                        wire.gateway_time(event[2])
                got += events
                assert len(decoder._buf) <= 4096 + 512 + 210
        except mqtt.MqttError:
            errors += 1
            # what a piece completed before it broke goes with the connection; what came before is there
            assert got == expected[: len(got)] or len(got) > len(expected)
        else:
            assert got[: len(expected)] == expected, (got, expected)
        found += len(got)
    assert errors
    return done, found


def fuzz_datagrams(size):
    """Answers to the kit's own questions over UDP, and the gateway's messages."""
    done = found = 0
    question = dns.query("gateway.example", 77)
    answer = bytes((0, 77, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0)) + question[12:]
    answer += b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"
    assert dns.answer(answer, 77) == ("192.0.2.1", True)
    nonce = b"12345678"
    ntp = b"\x24\x02\x00\x00" + bytes(20) + nonce + bytes(8) + struct.pack(">II", 3900000000, 1 << 31)
    assert sntp.reply(ntp, nonce, 1700000000) == (3900000000 - 2208988800, 500, 2)
    texts = (b'{"v":1,"boot":3148731904,"seq":4211}', b'{"v":1,"t":1795217406,"ms":120,"sync":1}')
    while done < size:
        for data in (flipped(answer), noise(random.getrandbits(7)), flipped(ntp), flipped(random.choice(texts))):
            found += dns.answer(data, 77)[0] is not None
            sntp.reply(data, nonce, 1700000000)
            wire.receipt(data)
            wire.gateway_time(data)
            done += len(data)
    return done, found


def main(part, seed, size):
    random.seed(seed)
    done, found = globals()["fuzz_" + part](size)
    print(json.dumps({"part": part, "bytes": done, "found": found}))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
