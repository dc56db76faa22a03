"""Tables as packed columns: {"t": int[], "z": double[], ...}, little-endian one after another.

JSON would take 7 s for 10^5 spots in Jython.
"""

from jarray import array, zeros
from java.nio import ByteBuffer, ByteOrder

from howdah_fiji.problems import Problem

CODES = {"i": "<i4", "d": "<f8", "f": "<f4", "l": "<i8"}
KINDS = {
    "<i4": ("i", 4),
    "<f8": ("d", 8),
    "<f4": ("f", 4),
    "<i8": ("l", 8),
    "|u1": ("b", 1),
    "|b1": ("b", 1),
    "|i1": ("b", 1),
}


def packed(table):
    """Return (header, bytes) of a table: columns are Java arrays of int, long, float or double, or lists of numbers.

    The header is {"rows": N, "columns": [["t", "<i4"], ...]}; the columns come in the order of their names.
    """
    columns, arrays = [], []
    for name in sorted(table):
        values = table[name]
        if isinstance(values, (list, tuple)):
            whole = all(isinstance(value, int) for value in values)
            values = array(values, "i" if whole else "d")
        code = CODES.get(getattr(values, "typecode", None))
        if code is None:
            raise Problem("Column '%s' of the table holds no numbers." % name)
        columns.append([name, code])
        arrays.append(values)
    lengths = {len(values) for values in arrays}
    if len(lengths) != 1:
        raise Problem("The columns of the table have different lengths: %s." % sorted(lengths))
    rows = lengths.pop()
    data = ByteBuffer.allocate(sum(rows * KINDS[code][1] for name, code in columns)).order(ByteOrder.LITTLE_ENDIAN)
    for (_name, code), values in zip(columns, arrays):
        part = data.slice().order(ByteOrder.LITTLE_ENDIAN)
        _view(part, code).put(values)
        data.position(data.position() + rows * KINDS[code][1])
    return {"rows": rows, "columns": columns}, data.array()


def unpacked(header, data):
    """Return the columns of a packed table as Java arrays; data is a Java byte array."""
    rows, table, at = header["rows"], {}, 0
    expected = sum(rows * KINDS[code][1] for name, code in header["columns"])
    if len(data) != expected:
        raise Problem("The table came with %d of %d bytes." % (len(data), expected))
    for name, code in header["columns"]:
        kind, size = KINDS[code]
        values = zeros(rows, kind)
        part = ByteBuffer.wrap(data, at, rows * size).slice().order(ByteOrder.LITTLE_ENDIAN)
        _view(part, code).get(values)
        table[name] = values
        at += rows * size
    return table


def _view(part, code):
    if code == "<i4":
        return part.asIntBuffer()
    if code == "<i8":
        return part.asLongBuffer()
    if code == "<f4":
        return part.asFloatBuffer()
    return part.asDoubleBuffer() if code == "<f8" else part


def from_results(results, names):
    """Return columns of ij.measure.ResultsTable as Java arrays: {"z": "Z"} gives {"z": double[]}.

    Args:
        results: The table.
        names: The name of a column in the result -> the heading in ImageJ's table.

    Raises:
        Problem: A heading is not there; those that are there are listed.
    """
    table = {}
    for name, heading in names.items():
        if not results.columnExists(heading):
            raise Problem(
                "The table has no column '%s'; it has %s." % (heading, ", ".join(list(results.getHeadings())))
            )
        table[name] = results.getColumnAsDoubles(results.getColumnIndex(heading))
    return table


def points_of(results, headings):
    """Return the points of an ImageJ table for the task link.table: columns t (from 0), z, y, x.

    Args:
        results: The table.
        headings: Of frame, z, y, x; or frame, y, x for a 2D movie. Frames may count from 0 or from 1.
    """
    if len(headings) not in (3, 4):
        raise Problem(
            "Give the headings of frame, z, y, x (or frame, y, x); there are %d: %s."
            % (len(headings), ", ".join(headings))
        )
    names = ("t", "z", "y", "x") if len(headings) == 4 else ("t", "y", "x")
    points = from_results(results, dict(zip(names, headings)))
    points["t"] = array([int(value) for value in points["t"]], "i")
    if "z" not in points:
        points["z"] = zeros(len(points["t"]), "d")
    return points
