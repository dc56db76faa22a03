"""The XML of BigDataViewer datasets: what it may hold, and what is said when it is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io._axes import affine_from_xyz
from bdv_io.bdv.xml import (
    FileRef,
    ImageLoader,
    Partition,
    SpimData,
    ViewSetup,
    ViewTransform,
    is_spimdata,
    read_bdv_xml,
)
from bdv_io.bdv.xml_write import bdv_xml_bytes, write_bdv_xml
from bdv_io.errors import FormatError, MissingDataError, UnsupportedError

SETUP = "<ViewSetup><id>0</id></ViewSetup>"
RANGE = '<Timepoints type="range"><first>0</first><last>1</last></Timepoints>'
LOADER = '<ImageLoader format="bdv.hdf5"><hdf5 type="relative">a.h5</hdf5></ImageLoader>'


def xml(
    tmp_path: Path,
    *,
    loader: str = LOADER,
    setups: str = f"<ViewSetups>{SETUP}</ViewSetups>",
    timepoints: str = RANGE,
    missing: str = "",
    registrations: str = "<ViewRegistrations/>",
    head: str = "",
) -> Path:
    path = tmp_path / "a.xml"
    path.write_text(
        f"{head}<SpimData version='0.2'><SequenceDescription>{loader}{setups}{timepoints}{missing}</SequenceDescription>"
        f"{registrations}</SpimData>"
    )
    return path


def timepoints(kind: str, inside: str) -> str:
    return f'<Timepoints type="{kind}">{inside}</Timepoints>'


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (RANGE, (0, 1)),
        (timepoints("range", "<first>17</first><last>19</last>"), (17, 18, 19)),
        (
            timepoints("list", "<Timepoint><id>7</id></Timepoint><Timepoint><id>3</id><name>x</name></Timepoint>"),
            (3, 7),
        ),
        (timepoints("pattern", "<integerpattern>0-10:2, 15</integerpattern>"), (0, 2, 4, 6, 8, 10, 15)),
        (timepoints("pattern", "<integerpattern> 5 , 1 - 3,2</integerpattern>"), (1, 2, 3, 5)),
    ],
)
def test_time_points(tmp_path, written, expected):
    assert read_bdv_xml(xml(tmp_path, timepoints=written)).timepoints == expected


@pytest.mark.parametrize(
    ("written", "match"),
    [
        ("", "no <Timepoints>"),
        (timepoints("pattern", "<integerpattern>1-x</integerpattern>"), "pattern '1-x' was not understood"),
        (timepoints("pattern", "<integerpattern>1-9:0</integerpattern>"), "not understood at '1-9:0'"),
        (timepoints("pattern", ""), "was not understood"),
        (timepoints("range", "<first>0</first>"), "<Timepoints> has no last"),
        (
            timepoints("range", "<first>0</first><last>many</last>"),
            "last of <Timepoints> is 'many', expected a whole number",
        ),
        (timepoints("range", "<first>5</first><last>1</last>"), "declare 0 time points"),
        (timepoints("range", "<first>0</first><last>2000000000</last>"), "declare 2000000001 time points"),
        (timepoints("magic", ""), "the type 'magic', expected range, list or pattern"),
    ],
)
def test_damaged_time_points(tmp_path, written, match):
    with pytest.raises(FormatError, match=match):
        read_bdv_xml(xml(tmp_path, timepoints=written))


def test_optional_parts_may_be_absent(tmp_path):
    spim = read_bdv_xml(xml(tmp_path))
    assert spim.setups == (ViewSetup(0),)
    assert spim.base_path == tmp_path
    assert spim.missing == frozenset()


def test_setups_attributes_and_missing_views(tmp_path):
    setups = """<ViewSetups>
      <ViewSetup><id>5</id><name> GFP &amp; co </name><size>30 20 10</size>
        <voxelSize><unit>µm</unit><size>0.1 0.2 0.3</size></voxelSize>
        <attributes><channel>1</channel><angle>90</angle></attributes></ViewSetup>
      <ViewSetup><id>2</id></ViewSetup>
      <Attributes name="channel"><Channel><id>1</id><name>DAPI</name></Channel></Attributes></ViewSetups>"""
    missing = '<MissingViews><MissingView timepoint="1" setup="5"/></MissingViews>'
    spim = read_bdv_xml(xml(tmp_path, setups=setups, missing=missing))
    attributes = {"channel": (1, "DAPI"), "angle": (90, "")}
    assert spim.setups[0] == ViewSetup(5, "GFP & co", (10, 20, 30), (0.3, 0.2, 0.1), "µm", attributes)
    assert spim.setups[1].id == 2
    assert spim.missing == {(1, 5)}


def test_the_last_transform_acts_first(tmp_path):
    shift = "<ViewTransform type='affine'><Name>shift</Name><affine>1 0 0 10 0 1 0 20 0 0 1 30</affine></ViewTransform>"
    scale = "<ViewTransform type='affine'><affine>2 0 0 0 0 3 0 0 0 0 4 0</affine></ViewTransform>"
    registrations = f"<ViewRegistrations><ViewRegistration timepoint='0' setup='0'>{shift}{scale}</ViewRegistration></ViewRegistrations>"
    spim = read_bdv_xml(xml(tmp_path, registrations=registrations))
    assert [link.name for link in spim.registrations[0, 0]] == ["shift", ""]
    # The voxel is scaled first, then shifted by the full 10, 20, 30.
    np.testing.assert_array_equal(spim.model(0, 0) @ [1, 1, 1, 1], [34, 23, 12, 1])
    with pytest.raises(MissingDataError, match=r"time point 1, setup 0.*no entry for this view"):
        spim.model(1, 0)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not well-formed XML"),
        (b"II*\x00 a tiff", "not well-formed XML"),
        (b"<SpimData><SequenceDescription>", "not well-formed XML"),
        (b"<TrackMate version='8'/>", "its root is <TrackMate>, expected <SpimData>"),
        (b"<SpimData/>", "no <SequenceDescription>, which is required"),
        (b"<SpimData><SequenceDescription/></SpimData>", "no <ViewRegistrations>, which is required"),
        (b"<SpimData><SequenceDescription/><ViewRegistrations/></SpimData>", "no <ImageLoader>"),
    ],
)
def test_damaged_files(tmp_path, content, match):
    path = tmp_path / "bad.xml"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=match):
        read_bdv_xml(path)


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"setups": "<ViewSetups/>"}, "no <ViewSetup>"),
        ({"setups": f"<ViewSetups>{SETUP}{SETUP}</ViewSetups>"}, "the same id"),
        ({"setups": "<ViewSetups><ViewSetup/></ViewSetups>"}, "<ViewSetup> has no id"),
        (
            {"setups": "<ViewSetups><ViewSetup><id>0</id><size>1 2</size></ViewSetup></ViewSetups>"},
            "size.*'1 2', expected 3 numbers",
        ),
        ({"loader": "<ImageLoader><hdf5/></ImageLoader>"}, "<hdf5> names no file"),
        (
            {"registrations": "<ViewRegistrations><ViewRegistration timepoint='0'/></ViewRegistrations>"},
            "<ViewRegistration> has no setup",
        ),
        (
            {
                "registrations": "<ViewRegistrations><ViewRegistration timepoint='0' setup='0'><ViewTransform type='affine'>"
                "<affine>1 0 0 nan</affine></ViewTransform></ViewRegistration></ViewRegistrations>"
            },
            "affine of <ViewTransform> is '1 0 0 nan', expected 12 numbers",
        ),
    ],
)
def test_damaged_parts(tmp_path, parts, match):
    with pytest.raises(FormatError, match=match):
        read_bdv_xml(xml(tmp_path, **parts))


def test_document_types_are_refused_and_entities_stay_unread(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    head = f'<!DOCTYPE SpimData [<!ENTITY leak SYSTEM "{secret.as_uri()}">]>'
    setups = "<ViewSetups><ViewSetup><id>0</id><name>&leak;</name></ViewSetup></ViewSetups>"
    with pytest.raises(FormatError, match="declares a document type"):
        read_bdv_xml(xml(tmp_path, head=head, setups=setups))


def test_missing_xml(tmp_path):
    with pytest.raises(MissingDataError, match="there is no such file"):
        read_bdv_xml(tmp_path / "no.xml")
    with pytest.raises(FormatError, match="it is a folder"):
        read_bdv_xml(tmp_path)
    assert not is_spimdata(tmp_path / "no.xml")


@pytest.mark.parametrize("written", ["sub/a.h5", "sub\\a.h5", ".\\sub\\..\\sub\\a.h5"])
def test_relative_paths_of_windows_are_understood(tmp_path, written):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.h5").touch()
    spim = read_bdv_xml(xml(tmp_path))
    assert spim.find(FileRef(written)) == tmp_path / "sub" / "a.h5"


@pytest.mark.parametrize("written", ["/elsewhere/a.h5", "C:\\Users\\me\\a.h5", "\\\\server\\share\\a.h5"])
def test_a_moved_dataset_is_found_beside_its_xml(tmp_path, written):
    (tmp_path / "a.h5").touch()
    assert read_bdv_xml(xml(tmp_path)).find(FileRef(written, relative=False)) == tmp_path / "a.h5"


def test_a_missing_file_is_reported_with_every_place(tmp_path):
    spim = read_bdv_xml(xml(tmp_path))
    with pytest.raises(MissingDataError, match=r"names '/elsewhere/b.h5' \(absolute\)") as caught:
        spim.find(FileRef("/elsewhere/b.h5", relative=False))
    assert "'/elsewhere/b.h5' nor at" in str(caught.value)
    assert repr(str(tmp_path / "b.h5")) in str(caught.value)


def test_partitions_and_urls(tmp_path):
    partition = (
        "<partition><path type='relative'>p.h5</path><timepoints>0 1</timepoints><timepointsMapped>4 5</timepointsMapped>"
        "<setups>0</setups></partition>"
    )
    loader = f"<ImageLoader format='bdv.hdf5'><hdf5 type='absolute'>/a.h5</hdf5>{partition}</ImageLoader>"
    spim = read_bdv_xml(xml(tmp_path, loader=loader))
    assert spim.loader.file == FileRef("/a.h5", relative=False)
    assert spim.loader.partitions == (Partition(FileRef("p.h5"), {0: 4, 1: 5}, {0: 0}),)
    url = "<ImageLoader format='bdv.n5.universe'><Url type='relative'>my%20file.h5</Url><Dataset>/x</Dataset></ImageLoader>"
    assert read_bdv_xml(xml(tmp_path, loader=url)).loader == ImageLoader("bdv.n5.universe", FileRef("my file.h5"), "/x")
    with pytest.raises(FormatError, match="differ in length"):
        read_bdv_xml(xml(tmp_path, loader=loader.replace("4 5", "4")))


NAMES = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc", "Cn"]), max_size=8
).map(str.strip)
EDGES = st.floats(1e-3, 1e3)


@st.composite
def datasets(draw):
    ids = draw(st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True))
    times = tuple(sorted(draw(st.sets(st.integers(0, 50), min_size=1, max_size=5))))
    setups = tuple(
        ViewSetup(
            number,
            draw(NAMES),
            draw(st.none() | st.tuples(*[st.integers(1, 9)] * 3)),
            draw(st.tuples(EDGES, EDGES, EDGES)),
            draw(st.sampled_from(["µm", "pixel", "mm"])),
            {"channel": (number, f"c{number}")},
        )
        for number in ids
    )
    numbers = st.lists(st.floats(-1e6, 1e6), min_size=12, max_size=12)
    chain = st.lists(st.builds(ViewTransform, numbers.map(affine_from_xyz), NAMES), max_size=2).map(tuple)
    views = [(time, number) for time in times for number in ids]
    partition = Partition(
        FileRef("p.h5"), {time: i for i, time in enumerate(times)}, {number: number for number in ids}
    )
    return SpimData(
        None,
        Path("/"),
        ImageLoader("bdv.hdf5", FileRef("a.h5"), partitions=draw(st.sampled_from([(), (partition,)]))),
        setups,
        times,
        frozenset(draw(st.sets(st.sampled_from(views)))),
        {view: draw(chain) for view in views},
    )


@given(spim=datasets())
@settings(max_examples=40, deadline=None)
def test_writing_and_reading_gives_the_same(tmp_path_factory, spim):
    path = tmp_path_factory.mktemp("xml") / "a.xml"
    write_bdv_xml(path, spim)
    back = read_bdv_xml(path)
    assert is_spimdata(path)
    assert (back.loader, back.setups, back.timepoints, back.missing) == (
        spim.loader,
        spim.setups,
        spim.timepoints,
        spim.missing,
    )
    assert back.registrations.keys() == spim.registrations.keys()
    for view, chain in spim.registrations.items():
        assert [link.name for link in back.registrations[view]] == [link.name for link in chain]
        np.testing.assert_array_equal(back.model(*view), spim.model(*view))


def test_only_hdf5_loaders_can_be_written(tmp_path):
    spim = SpimData(None, tmp_path, ImageLoader("bdv.n5", FileRef("a.n5")), (ViewSetup(0),), (0,))
    with pytest.raises(UnsupportedError, match=r"image loader is 'bdv.n5'"):
        bdv_xml_bytes(spim)
