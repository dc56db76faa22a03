"""A real Mastodon with windows: results go into a real project and back, people work meanwhile, saving fails, nothing is lost."""

import pytest
from bridge.in_java import names_of, run_checks

CHECKS = "checks_mastodon_faults.py"


@pytest.fixture(scope="module")
def in_mastodon(real_fiji, virtual_display, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return run_checks(CHECKS, "fiji", home, before=(virtual_display, "-a"), fiji=str(real_fiji), mode="interactive")


@pytest.mark.fiji
@pytest.mark.parametrize("name", [*names_of(CHECKS), "the process ends"])
def test_in_mastodon(in_mastodon, name):
    assert in_mastodon.get(name, in_mastodon["the process ends"]) == "ok"
