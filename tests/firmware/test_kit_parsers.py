"""Drivers' parsers and the MQTT decoder, fed whatever a line can give; in CPython, for Hypothesis."""

import random
import struct

from drivers import pms, sht31
from firmware_bench import FIRMWARE
from hypothesis import given
from hypothesis import strategies as st
from lichen import mqtt

REPLY = b"\x42\x4d\x00\x04\xe4\x00\x01\x77"


def frame(values):
    body = b"\x42\x4d\x00\x1c" + struct.pack(">12H", *values) + b"\x97\x00"
    return body + struct.pack(">H", sum(body))


values = st.tuples(*[st.integers(0, 65535)] * 12)


noise = st.binary(max_size=40).filter(lambda b: 0x42 not in b)


@given(st.lists(st.one_of(values, st.just(REPLY), noise)), st.integers(1, 64))
def test_every_frame_is_found_between_garbage_whatever_the_pieces(parts, step):
    stream = b"".join(frame(p) if isinstance(p, tuple) else p for p in parts)
    expected = [p if isinstance(p, tuple) else p[4:6] for p in parts if isinstance(p, tuple) or p == REPLY]
    parser = pms.Parser()
    got = []
    for i in range(0, len(stream), step):
        got += parser.feed(stream[i : i + step])
    assert got == expected


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_and_the_second_frame_after_them_is_found(noise):
    parser = pms.Parser()
    parser.feed(noise)
    marker = tuple(range(100, 112))
    assert marker in parser.feed(frame(marker) * 2)
    assert len(parser._buf) < 32


def test_the_buffer_stays_small_on_endless_headers():
    parser = pms.Parser()
    for _ in range(1000):
        parser.feed(b"\x42\x4d\x00\x1c")
    assert len(parser._buf) < 36


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_climate_is_rounded_half_up_and_a_flipped_bit_is_noticed(t, rh):
    words = [struct.pack(">H", v) for v in (t, rh)]
    buf = b"".join(w + bytes([sht31.crc8(w)]) for w in words)
    temp, humidity = sht31.decode(buf)
    assert abs(temp / 100 - (-45 + 175 * t / 65535)) <= 0.0050001
    assert abs(humidity / 100 - 100 * rh / 65535) <= 0.0050001
    bit = random.randrange(48)
    bad = bytearray(buf)
    bad[bit // 8] ^= 1 << bit % 8
    assert sht31.decode(bytes(bad)) is None


@given(st.lists(st.binary(max_size=30)))
def test_the_decoder_fails_only_by_its_own_errors(pieces):
    decoder = mqtt.Decoder()
    try:
        for piece in pieces:
            decoder.feed(piece)
    except mqtt.MqttError:
        pass
    assert len(decoder._buf) <= 4096 + 5


def test_connect_is_what_the_standard_shows():
    packet = mqtt.connect("k", "u", "p", 60, "t", b"w")
    assert bytes(packet) == b"\x10\x19\x00\x04MQTT\x04\xec\x00\x3c\x00\x01k\x00\x01t\x00\x01w\x00\x01u\x00\x01p"
    assert mqtt.connect("k", None, None, 60, "t", b"w")[9] == 0x2C


def test_no_file_is_too_long_and_each_says_what_it_is():
    for path in FIRMWARE.rglob("*.py"):
        text = path.read_text()
        assert text.startswith(('"""', "# ")), path
        assert len(text.splitlines()) < 300, path
