"""Two cases for the tests of the runner: one that works, one whose larger size gives a wrong result."""

from __future__ import annotations

from pathlib import Path

from benchmarks.suite.case import Work, case


@case(
    "toy: sum",
    group="lineages",
    unit="numbers",
    sizes=(1_000, 10_000, 100_000),
    limit="a range",
    peer="a loop",
    script="toy:sum",
)
def total(n: int, folder: Path) -> Work:
    (folder / "input.txt").write_text(str(n))
    return Work(
        amount=n,
        run=lambda: sum(range(n)),
        limit=lambda: range(n),
        limit_times=2.0,
        outside={"file": str(folder / "input.txt")},
    )


@case("toy: wrong", group="metrics", unit="numbers", sizes=(10, 20, 30), limit="nothing", peer="max")
def wrong(n: int, folder: Path) -> Work:
    return Work(
        amount=n,
        run=lambda: sorted(range(n)),
        limit=lambda: None,
        peer=lambda: max(range(n)),
        wrong=lambda: "" if n < 20 else "too large for this toy",
    )
