"""What counts as the same file."""

from __future__ import annotations

import pytest

from mlops_local.engines.watch.meaning import digest, meaning, problem, whole

CODE = b'"""Doc."""\nA = 1\n\n\ndef f(x):\n    """Doc."""\n    return x + A\n'


@pytest.mark.parametrize(
    "other", [b"A=1\ndef f(x): return (x + A)  # why\n", b"# note\n" + CODE, CODE.replace(b"Doc.", b"Other.")]
)
def test_comments_formatting_and_docstrings_mean_nothing(other: bytes) -> None:
    """Text that no code can depend on is left out."""
    assert meaning("pipeline.py", other) == meaning("pipeline.py", CODE)


@pytest.mark.parametrize("other", [CODE.replace(b"1", b"2"), CODE.replace(b"x + A", b"x"), b"", None])
def test_everything_else_means_something(other: bytes | None) -> None:
    """A value, an expression, an empty and an absent file are other meanings."""
    assert meaning("pipeline.py", other) != meaning("pipeline.py", CODE)


def test_toml_counts_by_value_and_other_files_by_bytes() -> None:
    """Order and comments of mlops.toml mean nothing; a text file read at import is its bytes."""
    assert meaning("mlops.toml", b"[a]\nx = 1 # y\n") == meaning("mlops.toml", b"[a]\nx=1\n")
    assert meaning("words.txt", b"a # b") != meaning("words.txt", b"a")


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("pipeline.py", b"A = 1\nB = = 2\n", "pipeline.py, line 2: invalid syntax"),
        ("mlops.toml", b"[project\n", "mlops.toml: Expected"),
        ("pipeline.py", b"A = '\xff'\n", "pipeline.py"),
    ],
)
def test_what_does_not_parse_says_where(path: str, content: bytes, said: str) -> None:
    """A broken file is its bytes, and the reason is one line."""
    assert not whole(path, content)
    assert said in problem(path, content)
    assert meaning(path, content) != meaning(path, content + b"\n")


def test_a_whole_or_absent_file_has_no_problem() -> None:
    """Nothing is said of what parses, or is gone."""
    assert whole("pipeline.py", CODE) and whole("pipeline.py", None)
    assert problem("pipeline.py", CODE) == "" == problem("pipeline.py", None)
    assert digest(None) == ""
