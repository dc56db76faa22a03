"""Requests that a program makes up from the OpenAPI description, right ones and wrong ones, find no fault in the server."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from howdah.service.backend import Backend
from howdah.service.http import create_app
from howdah.service.security import Limits

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis: pip install 'howdah[dev]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # of schemathesis and of the libraries that it drives

TOKEN = "a-token-for-the-tests-0123456789"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


QUICK = settings(
    max_examples=5,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@pytest.fixture(scope="module")
def description(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schema")
    with Backend(folder / "state", roots=[folder], devices=["cpu"], quick=1) as backend:
        app = create_app(backend, token=TOKEN, limits=Limits(wait_s=0.05, silence_s=0.2))
        yield schemathesis.openapi.from_asgi("/api/openapi.json", app, headers=HEADERS)


@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE], ids=str)
def test_no_request_finds_a_fault(description, mode) -> None:
    operations = [found.ok() for found in description.get_all_operations()]
    statuses = set()
    for operation in operations:

        @QUICK
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case) -> None:
            answer = case.call(headers=HEADERS)
            statuses.add(answer.status_code)
            assert answer.status_code < 500, f"{case.method} {case.path}: {answer.text}"
            if answer.status_code >= 400 and case.method != "HEAD":
                assert answer.json()["error"], f"{case.method} {case.path}"

        with contextlib.suppress(Unsatisfiable):  # what takes nothing cannot be asked wrongly
            ask()
    assert len(operations) >= 18
    assert 401 not in statuses
    assert len(statuses) > 3
