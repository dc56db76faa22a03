"""Java object streams, as far as Mastodon's files use them: block data, strings, primitive arrays, enums, references.

A stream starts with AC ED 00 05. Primitives stand in block-data records (77 with a length of one byte, 7A with one of
four); their values run on across the borders of records. Objects stand between the records and number the things that
later ones may refer to ("handles").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError

__all__ = ["JavaEnum", "StreamReader", "StreamWriter", "decode_utf", "encode_utf"]

MAGIC = bytes.fromhex("aced0005")
NULL, REFERENCE, CLASS, STRING, ARRAY, BLOCK, END, BLOCK_LONG, ENUM = (
    0x70,
    0x71,
    0x72,
    0x74,
    0x75,
    0x77,
    0x78,
    0x7A,
    0x7E,
)
FIRST_HANDLE = 0x7E0000
BLOCK_SIZE = 1024
DEEPEST = 16
ENUM_FLAGS, ARRAY_FLAGS = 0x12, 0x02
ARRAY_UIDS = {
    "[Ljava.lang.String;": bytes.fromhex("add256e7e91d7b47"),
    "[I": bytes.fromhex("4dba602676eab2a5"),
    "[B": bytes.fromhex("acf317f8060854e0"),
}


@dataclass(frozen=True)
class JavaEnum:
    """A constant of a Java enum."""

    kind: str
    name: str


@dataclass(frozen=True)
class _Class:
    name: str


def decode_utf(data: bytes) -> str:
    """Decode Java's modified UTF-8: NUL as C0 80, characters beyond the BMP as two surrogates of three bytes.

    Raises:
        FormatError: The bytes are no modified UTF-8.
    """
    try:
        if b"\xc0\x80" not in data and b"\xed" not in data:
            return data.decode("utf-8")
        text = data.replace(b"\xc0\x80", b"\x00").decode("utf-8", "surrogatepass")
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    except UnicodeDecodeError as error:
        raise FormatError(f"A text is no modified UTF-8: {error}.") from None


def encode_utf(text: str) -> bytes:
    """Encode as Java's modified UTF-8, without the length."""
    if text.isascii() and "\x00" not in text:
        return text.encode("ascii")
    units = text.encode("utf-16-le", "surrogatepass")
    encoded = (
        b"".join(
            units[i : i + 2].decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass")
            for i in range(0, len(units), 2)
        )
        if any(ord(character) > 0xFFFF for character in text)
        else text.encode("utf-8", "surrogatepass")
    )
    return encoded.replace(b"\x00", b"\xc0\x80")


