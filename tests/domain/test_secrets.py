"""What is recorded of a process never holds a secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.domain import secrets


@pytest.mark.parametrize(
    ("argv", "kept"),
    [
        (["train.py", "--api-key", "abc", "--lr", "1"], ["train.py", "--api-key", "***", "--lr", "1"]),
        (["train.py", "--password=hunter2"], ["train.py", "--password=***"]),
        (["env", "HF_TOKEN=abc", "python"], ["env", "HF_TOKEN=***", "python"]),
        (["curl", "https://me:pw@example.org/x"], ["curl", "https://me:***@example.org/x"]),
        (["x", "sk-abcdefghijklmnop1234"], ["x", "***"]),
        (["x", "--token", "--verbose"], ["x", "--token", "--verbose"]),
        (["x", "--monkey", "banana"], ["x", "--monkey", "***"]),
    ],
)
def test_command_line(argv: list[str], kept: list[str]) -> None:
    """Values of secret options are struck out; where a name only looks secret, striking too much is the safe side."""
    assert secrets.command_line(argv) == kept


def test_environment_is_an_allow_list() -> None:
    """Only listed variables are kept, and never one that looks like a secret."""
    variables = {"OMP_NUM_THREADS": "2", "AWS_SECRET_ACCESS_KEY": "x", "HOME": "/h", "MLOPS_TOKEN": "t", "MLOPS_MODE": "off"}
    assert secrets.environment(variables) == {"OMP_NUM_THREADS": "2", "MLOPS_MODE": "off"}


@given(st.text(min_size=1))
def test_secret_parameters_are_struck(value: str) -> None:
    """Whatever the value of a parameter named like a secret, it is not kept."""
    assert secrets.parameters({"db.password": value, "rounds": 3}) == {"db.password": "***", "rounds": 3}


def test_secrets_are_struck_at_any_depth() -> None:
    """In lists and what is nested in them too; how many tokens a model may write is no secret."""
    servers = [{"url": "http://me:pw@host/", "password": "x"}, ("hf_" + "a" * 24, 3)]
    words = ["--api-key", "abc", "--lr", "1"]
    assert secrets.parameters({"servers": servers, "argv": words, "max_tokens": 512, "tokens": "abc", "token": 5}) == {
        "servers": [{"url": "http://me:***@host/", "password": "***"}, ["***", 3]],
        "argv": ["--api-key", "***", "--lr", "1"],
        "max_tokens": 512,
        "tokens": "***",
        "token": "***",
    }
