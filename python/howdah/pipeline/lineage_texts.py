"""What a user types about lineages: a tag, a range of frames, a box."""

from __future__ import annotations

from howdah.errors import ConfigError

__all__ = ["box_of", "range_of", "tag_of"]


def tag_of(text: str) -> tuple[str, str]:
    """Turn ``"SET=TAG"`` into the names of the set and of the tag.

    Raises:
        ConfigError: It names none.
    """
    tag_set, equals, tag = text.partition("=")
    if not equals or not tag_set.strip() or not tag.strip():
        raise ConfigError(f"'{text}' names no tag. Write the tag set and the tag: Detection=unlabeled")
    return tag_set.strip(), tag.strip()


def range_of(text: str | None) -> tuple[int | None, int | None]:
    """Turn ``"10-20"``, ``"10-"``, ``"-20"`` or ``"10"`` into the first and the last frame; None for an open end.

    Raises:
        ConfigError: It is no range.
    """
    if text is None:
        return None, None
    first, dash, last = text.strip().partition("-")
    if any(part.strip() and not part.strip().isdecimal() for part in (first, last)) or not (first + last).strip():
        raise ConfigError(f"'{text}' is no range of frames. Write for example 10-20, 10- or -20 (frames count from 0).")
    low = int(first) if first.strip() else None
    return low, int(last) if last.strip() else (None if dash else low)


def box_of(text: str | None) -> tuple[list[float], list[float]] | None:
    """Turn ``"z,y,x:z,y,x"`` into the lowest and the highest corner (z, y, x) in world units.

    Raises:
        ConfigError: It is no box.
    """
    if text is None:
        return None
    try:
        low, high = ([float(number) for number in corner.split(",")] for corner in text.split(":"))
        if len(low) != 3 or len(high) != 3:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"'{text}' is no box. Write its lowest and highest corner, z,y,x in world units: 0,10,10:20,90,90"
        ) from None
    return low, high