class StreamReader:
    """Reads primitives and objects in the order of the stream; every read past the end is a FormatError.

    Args:
        data: The whole stream.
        name: What to call it in errors.
    """

    def __init__(self, data: bytes | memoryview, name: str) -> None:
        self.name = name
        self._data = data
        self._position = 4
        self._handles: list[Any] = []
        self._depth = 0
        if data[:4] != MAGIC:
            raise FormatError(f"Reading {name} failed: it does not start like a Java object stream; it is damaged.")
        self._load_run()

    # ---- primitives --------------------------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """Bytes of primitives left before the next object."""
        return len(self._run) - self._at

    @property
    def at_end(self) -> bool:
        """Whether everything was read."""
        return self.left == 0 and self._position >= len(self._data)

    def take(self, n: int) -> memoryview:
        """Return the next ``n`` bytes of primitives."""
        if n < 0 or n > self.left:
            raise FormatError(
                f"Reading {self.name} failed: {n} bytes were expected and {self.left} are there; it is truncated or damaged."
            )
        self._at += n
        return self._run[self._at - n : self._at]

    def integer(self) -> int:
        """Read an i32."""
        value: int = struct.unpack(">i", self.take(4))[0]
        return value

    def count(self, bytes_each: int) -> int:
        """Read an i32 that counts entries of at least a known size, and check that so many can be there.

        Entries may hold objects, so what counts is all that follows, not only the primitives up to the next object.
        """
        n, follow = self.integer(), self.left + len(self._data) - self._position
        if n < 0 or n * bytes_each > follow:
            raise FormatError(
                f"Reading {self.name} failed: it announces {n} entries, but only {follow} bytes follow; it is truncated or damaged."
            )
        return n

    def text(self) -> str:
        """Read a length of two bytes and a text."""
        length: int = struct.unpack(">H", self.take(2))[0]
        return decode_utf(bytes(self.take(length)))

    def array(self, dtype: npt.DTypeLike, n: int) -> npt.NDArray[Any]:
        """Read ``n`` items; the result is a read-only view of the stream where it can be."""
        kind = np.dtype(dtype)
        return np.frombuffer(self.take(n * kind.itemsize), dtype=kind)

    # ---- objects -----------------------------------------------------------------------------------------------

    def object(self) -> Any:
        """Read the next object: text, bytes (byte[]), int array, list of texts, JavaEnum, or None."""
        if self.left:
            raise FormatError(
                f"Reading {self.name} failed: {self.left} bytes stand where an object was expected; it is damaged."
            )
        value = self._object()
        self._load_run()
        return value

    def _object(self) -> Any:
        self._deeper()
        try:
            return self._object_of(self._byte())
        finally:
            self._depth -= 1

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise FormatError(f"Reading {self.name} failed: objects are nested too deeply; it is damaged.")

    def _object_of(self, mark: int) -> Any:
        if mark == NULL:
            return None
        if mark == REFERENCE:
            return self._referred()
        if mark == STRING:
            return self._new(self._raw_text())
        if mark == ENUM:
            kind, slot = self._class(), self._reserve()
            self._handles[slot] = constant = JavaEnum(kind.name if kind else "", str(self._object()))
            return constant
        if mark == ARRAY:
            return self._array()
        raise FormatError(
            f"Reading {self.name} failed: an object of unknown kind {mark:#x} at byte {self._position - 1}."
        )

    def _array(self) -> Any:
        kind, slot = self._class(), self._reserve()
        n = int(struct.unpack(">i", self._raw(4))[0])
        name = kind.name if kind else ""
        if name == "[B":
            value: Any = self._raw(n)
        elif name == "[I":
            value = np.frombuffer(self._raw(4 * n), dtype=">i4")
        elif name == "[Ljava.lang.String;":
            if n > len(self._data):
                raise FormatError(f"Reading {self.name} failed: a list announces {n} texts; it is damaged.")
            value = [self._object() for _ in range(n)]
        else:
            raise FormatError(f"Reading {self.name} failed: arrays of type '{name}' are not known.")
        self._handles[slot] = value
        return value

    def _class(self) -> _Class | None:
        mark = self._byte()
        if mark == NULL:
            return None
        if mark == REFERENCE:
            referred = self._referred()
            if not isinstance(referred, _Class):
                raise FormatError(f"Reading {self.name} failed: a reference to a class leads elsewhere; it is damaged.")
            return referred
        if mark != CLASS:
            raise FormatError(f"Reading {self.name} failed: no class at byte {self._position - 1}; it is damaged.")
        found = _Class(self._raw_text())
        self._raw(8)
        self._handles.append(found)
        self._raw(1)
        if self._raw(2) != b"\0\0" or self._byte() != END:
            raise FormatError(f"Reading {self.name} failed: class {found.name} has fields, which are not known here.")
        self._deeper()
        self._class()
        self._depth -= 1
        return found

    def _reserve(self) -> int:
        self._handles.append(None)
        return len(self._handles) - 1

    def _new(self, value: Any) -> Any:
        self._handles.append(value)
        return value

    def _referred(self) -> Any:
        handle = int(struct.unpack(">i", self._raw(4))[0]) - FIRST_HANDLE
        if not 0 <= handle < len(self._handles):
            raise FormatError(f"Reading {self.name} failed: a reference leads nowhere; it is damaged.")
        return self._handles[handle]

    # ---- bytes -------------------------------------------------------------------------------------------------

    def _raw(self, n: int) -> bytes:
        if n < 0 or self._position + n > len(self._data):
            raise FormatError(f"Reading {self.name} failed: it ends too early; it is truncated or damaged.")
        self._position += n
        return bytes(self._data[self._position - n : self._position])

    def _byte(self) -> int:
        return self._raw(1)[0]

    def _raw_text(self) -> str:
        return decode_utf(self._raw(int(struct.unpack(">H", self._raw(2))[0])))

    def _load_run(self) -> None:
        """Join the block-data records up to the next object or the end; equal records are stripped all at once."""
        parts: list[npt.NDArray[np.uint8]] = []
        view = memoryview(self._data)
        while self._position < len(self._data):
            mark = self._data[self._position]
            if mark not in (BLOCK, BLOCK_LONG):
                break
            header = 2 if mark == BLOCK else 5
            head = self._raw(header)
            length = head[1] if mark == BLOCK else int(struct.unpack(">i", head[1:])[0])
            self._position -= header
            repeats = self._repeats(head, header + length) if length >= 0 else 0
            if length < 0 or self._position + header + length > len(self._data):
                raise FormatError(
                    f"Reading {self.name} failed: a record of {length} bytes is cut off; it is truncated or damaged."
                )
            stop = self._position + repeats * (header + length)
            block = np.frombuffer(view[self._position : stop], dtype=np.uint8).reshape(repeats, header + length)
            parts.append(block[:, header:])
            self._position = stop
        joined = np.empty(sum(part.size for part in parts), dtype=np.uint8)
        at = 0
        for part in parts:
            joined[at : at + part.size].reshape(part.shape)[...] = part
            at += part.size
        self._run = memoryview(joined.data)
        self._at = 0

    def _repeats(self, head: bytes, size: int) -> int:
        """How many whole records with this very header follow each other from here (at least one)."""
        if size <= 0:
            return 1
        most = (len(self._data) - self._position) // size
        if most <= 1:
            return 1
        records = np.frombuffer(self._data, np.uint8, most * size, self._position).reshape(most, size)
        same = (records[:, : len(head)] == np.frombuffer(head, np.uint8)).all(axis=1)
        return most if same.all() else max(int(np.argmin(same)), 1)


