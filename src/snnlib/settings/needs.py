"""Which settings go together: where one has a value, another must have one of a few."""

from collections.abc import Iterable

# A setting, one of its values; what then another must be.
Need = tuple[str, object, str, tuple[object, ...]]


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
