"""QARTOD quality flags and the reasons behind them, shared by the science and the gateway."""

from enum import IntEnum, IntFlag


class Flag(IntEnum):
    """QARTOD quality flags."""

    GOOD = 1
    NOT_EVALUATED = 2
    SUSPECT = 3
    FAIL = 4
    MISSING = 9


class Reason(IntFlag):
    """Why a value is not plainly good; one bit each, stored as their sum."""

    RANGE = 1
    INCOMPLETE = 2
    SINGLE_CHANNEL = 4
    NO_HUMIDITY = 8
    EXTRAPOLATED = 16
    TIME_SHIFTED = 32
    SENSOR_FAULT = 64
    TIME_DOUBTFUL = 128
    WARM_UP = 256
    STUCK = 512
    RATE = 1024
    SPIKE = 2048
    DISAGREE = 4096
    HUMID = 8192
    VOIDED = 16384
    NO_TEMPERATURE = 32768


def reason_names(mask: int) -> str:
    """Names of the reasons in a mask, joined by `|`, in the order of their bits; empty for none."""
    return "|".join(r.name.lower() for r in Reason if mask & r and r.name)
