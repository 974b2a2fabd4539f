"""The node of a Lichen kit: sampler -> ring -> publisher."""

VERSION = "0.1.0"
BUILD = 1767225600  # 2026-01-01: no clock of a kit with this firmware can rightly be earlier
