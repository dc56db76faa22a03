"""What is tried inside one real Fiji with windows, under a virtual display; run by test_real_fiji.py through bridge/in_java.py."""

import time
from pathlib import Path

from howdah.bridge.java_classes import java_class

HEADINGS = "frame,y,x\n0,10,10\n0,50,50\n1,11,10\n1,50,52\n2,12,11\n2,51,53\n"


def scripts_of(fiji):
    """File -> its label in the menu, as the script's first line says."""
    folder = fiji.folder / "scripts" / "Plugins" / "Howdah"
    return {path: path.read_text().split('label="', 1)[1].split('"', 1)[0] for path in sorted(folder.rglob("*.py"))}


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.1)
    return None


def dialog_called(title):
    """The dialog of this title that is open, or None."""
    for window in java_class("java.awt.Window").getWindows():
        if (
            window.isShowing()
            and isinstance(window, java_class("javax.swing.JDialog"))
            and str(window.getTitle()) == title
        ):
            return window
    return None


def texts_of(container):
    """All labels and buttons in a window."""
    found = []
    for part in container.getComponents():
        if isinstance(part, java_class("javax.swing.JLabel") | java_class("javax.swing.AbstractButton")):
            found.append(str(part.getText()))
        elif isinstance(part, java_class("java.awt.Container")):
            found += texts_of(part)
    return found


def check_the_window_is_there(fiji):
    fiji.ij.ui().showUI()
    assert wait_for(lambda: java_class("ij.IJ").getInstance() is not None)


def check_every_script_is_in_the_window(fiji):
    expected = {
        label: f"script:{path.relative_to(fiji.folder / 'scripts').as_posix()}"
        for path, label in scripts_of(fiji).items()
    }

    def missing():
        commands = java_class("ij.Menus").getCommands()
        return {label: place for label, place in expected.items() if str(commands.get(label)) != place}

    wait_for(lambda: not missing())
    assert not missing(), missing()


def check_every_dialog_opens(fiji):
    wrong = {}
    for path, label in scripts_of(fiji).items():
        lines = [line for line in path.read_text().splitlines() if line.startswith("#@ ") and "MESSAGE" not in line]
        fields = [line.split('label="', 1)[1].split('"', 1)[0] for line in lines]
        java_class("ij.Executer")(label, None)
        dialog = wait_for(lambda label=label: dialog_called(label), 10)
        if dialog is None:
            wrong[label] = "no dialog"
            continue
        missing = [field for field in fields if field not in texts_of(dialog)]
        if missing:
            wrong[label] = missing
        dialog.dispose()
    assert not wrong, wrong


def check_a_macro_runs_a_script(fiji, folder=Path()):
    table, out = folder / "points.csv", folder / "links.csv"
    table.write_text(HEADINGS)
    options = f"table=[{table}] columns=[frame, y, x] out=[{out}] settings=[] result=[{folder / 'macro.json'}]"
    java_class("ij.IJ").runMacro(f'run("Link points of a table", "{options}");')
    assert wait_for(out.is_file, 60)
    assert len(out.read_text().splitlines()) == 5


def check_a_result_opens_in_mastodon(fiji, folder=Path()):
    """Plugins > Howdah > Mastodon > Link spots, and the real Mastodon of this Fiji opens what came out, with its movie."""
    from bdv_io.formats import read_tracks
    from howdah.bridge.mastodon import open_project

    out, record = folder / "linked.mastodon", folder / "linked.json"
    given = (
        f"project=[{folder / 'spots.mastodon'}] flow=[] out=[{out}] show=false frames=[] settings=[] result=[{record}]"
    )
    java_class("ij.IJ").runMacro(f'run("Link spots", "{given}");')
    assert wait_for(record.is_file, 90)
    assert out.is_file(), record.read_text()
    with open_project(fiji, out, windows=False) as live:
        seen = live.read()
        assert live.image == folder / "movie.xml", live.image
    written = read_tracks(out)
    assert (seen.n_spots, seen.n_links) == (written.n_spots, written.n_links) == (15, 13), (seen, written)


def check_the_image_reader_sees_what_python_made(fiji):
    """An array becomes a Dataset, ImageJ's image and a file that SCIFIO opens; nothing is swapped."""
    import numpy as np

    from howdah.bridge import images

    array = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.uint16).reshape(2, 3, 4, 5, 6)
    image = images.to_imageplus(array, voxel_size=(2.0, 0.5, 0.25), unit="micron")
    dataset = fiji.ij.convert().convert(image, java_class("net.imagej.Dataset"))
    assert [int(dataset.dimension(d)) for d in range(dataset.numDimensions())] == [6, 5, 3, 4, 2]
    assert [str(dataset.axis(d).type()) for d in range(5)] == ["X", "Y", "Channel", "Z", "Time"]
