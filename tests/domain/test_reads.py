from __future__ import annotations

import pytest

from mlops_local.domain.plan import Part, StepResult
from mlops_local.domain.reads import line, remedy, undeclared


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("data/extra.csv", 'extra = mlops.data("data/extra.csv")'),
        ("data/more-*.parquet", 'more = mlops.data("data/more-*.parquet")'),
        ("2024 sales.jsonl", 'data_2024_sales = mlops.data("2024 sales.jsonl")'),
        ("config/terms.json", 'terms = mlops.data("config/terms.json", kind="files")'),
        ("images", 'images = mlops.data("images/**/*", kind="files")'),
    ],
)
def test_the_line_to_add(path: str, said: str) -> None:
    """It is Python that works as it stands, under a name made of the file's."""
    assert line(path) == said
    compile(said, "line", "exec")


def test_the_way_out_depends_on_where_it_lies() -> None:
    """A declared source is an argument away; what lies outside has to come in first."""
    assert remedy("data/shop.csv", "shop") == "take shop as an argument"
    assert remedy("../x.csv").startswith("link it into the project")


def test_a_variable_of_the_fingerprint_is_no_news() -> None:
    """Only those are said whose changes nobody would notice."""
    result = StepResult(
        "a",
        "f",
        parts=(Part("env", "$SEEN", "x"),),
        report={"undeclared": ["reads x"], "variables": ["SEEN", "HIDDEN"]},
    )
    first, second = undeclared(result)
    assert first == "reads x" and "$HIDDEN" in second and 'os.environ["HIDDEN"]' in second
