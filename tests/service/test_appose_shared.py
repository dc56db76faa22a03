"""Images and tables in blocks of shared memory."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from howdah.errors import ServiceError
from howdah.service import shared
from howdah.service.parameters import Image

needs_files = pytest.mark.skipif(not shared.MEMORY.is_dir(), reason="looks at shared memory where Linux keeps it")


@pytest.fixture
def blocks() -> Iterator[shared.Blocks]:
    made = shared.Blocks()
    yield made
    made.close()


def sent(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message as Fiji sends it: blocks by their names."""
    names = [message["blocks"][key]["shm"]["name"] for key in sorted(message["blocks"], key=int)]
    return {"header": message["header"], "blocks": names}


def there_and_back(image: Image, blocks: shared.Blocks) -> Image:
    return shared.image_of(sent(shared.pack_image(image, blocks)), blocks)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
def test_an_image_comes_back_as_it_went(blocks: shared.Blocks, dtype: str) -> None:
    data = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(dtype)
    back = there_and_back(Image(data, "TZYX", (2.0, 0.5, 0.5), "µm", 1.5), blocks)
    assert back.data.dtype == data.dtype
    np.testing.assert_array_equal(back.data, data)
    assert (back.axes, back.voxel_size, back.unit, back.interval) == ("TZYX", (2.0, 0.5, 0.5), "µm", 1.5)
    del back


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 1], "?", np.array([0, 255], "u1")),
        ([0, 65535], "i8", np.array([0, 65535], "u2")),
        ([0, 70000], "u4", np.array([0, 70000], "f4")),
        ([-1, 5], "i4", np.array([-1, 5], "f4")),
        ([0.5, 2], "f8", np.array([0.5, 2], "f4")),
        ([1, 2], ">u2", np.array([1, 2], "u2")),
    ],
)
def test_a_type_that_imagej_has_not_becomes_one_that_it_has(
    blocks: shared.Blocks, values: list[float], dtype: str, expected: np.ndarray
) -> None:
    back = there_and_back(Image(np.array([values], dtype), "YX"), blocks)
    assert back.data.dtype == expected.dtype
    np.testing.assert_array_equal(back.data, expected[None])


def test_numbers_that_imagej_would_round_are_refused(blocks: shared.Blocks) -> None:
    with pytest.raises(ServiceError, match="shows them exactly up to 16,777,216"):
        shared.pack_image(Image(np.array([[1 << 25]], "i4"), "YX"), blocks)
    with pytest.raises(ServiceError, match="type complex64"):
        shared.pack_image(Image(np.zeros((1, 1), "c8"), "YX"), blocks)
    with pytest.raises(ServiceError, match="holds nothing"):
        shared.pack_image(Image(np.zeros((0, 4), "u1"), "YX"), blocks)


def test_a_large_image_goes_through_several_blocks(blocks: shared.Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "LARGEST_BLOCK", 50)
    data = np.arange(7 * 4 * 5, dtype="u1").reshape(7, 4, 5)  # two planes of 20 bytes a block
    message = shared.pack_image(Image(data, "ZYX"), blocks)
    assert [message["blocks"][key]["shape"] for key in "0123"] == [[2, 4, 5], [2, 4, 5], [2, 4, 5], [1, 4, 5]]
    np.testing.assert_array_equal(shared.image_of(sent(message), blocks).data, data)
    with pytest.raises(ServiceError, match="A plane of 64 bytes cannot be handed over"):
        shared.pack_image(Image(np.zeros((8, 8), "u1"), "YX"), blocks)


def test_a_result_takes_the_place_of_the_image_that_was_sent(blocks: shared.Blocks) -> None:
    data = np.arange(24, dtype="u2").reshape(2, 3, 4)
    first = sent(shared.pack_image(Image(data, "ZYX"), blocks))
    seen = shared.image_of(first, blocks)
    second = shared.pack_image(Image(seen.data[::-1], "ZYX"), blocks, reuse=first["blocks"])  # a view of what it covers
    assert sent(second)["blocks"] == first["blocks"]
    np.testing.assert_array_equal(shared.image_of(sent(second), blocks).data, data[::-1])


def test_blocks_of_another_size_are_refused(blocks: shared.Blocks) -> None:
    message = sent(shared.pack_image(Image(np.zeros((400, 400), "u2"), "YX"), blocks))
    message["header"]["shape"] = [400, 300]
    with pytest.raises(ServiceError, match=r"came with 320,000 bytes.* need 240,000"):
        shared.image_of(message, blocks)
    with pytest.raises(ServiceError, match="no block of shared memory 'other'"):
        shared.image_of({**message, "blocks": ["other"]}, blocks)


columns = st.sampled_from(["?", "i1", "u2", "i4", "u4", "i8", "f4", "f8"])


@given(st.data(), st.integers(0, 5))
def test_a_table_comes_back_in_types_of_java(data: st.DataObject, rows: int) -> None:
    kinds = data.draw(st.lists(columns, min_size=1, max_size=4))
    numbers = st.integers(0, 100)
    table = {
        f"c{i}": data.draw(hnp.arrays(kind, rows, elements=numbers if kind != "?" else None))
        for i, kind in enumerate(kinds)
    }
    made = shared.Blocks()
    try:
        message = shared.pack_table(table, made)
        assert {code for _name, code in message["header"]["columns"]} <= {"<i4", "<i8", "<f4", "<f8"}
        back = shared.table_of(sent(message), made)
        assert list(back) == list(table)
        for name, column in table.items():
            np.testing.assert_array_equal(back[name], column)
    finally:
        made.close()


def test_a_table_of_words_is_refused(blocks: shared.Blocks) -> None:
    with pytest.raises(ServiceError, match="Column 'name' of the result has the type <U1"):
        shared.pack_table({"name": np.array(["a"])}, blocks)
    message = {"header": {"rows": 3, "columns": [["t", "<i4"]]}, "blocks": []}
    with pytest.raises(ServiceError, match="came with 0 bytes; 3 rows of its columns need 12"):
        shared.table_of(message, blocks)


@needs_files
def test_a_freed_block_is_empty_and_gone(blocks: shared.Blocks) -> None:
    name = blocks.make(1 << 16)
    with (shared.MEMORY / name).open("rb") as held:  # as Appose's Java side holds it
        blocks.free([name, "unknown"])
        assert held.seek(0, 2) == 0
    assert not (shared.MEMORY / name).exists()
    with pytest.raises(ServiceError, match="was freed"):
        blocks.bytes_of(name)


@needs_files
def test_a_block_that_an_array_still_sees_is_freed_later(blocks: shared.Blocks) -> None:
    name = blocks.make(1 << 16)
    view = blocks.bytes_of(name)
    blocks.free([name])
    view[:] = 1  # no crash
    assert (shared.MEMORY / name).exists()
    del view
    blocks.free([])
    assert not (shared.MEMORY / name).exists()


def test_too_little_shared_memory_is_said_before_it_is_used(
    blocks: shared.Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shared, "MEMORY", Path("/"))
    monkeypatch.setattr(shared.shutil, "disk_usage", lambda path: usage(64 << 20, 60 << 20, 4 << 20))
    with pytest.raises(ServiceError, match=r"needs 5 MiB of shared memory; / has 4 MiB free.*--shm-size"):
        blocks.make(5 << 20)
    with pytest.raises(ServiceError, match="needs 6 MiB"):
        shared.allocate(blocks, 6, 1 << 20)
    assert len(blocks) == 0
