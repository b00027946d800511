"""mlops.toml is checked whole: every problem, each with its place."""

import pytest

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.project import Gate, parse


def test_a_full_file() -> None:
    """Everything the design shows is understood."""
    config = parse(
        {
            "project": {"name": "flight-delays", "targets": ["gbm"]},
            "params": {"gbm": {"num_leaves": 95}},
            "models": {"delay": {"promote": "manual", "max_gap": 0.1, "gates": [{"metric": "auc", "max_drop": 0.005}]}},
            "serve": {"port": 9000},
        }
    )
    assert config.name == "flight-delays"
    assert config.targets == ("gbm",)
    assert config.params["gbm"] == {"num_leaves": 95}
    assert config.models["delay"].gates == (Gate("auc", max_drop=0.005),)
    assert (config.models["delay"].promote, config.models["delay"].max_gap) == ("manual", 0.1)
    assert config.serve.port == 9000


def test_an_empty_file_is_a_project() -> None:
    """A bare mlops.toml works; the name is the folder's."""
    assert parse({}, name="here").name == "here"


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ({"projet": {}}, "projet: unknown key, did you mean 'project'?"),
        ({"data": {"d": {"private": ["email"]}}}, "data.d.private: belongs in the pipeline: mlops.data(…, private=…)"),
        ({"serve": {"prot": 1}}, "serve.prot: unknown key, did you mean 'port'?"),
        ({"serve": {"port": "x"}}, "serve.port: expected a whole number, got 'x'"),
        ({"serve": {"port": 70000}}, "serve.port: 70000 is not a port (0 to 65535)"),
        ({"data": {"a": {"path": "a", "kind": "file"}}}, "data.a.kind: expected one of table, files, got 'file'"),
        ({"data": {"a": {"path": "a", "store": "no"}}}, "data.a.store: expected one of full, reference, got 'no'"),
        ({"data": {"a b": {"path": "a"}}}, "data.a b: a source's name has letters, digits and _"),
        (
            {"data": {"a": {"store": "full"}}},
            "data.a.store: says something of a source with a path; one of the pipeline has it in mlops.data(store=…)",
        ),
        ({"data": {"a": {"path": 1, "kind": "files"}}}, "data.a.path: expected text, got 1"),
        *(
            (
                {"data": {"a": {"path": path}}},
                f"data.a.path: {path!r} is not a pattern inside the project's folder; "
                "a link in the project may point elsewhere",
            )
            for path in ("", "/tmp/a.csv", "b/../../a.csv")
        ),
        ({"hook": {"timeout": 0}}, "hook.timeout: 0 is not a number of seconds above 0"),
        ({"serve": {"port": True}}, "serve.port: expected a whole number, got True"),
        ({"models": {"m": {"gates": [{"max_drop": 1}]}}}, "models.m.gates[0]: missing key 'metric'"),
        ({"models": {"m": {"gates": [{"metric": "auc"}]}}}, "models.m.gates[0]: give max_drop, min or max"),
        (
            {"models": {"m": {"gates": [{"metric": "auc", "min": float("nan")}]}}},
            "models.m.gates[0].min: nan is no limit: nothing can fail it",
        ),
        ({"models": {"m": {"promote": "yes"}}}, "models.m.promote: expected one of auto, manual, got 'yes'"),
        ({"models": {"m": {"max_gap": -1}}}, "models.m.max_gap: expected a distance of 0 or more, got -1"),
        ({"models": {"m": {"max_gap": "wide"}}}, "models.m.max_gap: expected a number, got 'wide'"),
        ({"params": {"gbm": 3}}, "params.gbm: expected a table of parameters, as in [params.gbm]"),
        ({"models": {"m": 1}}, "models.m: expected a table, as in [models.m]"),
    ],
)
def test_bad_keys(mapping: dict[str, object], problem: str) -> None:
    """A wrong key or value is named with its place and, where there is one, the near name."""
    with pytest.raises(ConfigError) as caught:
        parse(mapping)
    assert problem in caught.value.problems


def test_every_problem_is_collected() -> None:
    """The user mends a file once, not once a problem."""
    with pytest.raises(ConfigError) as caught:
        parse({"serve": {"prot": 1}, "hook": {"untraind": "x"}, "project": {"name": 3}})
    assert len(caught.value.problems) == 3
