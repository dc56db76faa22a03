"""Tags that answer questions about lineages: whose descendant, in a dividing lineage or not, dividing now."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bdv_io.tags import UNTAGGED, Tag, TagSet
from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.lineages.choosing import chosen_tag
from howdah.lineages.colours import distinct_colours
from howdah.lineages.forest import grow
from howdah.lineages.protection import APPROVED, DETECTION, DIVISION, PROGENITOR, PROLIFERATOR, TRACKING, UNLABELLED

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

__all__ = ["approve", "map_tag", "tag_dividing", "tag_progenitors", "tag_proliferators"]

CYAN, MAGENTA, YELLOW, TRANSPARENT = 0xFF00FFFF, 0xFFFF00FF, 0xFFFFFF00, 0x00000000
NO_PROGENITOR = Tag("unlabeled", TRANSPARENT)
INVISIBLE = Tag("Invisible", TRANSPARENT)
PROLIFERATOR_TAGS = (Tag("Proliferator", CYAN), Tag("Non-proliferator", MAGENTA), INVISIBLE)
DIVISION_TAGS = (Tag("Dividing", CYAN), Tag("Divided", YELLOW), Tag("Non-dividing", MAGENTA), INVISIBLE)


def tag_progenitors(
    tracks: Tracks,
    *,
    spots: Sequence[int] | npt.NDArray[np.intp] | None = None,
    frame: int | None = None,
    tag_set: str = PROGENITOR,
) -> Tracks:
    """Give each progenitor a tag and a colour of its own, which all its descendants and their links inherit.

    Args:
        tracks: The annotation.
        spots: Rows of the progenitors, tagged 1, 2, ... in this order; of one inside the lineage of another, the
            descendants are its own. None: all roots of ``frame``, by row.
        frame: Where progenitors are looked for if ``spots`` is None; None is the first frame that has spots. Roots are spots
            without a parent.
        tag_set: Name of the tag set; all others are tagged "unlabeled" there (transparent).

    Raises:
        DataError: There is no progenitor, or the tag set has tags that this function did not make.
    """
    forest = grow(tracks)
    chosen = forest.roots_of(frame) if spots is None else np.asarray(spots, dtype=np.int64)
    if not len(chosen):
        first = f"; the first spots are at frame {tracks.t.min()}" if tracks.n_spots else ""
        raise DataError(
            f"Tagging progenitors failed: no track begins at frame {frame or 0}{first}. Choose another frame, or spots."
        )
    number = np.full(tracks.n_spots + 1, len(chosen), dtype=np.int32)  # the last row is for spots without progenitor
    number[chosen] = np.arange(len(chosen))
    column = number[forest.founder(chosen)]
    tags = [Tag(str(i + 1), colour) for i, colour in enumerate(distinct_colours(len(chosen)))]
    return _computed(tracks, tag_set, (*tags, NO_PROGENITOR), column)


def tag_proliferators(
    tracks: Tracks, *, first: int = 0, last: int | None = None, tag_set: str = PROLIFERATOR
) -> Tracks:
    """Tag lineages by whether they divide in a range of frames (paper: Analysis of CE and PH datasets).

    "Proliferator": at least one mother in these frames. "Non-proliferator": none, and the whole lineage is known over the range:
    it begins at ``first`` or before, and no branch ends before ``last``. "Invisible": undetermined.

    Args:
        tracks: The annotation.
        first: First frame of the range.
        last: Last frame of it; None for the last one that has spots.
        tag_set: Name of the tag set; spots and links of a lineage are tagged alike.

    Raises:
        DataError: The range runs backward, or the tag set has tags that this function did not make.
    """
    end = tracks.n_frames - 1 if last is None else last
    if not 0 <= first <= max(end, 0):
        raise DataError(f"Tagging proliferators failed: frames {first} to {end} are no range that runs forward.")
    forest = grow(tracks)
    divides = np.zeros(tracks.n_spots, dtype=bool)
    divides[forest.root[forest.divides & (tracks.t >= first) & (tracks.t <= end)]] = True
    unknown = forest.is_root & (tracks.t > first)
    unknown[forest.root[forest.is_leaf & (tracks.t < end)]] = True
    of_root = np.where(divides, 0, np.where(unknown, 2, 1)).astype(np.int32)
    return _computed(tracks, tag_set, PROLIFERATOR_TAGS, of_root[forest.root])


def tag_dividing(tracks: Tracks, *, around: int = 0, tag_set: str = DIVISION) -> Tracks:
    """Tag mothers "Dividing", their daughters "Divided", other spots "Non-dividing".

    The last spot of a branch is "Invisible" (undetermined): whether the cell divided next is not known. A spot that is
    a daughter and a mother is Dividing.

    Args:
        tracks: The annotation.
        around: So many more frames before and after each division are tagged with it.
        tag_set: Name of the tag set; a link is tagged as the spot that it leads to.

    Raises:
        DataError: ``around`` is negative, or the tag set has tags that this function did not make.
    """
    if around < 0:
        raise DataError(f"Tagging dividing cells failed: {around} frames around a division; expected 0 or more.")
    forest = grow(tracks)
    before = forest.divides[forest.cell_end] & (tracks.t[forest.cell_end] - tracks.t <= around)
    after = ~forest.is_root[forest.cell] & (tracks.t - tracks.t[forest.cell] <= around)
    column = np.select([before, after, forest.is_leaf], [0, 1, 3], default=2).astype(np.int32)
    return _computed(tracks, tag_set, DIVISION_TAGS, column)


def map_tag(
    tracks: Tracks, source: tuple[str, str], target: tuple[str, str], *, links: bool = False
) -> tuple[Tracks, int]:
    """Give every spot (or link) that has one tag another one, too; a tag that it has in the target's set is replaced.

    Args:
        tracks: The annotation.
        source: Tag set and tag that are looked for. They must be there.
        target: Tag set and tag that are given; made if they are not there.
        links: Links instead of spots.

    Returns:
        The annotation, and how many objects got the tag.

    Raises:
        DataError: There is no such set or tag; the sentence lists what there is.
    """
    chosen_tag(tracks, *source)
    rows = np.flatnonzero(tracks.tagged(*source, links=links))
    known = tracks.tag_set(target[0])
    known_at = UNTAGGED if known is None else known.position(target[1])
    count = len(known.tags) if known is not None else 0
    tag = (
        known.tags[known_at] if known is not None and known_at >= 0 else Tag(target[1], distinct_colours(count + 1)[-1])
    )
    kind = {"links": rows} if links else {"spots": rows}
    return tracks.with_tag(target[0], tag, **kind), len(rows)


def approve(
    tracks: Tracks, rows: Sequence[int] | npt.NDArray[np.intp], *, whole: bool = True, as_marks: bool = False
) -> tuple[Tracks, int, int]:
    """Approve lineages: spots and links get Tracking = Approved, so that programs keep them.

    Args:
        tracks: The annotation.
        rows: A spot of each lineage.
        whole: The whole tree that a spot is in; False: the spot and its descendants.
        as_marks: Also turn Detection = unlabeled of these spots into "tp", so that a detector learns from them.

    Returns:
        The annotation, and how many spots and links are approved now that were not before.
    """
    forest = grow(tracks)
    chosen = np.asarray(rows, dtype=np.intp)
    founder = forest.founder(forest.root[chosen] if whole else chosen)
    spots = founder >= 0
    links = spots[tracks.links].all(axis=1)
    new_spots = int((spots & ~tracks.tagged(TRACKING, APPROVED.name)).sum())
    new_links = int((links & ~tracks.tagged(TRACKING, APPROVED.name, links=True)).sum())
    done = tracks.with_tag_set(TRACKING, (APPROVED, UNLABELLED)).with_tag(TRACKING, APPROVED, spots=spots, links=links)
    if as_marks:
        done = done.with_tag(DETECTION, Tag("tp", CYAN), spots=spots & tracks.tagged(DETECTION, UNLABELLED.name))
    return done, new_spots, new_links


def _computed(tracks: Tracks, name: str, tags: tuple[Tag, ...], spots: I32) -> Tracks:
    """Put a set of tags that were worked out in the place of an older one of its kind; a link is tagged as its target is."""
    old = tracks.tag_set(name)
    if old is not None:
        own = {tag.name for tag in tags}
        numbered = NO_PROGENITOR in tags
        foreign = [t.name for t in old.tags if t.name not in own and not (numbered and t.name.isdecimal())]
        if foreign:
            raise DataError(
                f"Tagging failed: the tag set '{name}' exists and has other tags ({', '.join(foreign[:5])}), which a person may "
                "have given. Choose another name for the tag set, or rename that one."
            )
    made = TagSet(name, tags, spots, spots[tracks.links[:, 1]])
    return tracks.with_tags(made)
