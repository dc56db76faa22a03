"""Show tracks in TrackMate, let a person correct them there, and take the corrections back into Python.

    python trackmate_live.py /path/to/Fiji movie.tif tracks.mastodon corrected.xml

`tracks` may be any annotation that Howdah reads (`howdah formats`), in the units of the movie. The result is written
as its name says: .xml for TrackMate (with image, settings and colours), .mastodon, .csv, ... With --no-wait nobody is
asked: the script shows, saves and ends.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from bdv_io.errors import BdvIoError
from bdv_io.formats import read_tracks, write_tracks
from howdah.bridge import start
from howdah.bridge.trackmate_changes import Changes
from howdah.bridge.trackmate_session import show
from howdah.errors import HowdahError


def correct(fiji, movie, tracks, *, wait):
    """Show an annotation, wait for the person, and return the session."""
    session = show(fiji, tracks, movie, track_scheme=True)
    before = session.tracks()
    if wait:
        input("Correct the tracks in TrackMate, then press Enter here: ")
    changes = Changes.between(before, session.tracks())
    print("Changed in TrackMate: " + (", ".join(f"{n} {what}" for what, n in changes.counts.items() if n) or "nothing"))
    return session


def without_short_tracks(tracks, least):
    """Leave out tracks that have fewer spots than that."""
    count, track = tracks.tracks()
    return tracks.select(np.bincount(track, minlength=count)[track] >= least)


def main():
    """Run the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fiji", type=Path, help="folder of a Fiji")
    parser.add_argument("movie", type=Path, help="a TIFF that ImageJ opens")
    parser.add_argument("tracks", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--least", type=int, default=1, help="leave out tracks with fewer spots, in the open window")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for a person")
    given = parser.parse_args()
    try:
        tracks = read_tracks(given.tracks)
        with start(given.fiji, mode="interactive") as fiji:
            session = correct(fiji, given.movie, tracks, wait=not given.no_wait)
            if given.least > 1:
                session.apply(without_short_tracks(session.tracks(), given.least))  # the windows follow
            if given.out.suffix.lower() == ".xml":
                session.save(given.out)
            else:
                write_tracks(given.out, session.tracks())
            print(f"Saved {session.tracks().n_spots} spots as {given.out}.")
    except (HowdahError, BdvIoError) as error:
        print(f"trackmate_live: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
