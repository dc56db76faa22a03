"""The page of settings is made from the settings."""

from __future__ import annotations

import pytest
from methods import settings_page

from howdah.pipeline.sections import SECTIONS


def test_the_page_is_up_to_date():
    assert settings_page.TARGET.read_text(encoding="utf-8") == settings_page.text(), (
        "run: cd tests && python -m methods.settings_page"
    )


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_has_a_sentence(section):
    for name, field in SECTIONS[section].model_fields.items():
        assert field.description, f"[{section}] {name} has no sentence"
        assert field.description.rstrip().endswith((".", ")")), f"[{section}] {name} is no sentence"
