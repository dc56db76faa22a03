"""PyImageJ's success path in a real Fiji: offline, headless and with windows; joined; and ended. Needs HOWDAH_FIJI."""

import pytest
from bridge.in_java import names_of, run_checks, run_python
from bridge.test_start import DEAD

pytestmark = pytest.mark.fiji


@pytest.fixture(scope="module")
def headless(real_fiji, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in DEAD.items():
            patch.setenv(name, value)  # no network: a local Fiji needs none
        return run_checks("checks_fiji.py", "fiji", tmp_path_factory.mktemp("home"), fiji=str(real_fiji))


@pytest.mark.parametrize("name", [*names_of("checks_fiji.py"), "the process ends"])
def test_in_fiji(headless, name):
    assert headless.get(name, headless["the process ends"]) == "ok"


@pytest.fixture(scope="module")
def windows(real_fiji, virtual_display, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return run_checks(
        "checks_fiji_windows.py", "fiji", home, before=(virtual_display, "-a"), fiji=str(real_fiji), mode="interactive"
    )


@pytest.mark.parametrize("name", [*names_of("checks_fiji_windows.py"), "the process ends"])
def test_in_fiji_with_windows(windows, name):
    assert windows.get(name, windows["the process ends"]) == "ok"


def test_a_script_joins_the_fiji_that_started_it(real_fiji, tmp_path):
    """What Fiji's launcher does in Python mode: PyImageJ is started by somebody else, and our script runs in that process."""
    code = f"""
import sys, imagej, scyjava
scyjava.config.endpoints.clear()
scyjava.config.set_java_constraints(fetch="auto")
ij = imagej.init({str(real_fiji)!r}, mode="headless")
import howdah.bridge as bridge
found = bridge.join()
assert found.ij.context().equals(ij.context())
assert bridge.join(ij.context()).version == found.version
assert bridge.start().owned is False
assert "/1.54" in found.version
found.close()  # does not end what it did not start
assert found.ij.getVersion()
sys.exit(6)
"""
    done = run_python(["-c", code], tmp_path, **DEAD)
    assert done.returncode == 6, done.stderr[-2000:]
