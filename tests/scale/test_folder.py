import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.errors import ScaleError
from howdah.scale.folder import (
    DamagedBlock,
    block_path,
    contents,
    hold,
    read_result,
    work_folder,
    write_result,
)
from howdah.scale.plan import Result

KEY = "tiles/t0001/b02"


@pytest.fixture
def written(tmp_path):
    write_result(tmp_path, KEY, Result({"a": np.arange(50.0)}, {"n": 3}), run="r")
    return tmp_path


def test_a_result_comes_back_as_it_was(written):
    result = read_result(written, KEY, run="r")
    assert result.arrays["a"].tolist() == np.arange(50.0).tolist()
    assert result.facts == {"n": 3}


def test_the_file_is_whole_and_alone(written):
    assert [path.name for path in block_path(written, KEY).parent.iterdir()] == ["b02.block"]


def test_a_missing_file_is_damage(tmp_path):
    with pytest.raises(DamagedBlock, match="is missing"):
        read_result(tmp_path, KEY, run="r")


@pytest.mark.parametrize("cut", [0, 5, 31, 40, -1])
def test_a_cut_file_is_damage(written, cut):
    path = block_path(written, KEY)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DamagedBlock, match=r"does not begin|bytes, expected"):
        read_result(written, KEY, run="r")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_changed_byte_is_damage(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("f")
    write_result(folder, KEY, Result({"a": np.arange(9)}, {"n": 3}), run="r")
    path = block_path(folder, KEY)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    with pytest.raises(DamagedBlock, match="cannot be used") as raised:
        read_result(folder, KEY, run="r")
    assert raised.value.key == KEY


def test_a_file_of_another_run_or_place_is_damage(written):
    with pytest.raises(DamagedBlock, match="of another run"):
        read_result(written, KEY, run="other")
    block_path(written, KEY).rename(block_path(written, "tiles/t0001/b03"))
    with pytest.raises(DamagedBlock, match="of another run"):
        read_result(written, "tiles/t0001/b03", run="r")


def test_a_checksum_of_other_content_is_damage(written):
    before = write_result(written, KEY, Result({}, {"n": 4}), run="r").checksum
    write_result(written, KEY, Result({}, {"n": 5}), run="r")
    with pytest.raises(DamagedBlock, match="checksum"):
        read_result(written, KEY, before, run="r")


@pytest.mark.parametrize("key", ["", "/etc/x", "../x", "a/../b", "a//b", "a/", ".hidden", "a b", "a\n"])
def test_a_key_that_is_no_path_is_refused(tmp_path, key):
    with pytest.raises(ScaleError, match="cannot be a file"):
        block_path(tmp_path, key)


def test_contents_lists_blocks_and_removes_what_killed_writers_left(written):
    left = block_path(written, KEY).with_name(".b03.block.1234.part")
    left.write_bytes(b"half")
    write_result(written, "frames/t0001", Result(), run="r")
    assert contents(written, {"tiles", "frames"}) == {KEY, "frames/t0001"}
    assert not left.exists()


def test_a_killed_writer_leaves_whole_files_or_temporary_ones(tmp_path):
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from howdah.scale.folder import write_result; from howdah.scale.plan import Result\n"
        "for n in range(10**6): write_result(Path(sys.argv[1]), f'a/{n % 50}', Result({'a': np.full(200_000, n)}), run='r')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment) as process:
        until = time.monotonic() + 20
        while len(list(tmp_path.glob("a/*.block"))) < 20 and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    found = contents(tmp_path, {"a"})
    assert len(found) >= 20
    for key in found:
        values = read_result(tmp_path, key, run="r").arrays["a"]
        assert (values == values[0]).all()


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ScaleError, match=r"Writing the block 'a/b' .* failed: .*start the same command again"):
            write_result(tmp_path, "a/b", Result({"a": np.zeros(1000)}), run="r")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    assert list((tmp_path / "a").iterdir()) == []


def test_only_one_run_holds_a_folder(tmp_path):
    folder = work_folder(tmp_path / "spots.csv")
    assert folder.name == "spots.csv.blocks"
    with hold(folder), pytest.raises(ScaleError, match="another run is working"), hold(folder):
        pass
    with hold(folder):
        pass


def test_a_missing_or_closed_parent_is_a_sentence(tmp_path):
    with pytest.raises(ScaleError, match="there is no folder"), hold(tmp_path / "no" / "x.blocks"):
        pass
    (tmp_path / "x.blocks").write_text("a file")
    with pytest.raises(ScaleError, match="cannot be written to"), hold(tmp_path / "x.blocks"):
        pass


def test_paths_are_under_the_folder():
    assert block_path(Path("w"), "a/b") == Path("w/a/b.block")