class StreamWriter:
    """Builds a Java object stream: give primitives and objects in order, then take :meth:`getvalue`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = [MAGIC]
        self._pending: list[bytes] = []
        self._handles: dict[Any, int] = {}
        self._n_handles = 0

    def raw(self, data: bytes) -> None:
        """Add primitives that are encoded already."""
        self._pending.append(data)

    def integer(self, value: int) -> None:
        """Add an i32."""
        self._pending.append(struct.pack(">i", value))

    def text(self, text: str) -> None:
        """Add a length of two bytes and a text.

        Raises:
            FormatError: It is longer than 65535 bytes.
        """
        self._pending.append(_sized(text))

    def strings(self, texts: list[str]) -> None:
        """Add a String[]."""
        self._array("[Ljava.lang.String;", len(texts))
        for text in texts:
            self._string(text)

    def integers(self, values: npt.NDArray[Any]) -> None:
        """Add an int[]."""
        self._array("[I", len(values))
        self._parts.append(values.astype(">i4").tobytes())

    def byte_array(self, data: bytes) -> None:
        """Add a byte[]."""
        self._array("[B", len(data))
        self._parts.append(data)

    def enum(self, constant: JavaEnum) -> None:
        """Add a constant of an enum."""
        self._flush()
        if constant in self._handles:
            self._reference(constant)
            return
        self._parts.append(bytes([ENUM]))
        if ("class", constant.kind) in self._handles:
            self._reference(("class", constant.kind))
        else:
            self._class(constant.kind, b"\0" * 8, ENUM_FLAGS, more=True)
            self._class("java.lang.Enum", b"\0" * 8, ENUM_FLAGS)
        self._number(constant)
        self._string(constant.name)

    def getvalue(self) -> bytes:
        """Return the stream."""
        self._flush()
        return b"".join(self._parts)

    def _array(self, kind: str, n: int) -> None:
        self._flush()
        self._parts.append(bytes([ARRAY]))
        if ("class", kind) in self._handles:
            self._reference(("class", kind))
        else:
            self._class(kind, ARRAY_UIDS[kind], ARRAY_FLAGS)
        self._n_handles += 1
        self._parts.append(struct.pack(">i", n))

    def _class(self, kind: str, uid: bytes, flags: int, *, more: bool = False) -> None:
        self._parts.append(bytes([CLASS]) + _sized(kind) + uid + bytes([flags, 0, 0, END]))
        self._number(("class", kind))
        if not more:
            self._parts.append(bytes([NULL]))

    def _string(self, text: str) -> None:
        if ("text", text) in self._handles:
            self._reference(("text", text))
            return
        self._parts.append(bytes([STRING]) + _sized(text))
        self._number(("text", text))

    def _number(self, thing: Any) -> None:
        self._handles[thing] = self._n_handles
        self._n_handles += 1

    def _reference(self, thing: Any) -> None:
        self._parts.append(bytes([REFERENCE]) + struct.pack(">i", FIRST_HANDLE + self._handles[thing]))

    def _flush(self) -> None:
        """Cut the pending primitives into records of 1024 bytes, as Java does."""
        data = b"".join(self._pending)
        self._pending = []
        whole = len(data) // BLOCK_SIZE
        if whole:
            records = np.empty((whole, BLOCK_SIZE + 5), dtype=np.uint8)
            records[:, :5] = np.frombuffer(struct.pack(">Bi", BLOCK_LONG, BLOCK_SIZE), np.uint8)
            records[:, 5:] = np.frombuffer(data, np.uint8, whole * BLOCK_SIZE).reshape(whole, BLOCK_SIZE)
            self._parts.append(records.tobytes())
        rest = data[whole * BLOCK_SIZE :]
        if rest:
            short = len(rest) <= 255
            self._parts.append(
                (struct.pack(">BB", BLOCK, len(rest)) if short else struct.pack(">Bi", BLOCK_LONG, len(rest))) + rest
            )


def _sized(text: str) -> bytes:
    encoded = encode_utf(text)
    if len(encoded) > 65535:
        raise FormatError(
            f"A text of {len(encoded)} bytes is too long for Mastodon's format (65535): '{text[:40]}...'. Shorten it."
        )
    return struct.pack(">H", len(encoded)) + encoded
