"""What is done to training pictures beyond Caffe's crop and mirror; nothing, unless it is asked for.

Ranges are those of the trade: degrees to either side, a range of factors, and for colours how far a
factor may be from 1 (of hue, turns of the colour circle).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from recaffe.errors import ConfigError

# Those that mix a picture's channels.
OF_COLOURS = ("saturation", "hue")

# What each may be, as in the config's schema.
_BOUNDS = {
    "rotate": (0, 180), "scale": (0.1, 10), "brightness": (0, 1), "contrast": (0, 1),
    "saturation": (0, 1), "hue": (0, 0.5), "mixup": (0, 100),
}  # fmt: skip


@dataclass(frozen=True)
class Augment:
    """The settings of the config's `augment`."""

    rotate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    mixup: float = 0.0

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> Augment:
        """From a mapping, of which keys may be missing.

        Raises `ConfigError` for a range of scales that falls.
        """
        given = dict(settings or {})
        if "scale" in given:
            low, high = given["scale"]
            if low > high:
                raise ConfigError(
                    f"augment.scale is [{low:g}, {high:g}]; the first must not be more than the second."
                )
            given["scale"] = (float(low), float(high))
        return cls(**given)

    @classmethod
    def parse(cls, text: str) -> Augment:
        """From `rotate=15,scale=0.8:1.25`; raises `ConfigError` for what the config's schema refuses."""
        given: dict[str, Any] = {}
        names = [f.name for f in fields(cls)]
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            if name not in names:
                raise ConfigError(f"{name!r} is no augmentation; there are {', '.join(names)}.")
            try:
                numbers = [float(n) for n in value.split(":")]
            except ValueError:
                numbers = []
            if len(numbers) != (2 if name == "scale" else 1):
                form = "scale=0.8:1.25" if name == "scale" else f"{name}=0.2"
                raise ConfigError(f"{part!r} is no setting of {name}; write it like {form}.")
            low, high = _BOUNDS[name]
            if not all(low <= n <= high for n in numbers):
                raise ConfigError(f"{part!r}: {name} goes from {low:g} to {high:g}.")
            given[name] = numbers if name == "scale" else numbers[0]
        return cls.of(given)

    @property
    def settings(self) -> dict[str, Any]:
        """Those that do something, as JSON has them."""
        default = Augment()
        return {
            f.name: list(value) if isinstance(value, tuple) else value
            for f in fields(self)
            if (value := getattr(self, f.name)) != getattr(default, f.name)
        }

    def __bool__(self) -> bool:
        """Whether anything is done."""
        return self != Augment()

    @property
    def moves(self) -> bool:
        """Whether pictures are turned or scaled."""
        return bool(self.rotate) or self.scale != (1.0, 1.0)

    @property
    def recolours(self) -> bool:
        """Whether colours are changed."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    @property
    def changes(self) -> bool:
        """Whether pictures are changed one by one."""
        return self.moves or self.recolours

    def __str__(self) -> str:
        """For people: `rotate ±15°, scale 0.8 to 1.25, mixup 0.2`; empty for nothing."""
        words = []
        for name, value in asdict(self).items():
            if name not in self.settings:
                continue
            if name == "rotate":
                words.append(f"rotate ±{value:g}°")
            elif name == "scale":
                words.append(f"scale {value[0]:g} to {value[1]:g}")
            elif name == "mixup":
                words.append(f"mixup {value:g}")
            else:
                words.append(f"{name} ±{value:g}")
        return ", ".join(words)


NOTHING = Augment()


def check_channels(augment: Augment, channels: int, where: str = "augment.") -> None:
    """Raises `ConfigError` for a change of colours on records that have none, and for any of what is no
    picture."""
    if augment.changes and channels not in (1, 3):
        raise ConfigError(
            f"{where.rstrip('.')} is {augment}, but records have {channels} channels: only mixup is for more "
            "than gray and colours. Remove the others."
        )
    for name in OF_COLOURS:
        if getattr(augment, name) and channels != 3:
            raise ConfigError(
                f"{where}{name} is {getattr(augment, name):g}, but records have {channels} channel"
                f"{'s' if channels > 1 else ''}: it wants three. Remove it."
            )
