"""A step that runs once for each file: several at once, each kept by itself."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_local.domain.errors import StepFailed
from mlops_local.domain.progress import Progress
from mlops_local.services import history
from mlops_local.services.project import Project, find
from mlops_local.services.train import train

MEET = """
    import time
    from pathlib import Path
    import mlops_local as mlops

    notes = mlops.data("notes/*.txt", kind="files")

    @mlops.step(each="notes")
    def lengths(notes: Path):
        Path(notes.stem + ".met").touch()
        until = time.monotonic() + 30
        while len(list(Path().glob("*.met"))) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert time.monotonic() < until, "nobody came"
        return len(notes.read_text())
"""

FAILING = """
    from pathlib import Path
    import mlops_local as mlops

    notes = mlops.data("notes/*.txt", kind="files")

    @mlops.step(each="notes", retries=1)
    def lengths(notes: Path):
        print("reading", notes.name)
        if notes.name == "1.txt":
            raise ValueError("cannot be read")
        return len(notes.read_text())
"""

EPOCHS = """
    from pathlib import Path
    import mlops_local as mlops

    notes = mlops.data("notes/*.txt", kind="files")

    @mlops.step(each="notes")
    def rounds(notes: Path):
        went = []
        for epoch in mlops.epochs(3, {}):
            went.append(epoch)
            if epoch == 1 and notes.name == "1.txt" and Path("fail").exists():
                raise ValueError("no luck")
        Path(notes.stem + ".went").write_text(str(went))
        return notes.name
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "mlops.toml").write_text('[project]\nname = "files"\n')
    (tmp_path / "notes").mkdir()
    for number in range(3):
        (tmp_path / "notes" / f"{number}.txt").write_text("n" * number)
    made = find(tmp_path, wait_s=10)
    yield made
    made.store.close()


def test_files_run_at_the_same_time(project: Project) -> None:
    """Two files that wait for each other end with two jobs, and the step's line says how many of its files ran."""
    (project.root / "pipeline.py").write_text(textwrap.dedent(MEET))
    said: list[Progress] = []
    assert train(project, jobs=2, emit=said.append).ran == ("lengths",)
    assert any(event.text.startswith("lengths: done in") and event.text.endswith(", 3 of 3 files") for event in said)
    (project.root / "notes" / "3.txt").write_text("nnn")
    train(project, jobs=2, emit=said.append)
    assert any(event.text.endswith(", 1 of 4 files") for event in said)


def test_a_failed_file_says_what_it_printed_each_time(project: Project) -> None:
    """Its attempts stand in the step's log, one after the other, beside those of the files that went well."""
    (project.root / "pipeline.py").write_text(textwrap.dedent(FAILING))
    with pytest.raises(StepFailed, match=r"step lengths failed \(attempt 2 of 2\): notes/1.txt: .*cannot be read"):
        train(project, jobs=1)
    (log,) = history.logs(project)
    shown = [line for line in log.path.read_text().splitlines() if line.startswith(("-- ", "reading"))]
    assert shown == [
        "-- notes/0.txt",
        "reading 0.txt",
        "-- notes/1.txt (attempt 1)",
        "reading 1.txt",
        "-- notes/1.txt",
        "reading 1.txt",
    ]


def test_a_file_goes_on_from_its_own_states_alone(project: Project) -> None:
    """After an interruption in the second file, that one goes on where it was, and the third begins at the beginning."""
    (project.root / "pipeline.py").write_text(textwrap.dedent(EPOCHS))
    (project.root / "fail").touch()
    with pytest.raises(StepFailed, match="no luck"):
        train(project, jobs=1)
    (project.root / "fail").unlink()
    said: list[Progress] = []
    train(project, jobs=1, resume="", emit=said.append)
    went = {path.stem: path.read_text() for path in project.root.glob("*.went")}
    assert went == {"0": "[0, 1, 2]", "1": "[1, 2]", "2": "[0, 1, 2]"}
    assert [event.text for event in said if "checkpoint" in event.text] == ["rounds: goes on from its checkpoint of epoch 0"]
    assert not list(project.layout.checkpoints.glob("*/*")), "what is done needs no states"


def test_a_file_that_was_asked_to_end_early_is_not_taken_for_whole(project: Project) -> None:
    """`mlops stop --keep` keeps what there is for this run; the next one makes every such file as a whole."""
    (project.root / "pipeline.py").write_text(textwrap.dedent(EPOCHS))
    said: list[Progress] = []

    def stop(event: Progress) -> None:
        said.append(event)
        if event.kind == "run":
            request = project.layout.stop_request(event.data["run"])
            request.parent.mkdir(parents=True, exist_ok=True)
            request.write_text("keep")

    assert train(project, jobs=1, emit=stop).ran == ("rounds",)
    assert any("stopped after 1 of 3 epochs" in event.text for event in said)
    assert train(project, jobs=1).ran == ("rounds",)
    assert {path.read_text() for path in project.root.glob("*.went")} == {"[0, 1, 2]"}
