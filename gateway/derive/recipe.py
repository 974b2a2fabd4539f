"""By what the derived records are made: the correction and the index tables, each with its version."""

from pathlib import Path

import msgspec

from calibration.corrections import UnknownCorrectionError, find
from calibration.qc import LABEL as QC_LABEL
from gateway.aqi.scheme import Scheme, SchemeError, UnknownSchemeError, ZoneError
from gateway.derive import chain
from gateway.errors import LichenError
from gateway.settings import Derive


class Recipe(msgspec.Struct, frozen=True):
    """What is configured, found and checked; `label` names all of it, and the rules of quality control."""

    correction: str
    schemes: tuple[Scheme, ...]

    @property
    def label(self) -> str:
        """Names and versions, in order; of schemes also a digest of their numbers."""
        return " ".join((self.correction, QC_LABEL, *(scheme.recipe for scheme in self.schemes)))

    @classmethod
    def of(cls, settings: Derive, schemes_dir: Path | None = None) -> "Recipe":
        """Find what the configuration names; `schemes_dir` is the folder of the operator's own schemes.

        Raises
        ------
        LichenError
            Naming what is unknown and the nearest known name.
        """
        try:
            correction = find(settings.correction)
            if not correction.is_for_kits:
                raise LichenError(
                    f"[derive]: {correction.label} takes {', '.join(correction.inputs)}, not what kits send"
                )
            return cls(correction.label, chain.load_schemes(settings.schemes, schemes_dir, settings.zone))
        except (UnknownCorrectionError, UnknownSchemeError, SchemeError, ZoneError) as error:
            raise LichenError(f"[derive]: {error}") from error
