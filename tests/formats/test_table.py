"""The page of formats says what the contract proves."""

from __future__ import annotations

from formats import table

from bdv_io.formats import FORMATS


def test_the_page_is_up_to_date() -> None:
    assert table.TARGET.read_text(encoding="utf-8") == table.text(), "run: cd tests && python -m formats.table"


def test_every_written_format_has_a_contract() -> None:
    contracts = [
        *table._contracts(table.annotations, table.AnnotationContract),
        *table._contracts(table.images, table.ImageContract),
    ]
    assert {known.key for known in FORMATS if known.write} <= {contract.key for contract in contracts}
