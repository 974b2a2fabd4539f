"""Finding the calibrations of a kit by their names: those that come with Lichen, and those that an operator gave."""

import sqlite3
from collections.abc import Mapping

from calibration import interpolated
from calibration.applied import Calibration
from calibration.assigned import CalibrationError, loads
from calibration.corrections import CORRECTIONS, UnknownCorrectionError, find
from gateway.errors import LichenError
from gateway.store import calibrations


def find_calibration(db: sqlite3.Connection, name: str, kit: str) -> Calibration:
    """Return a correction of the program, or a calibration of the store for a kit.

    Raises
    ------
    LichenError
        Neither has it, with the nearest known name; or a kit cannot have it.
    """
    if name not in CORRECTIONS:
        if (stored := calibrations.find(db, name)) is None:
            known = (*CORRECTIONS, *(one.label for one in calibrations.everything(db)))
            raise LichenError(str(UnknownCorrectionError(name, known)))
        if between := interpolated.loads(stored.record):
            return interpolated.Interpolated(
                between, find_calibration(db, between.before, kit), find_calibration(db, between.after, kit)
            )
        try:
            return loads(stored.record, kit)
        except CalibrationError as error:
            raise LichenError(f"kit {kit} cannot have {name}: {error}") from error
    found = find(name)
    if not found.is_for_kits:
        raise LichenError(f"{found.label} takes {', '.join(found.inputs)} and gives {found.output}: not for kits")
    return found


class Methods:
    """Calibrations of a store by kit and label; a text is read once, since it never changes."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._read: dict[tuple[str, str], Calibration] = {}

    def of(self, kit: str, labels: Mapping[str, str]) -> tuple[Calibration, ...]:
        """Return the calibrations of a kit, by quantity; raises as `find_calibration`."""
        return tuple([self._find(kit, labels[quantity]) for quantity in sorted(labels)])

    def _find(self, kit: str, label: str) -> Calibration:
        found = self._read.get((kit, label))
        if found is None:
            found = self._read[kit, label] = find_calibration(self._db, label, kit)
        return found
