"""The range of a parameter, as a config can say it."""

import dataclasses

from orbit_snn import bounds
from orbit_snn.updaters import Updater, clamp, normalize

FAMILIES = ("none", "power", "scaled_power", "multiplicative", "scaled_multiplicative", "sharp")


@dataclasses.dataclass(frozen=True)
class Limits:
    """How a parameter is kept in a range.

    Attributes:
      family: of `orbit_snn.bounds`, or none.
      minimum: of the parameter, or null.
      maximum: of the parameter, or null.
      power: of the families that have one.
      hard: cut off what an update takes out of the range.
      total: after every update, the sum of absolute weights onto each neuron; 0 for any.

    Raises:
      ValueError: for an unknown family, a maximum below the minimum, a scaled bound without both,
        a negative power or total.
    """

    family: str = "none"
    minimum: float | None = None
    maximum: float | None = None
    power: float = 1.0
    hard: bool = False
    total: float = 0.0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family is {self.family!r}; expected one of {', '.join(FAMILIES)}.")
        low, high = self.minimum, self.maximum
        if low is not None and high is not None and high < low:
            raise ValueError(f"maximum is {high} and minimum {low}; exchange them.")
        for name in ("power", "total"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more.")
        given = (low, high) != (None, None)
        if given and self.family == "none" and not self.hard:
            raise ValueError(
                f"minimum is {low} and maximum {high}, which do nothing with family=none; give a "
                "family such as multiplicative, or hard=True."
            )
        if self.family.startswith("scaled") and None in (low, high):
            raise ValueError(f"family={self.family} needs minimum and maximum; give both.")

    def put_on(self, updater: Updater, param: str) -> None:
        """Bounds a parameter's updates."""
        if self.family != "none":
            options = {}
            if self.family.endswith("power"):
                options = {"upper_power": self.power, "lower_power": self.power}
            bound = getattr(bounds, f"full_{self.family}")
            accumulator = updater.accumulator(param)
            accumulator.fullbound(bound, self.maximum, self.minimum, **options)
        if self.hard:
            updater.add_post_update(param, clamp(self.minimum, self.maximum))
        if self.total:
            updater.add_post_update(param, normalize(self.total))
