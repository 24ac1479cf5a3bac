"""A setting, in one place: its default, what it may be, its flag, and what it goes with."""

from collections.abc import Iterable
from dataclasses import MISSING, field, fields
from typing import Any

from snnlib.checks import keep_exact, one_of, refuse

MANY = 1_000_000  # steps, or neurons of a layer: above it are years, or sizes that overflow

# A setting, one of its values; what then another must be.
Need = tuple[str, object, str, tuple[object, ...]]


def setting(
    default: Any = MISSING,
    *,
    choices: tuple[str, ...] = (),
    at_most: int | None = None,
    flags: tuple[str, ...] = (),
    help: str = "",
    **bounds: float,
) -> Any:
    """A field of a class of settings.

    Args:
        default: Its value if nobody says otherwise.
        choices: The words that it may be; any text if left out.
        at_most: A ceiling far beyond every use, told only where it is passed.
        flags: How the command line spells it, the posts' spelling first; none without.
        help: What the flag says of itself.
        **bounds: What a number may be, in the words of ``checks``: least, most, above, below.
    """
    told = {"choices": choices, "at_most": at_most, "flags": flags, "help": help, "bounds": bounds}
    return field(default=default, metadata=told)


def keep_settings(config: Any, needs: Iterable[Need] = ()) -> None:
    """Store all settings as Python's own values, and refuse by name what they may not be.

    Raises:
        ValueError: A setting is of another type, out of its range, none of its choices, or
            does not go with another one.
    """
    told = {f.name: f.metadata for f in fields(config) if f.metadata}
    keep_exact(config, {name: facts["bounds"] for name, facts in told.items()})
    for name, facts in told.items():
        given = getattr(config, name)
        numbers = given if isinstance(given, tuple) else (given,)
        if (
            facts["at_most"] is not None
            and max((n or 0 for n in numbers), default=0) > facts["at_most"]
        ):
            refuse(name, f"at most {facts['at_most']}", given)
        if facts["choices"]:
            one_of(name, given, facts["choices"])
    check_needs(config, needs)


def check_needs(config: object, needs: Iterable[Need]) -> None:
    """Refuse settings that do not go together.

    Raises:
        ValueError: The message names both settings, the value and what is allowed.
    """
    for name, value, other, allowed in needs:
        if getattr(config, name) == value and getattr(config, other) not in allowed:
            words = " or ".join(map(repr, allowed))
            raise ValueError(
                f"{other} must be {words} with {name}={value!r}, got {getattr(config, other)!r}"
            )
