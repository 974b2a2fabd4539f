"""By what the derived records are made: the correction and the index tables, each with its version."""

from dataclasses import dataclass

from calibration.corrections import UnknownCorrectionError, find
from gateway.aqi.scheme import Scheme, SchemeError, UnknownSchemeError
from gateway.derive import chain
from gateway.errors import LichenError
from gateway.settings import Derive


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is configured, found and checked; `label` names all of it with its versions."""

    correction: str
    schemes: tuple[Scheme, ...]

    @property
    def label(self) -> str:
        """Names and versions, in order."""
        return " ".join((self.correction, *(scheme.label for scheme in self.schemes)))

    @classmethod
    def of(cls, settings: Derive) -> "Recipe":
        """Find what the configuration names.

        Raises
        ------
        LichenError
            Naming what is unknown and the nearest known name.
        """
        try:
            return cls(find(settings.correction).label, chain.load_schemes(settings.schemes))
        except (UnknownCorrectionError, UnknownSchemeError, SchemeError) as error:
            raise LichenError(f"[derive]: {error}") from error
