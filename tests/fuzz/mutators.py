"""Damage to files: blind (bytes) and by structure, where a blind change would never get past the container."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from lxml import etree
from mutators_binary import INTEGERS, damage_hdf5, damage_tiff

TEXTS = (
    *(str(n) for n in (*INTEGERS, -(2**31), 2**63, 2**64, 10**30)),
    *(
        "nan",
        "NaN",
        "inf",
        "-inf",
        "1e308",
        "-1e308",
        "1e-320",
        "1e999",
        "0.5",
        "-0",
        "١٢",
        "1_000",
        "0x10",
        "true",
        "1,5",
        "+1",
    ),
    *(
        "",
        " ",
        "a",
        "\0",
        "\ud800",
        "😀",
        "../../../etc/passwd",
        "/etc/passwd",
        "C:\\a",
        "file:///etc/passwd",
        "http://127.0.0.1:9/a",
    ),
    *(".", "..", "/", "a/b", "%s%n", "A" * 300, "1 " * 40, "9" * 400, "9" * 5000, "<", "&", '"', "'", ",", ";", "\n"),
)
DTYPES = (
    "|u1",
    "<u2",
    ">u2",
    "<i8",
    "<f2",
    "<f8",
    "|O",
    "|S5",
    "<U3",
    "|V8",
    "<M8[ns]",
    "<c16",
    "|b1",
    "u3",
    "|S2147483647",
    "",
)
VALUES: tuple[Any, ...] = (
    *(*INTEGERS, -(2**31), 2**64, 10**30, 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), float("-inf")),
    *(
        None,
        True,
        False,
        [],
        {},
        [[]],
        [None],
        [0],
        [-1],
        [[1, 2], [3]],
        [1] * 40,
        {"a": 1},
        {"": None},
        [2**40] * 3,
        [2**40] * 5,
    ),
    *(*TEXTS, *DTYPES),
    *(
        {"id": "zlib", "level": 99},
        {"id": "blosc"},
        {"id": "delta", "dtype": "|O"},
        {"id": "pickle"},
        [{"id": "json2"}],
        {"name": "gzip"},
    ),
)


def damage(folder: Path, rng: Random) -> str:
    """Change one file of a folder, or the folder; returns what was done."""
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 24
    )
    if not files:
        return "nothing is left"
    if len(files) > 1 and rng.random() < 0.15:
        return _folder(folder, files, rng)
    weights = [8 if _is_text(file) else 2 if file.suffix in (".h5", ".tif", ".mastodon") else 1 for file in files]
    file = rng.choices(files, weights)[0]
    data = file.read_bytes()
    if rng.random() < 0.004:
        os.truncate(file, 7 * 10**8)  # a hole: takes no space
        return f"{file.name}: a hole of 700 MB"
    done, new = _content(file.name, data, rng)
    file.write_bytes(new)
    return f"{file.name}: {done}"


def _is_text(file: Path) -> bool:
    return file.suffix in (".xml", ".json", ".csv", ".txt", ".tsv") or file.name in (
        ".zattrs",
        ".zarray",
        ".zgroup",
        ".zmetadata",
    )


def _content(name: str, data: bytes, rng: Random) -> tuple[str, bytes]:
    """Damage by what the content is."""
    kinds = (
        (zipfile.is_zipfile(io.BytesIO(data)) if data[:2] == b"PK" else False, _zip),
        (data[:4] == b"\x89HDF", damage_hdf5),
        (data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), damage_tiff),
        (data[:1] in (b"{", b"["), _json),
        (data.lstrip()[:1] == b"<", _xml),
        (name.endswith((".csv", ".txt", ".tsv")), _table),
    )
    for fits, change in kinds:
        if fits and rng.random() < 0.72:
            try:
                return change(data, rng)
            except (
                ValueError,
                KeyError,
                OSError,
                TypeError,
                RuntimeError,
                etree.LxmlError,
                struct.error,
                zipfile.BadZipFile,
            ):
                break  # too damaged already
    return _bytes(data, rng)


# ---- bytes ----------------------------------------------------------------------------------------------------------------


def _bytes(data: bytes, rng: Random) -> tuple[str, bytes]:
    out = bytearray(data)
    way = rng.randrange(9)
    at = rng.randrange(max(len(out), 1))
    if rng.random() < 0.3:
        at = min(at, rng.randrange(64))  # headers
    if way <= 1:
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            if out:
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        return "bits flipped", bytes(out)
    if way == 2:
        return f"cut off at {at}", bytes(out[:at])
    if way == 3:
        del out[at : at + rng.choice((1, 2, 4, 8, 64, 1024))]
        return f"a block removed at {at}", bytes(out)
    if way == 4:
        out[at:at] = out[at : at + rng.choice((1, 4, 16, 256, 4096))] * rng.choice((1, 2, 50))
        return f"a block doubled at {at}", bytes(out)
    if way <= 7:
        size = rng.choice((1, 2, 4, 8))
        value = rng.choice(INTEGERS) & (1 << 8 * size) - 1
        out[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
        return f"{value} in {size} bytes at {at}", bytes(out)
    filler = bytes([rng.choice((0, 255, 65))])
    return "filled", bytes(out[:at]) + filler * min(len(out) - at, rng.choice((4, 100, 10_000)))


def _table(data: bytes, rng: Random) -> tuple[str, bytes]:
    lines = data.split(b"\n")
    row = rng.randrange(len(lines))
    way = rng.randrange(8)
    if way <= 3:
        words = re.split(rb"([\s,;\t])", lines[row])
        words[rng.randrange(len(words))] = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
        lines[row] = b"".join(words)
        return f"a word of line {row}", b"\n".join(lines)
    if way == 4:
        lines[row : row + 1] = [lines[row]] * rng.choice((0, 2, 300))
    elif way == 5:
        other = rng.randrange(len(lines))
        lines[row], lines[other] = lines[other], lines[row]
    elif way == 6:
        return "another encoding", data.decode("utf-8", "replace").encode(
            rng.choice(("utf-16", "utf-32", "cp037", "utf-8-sig")), "replace"
        )
    else:
        lines[row] = rng.choice((b'"' + lines[row], b"\0" + lines[row], lines[row] + b"," * 5000, b"x" * 200_000))
    return f"line {row}", b"\n".join(lines)


# ---- containers -----------------------------------------------------------------------------------------------------------


def _zip(data: bytes, rng: Random) -> tuple[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    at = rng.randrange(len(entries))
    name, content = entries[at]
    done, way = "", rng.randrange(12)
    if way <= 8:
        done, content = _content(name, content, rng)
        entries[at] = (name, content)
    elif way == 9:
        entries.insert(at, (rng.choice(entries)[0], content))
    elif way == 10:
        entries[at] = (
            rng.choice(("../../evil", "/tmp/evil", "a\\..\\b", "", name.upper(), name + "/", "features/\u00e9.raw")),
            content,
        )
    else:
        entries.pop(at)
    out = io.BytesIO()
    import warnings

    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive,
    ):
        warnings.simplefilter("ignore")
        for entry, content in entries:
            archive.writestr(entry or "x", content)
    return f"entry {name}: {done or way}", out.getvalue()


def _json(data: bytes, rng: Random) -> tuple[str, bytes]:
    tree = json.loads(data)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(value, dict | list):
                walk(value)

    walk(tree)
    if not places or rng.random() < 0.04:
        deep = rng.choice(
            (
                b"[" * 100_000,
                b'{"a":' * 50_000,
                b"null",
                b"[]",
                b"3",
                b'"a"',
                b"",
                b"1" * 5000,
                b'{"zarr_format":2,"shape":' + b"1" * 5000,
            )
        )
        return "another document", deep
    node, key = rng.choice(places)
    way = rng.randrange(10)
    if way <= 5:
        node[key] = rng.choice(VALUES)
    elif way == 6 and isinstance(node[key], list) and node[key]:
        node[key] = rng.choice((node[key][:-1], node[key] * 2, node[key][::-1], node[key] + [rng.choice(VALUES)]))
    elif way == 7:
        del node[key]
    elif way == 8:
        node[key] = rng.choice(([node[key]], {"a": node[key]}, str(node[key])))
    else:
        other, place = rng.choice(places)
        with contextlib.suppress(KeyError, IndexError):
            node[key] = json.loads(json.dumps(other[place]))
    return f"json at {key}", json.dumps(tree).encode("utf-8", "surrogatepass")


def _xml(data: bytes, rng: Random) -> tuple[str, bytes]:
    if rng.random() < 0.1:
        head = rng.choice(
            (
                b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 1000 + b'">]>',
                b'<!DOCTYPE a SYSTEM "file:///etc/passwd">',
                b'<?xml version="1.0" encoding="UTF-32"?>',
                b'<?xml version="1.1" encoding="nonsense"?>',
                b"<!--" + b"-" * 50 + b"-->",
                b"<a>" * 5000,
            )
        )
        return "another head", head + re.sub(rb"^\s*<\?xml.*?\?>", b"", data)
    root = etree.fromstring(data, etree.XMLParser(huge_tree=True, resolve_entities=False))
    nodes = [node for node in root.iter() if isinstance(node.tag, str)]
    node = rng.choice(nodes)
    way = rng.randrange(12)
    with contextlib.suppress(ValueError):  # NUL and surrogates are no XML
        if way <= 4 and node.attrib:
            node.set(rng.choice(list(node.attrib)), rng.choice(TEXTS))
        elif way == 5 and node.attrib:
            del node.attrib[rng.choice(list(node.attrib))]
        elif way <= 7:
            words = (node.text or "").split(" ")
            words[rng.randrange(len(words))] = rng.choice(TEXTS)
            node.text = " ".join(words)
        elif way == 8 and node.getparent() is not None:
            node.getparent().remove(node)
        elif way == 9 and node.getparent() is not None:
            for _ in range(rng.choice((1, 1, 200))):
                node.addnext(etree.fromstring(etree.tostring(node, with_tail=False)))
        elif way == 10:
            other = rng.choice(nodes)
            if node not in (other, *other.iterancestors()):
                other.insert(0, node)
        else:
            node.tag = rng.choice(nodes).tag
    return f"xml at {node.tag}", etree.tostring(root, encoding="utf-8", xml_declaration=True)


# ---- folders --------------------------------------------------------------------------------------------------------------


def _folder(folder: Path, files: list[Path], rng: Random) -> str:
    file, way = rng.choice(files), rng.randrange(9)
    if way == 0:
        file.unlink()
    elif way == 1:
        file.write_bytes(b"")
    elif way == 2:
        file.unlink()
        file.mkdir()
    elif way == 3:
        file.unlink()
        file.symlink_to(rng.choice((file.name, ".", "..", "/nowhere", "/dev/zero", "/")))
    elif way == 4:
        file.unlink()
        os.mkfifo(file)
    elif way == 5:
        shutil.copyfile(rng.choice(files), file) if (other := rng.choice(files)) != file and other.exists() else None
    elif way == 6:
        file.rename(
            file.with_name(
                rng.choice(
                    (
                        "999999999999999999999.tif",
                        "t2147483647.tif",
                        "a\udcff",
                        "-1",
                        "A" * 200,
                        file.name.upper() + "~",
                    )
                )
            )
        )
    elif way == 7 and file.parent != folder:
        shutil.rmtree(file.parent)
    else:
        (file.parent / "loop").symlink_to(".")
    return f"{file.name}: folder, way {way}"
