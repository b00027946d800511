"""What a run prints, as it comes."""

import threading
from pathlib import Path

from mlops_local.domain.progress import Progress
from mlops_local.services import printed
from mlops_local.services.project import find
from mlops_local.services.train import train

PIPELINE = """
import os, sys, time
import mlops_local as mlops

@mlops.step
def talks():
    print("first", flush=True)
    while not os.path.exists("heard"):
        time.sleep(0.01)
    os.write(1, b"\\xff last")
"""


def test_lines_come_while_the_step_runs_and_end_with_it(tmp_path: Path) -> None:
    """A line is there before the step ends; the last one, of bytes that are no UTF-8 and without a break, ends it."""
    (tmp_path / "mlops.toml").write_text('[project]\nname = "talk"\n')
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    begun = threading.Event()
    errors: list[BaseException] = []

    def hear(event: Progress) -> None:
        if event.kind == "step_started":
            begun.set()

    def run() -> None:
        project = find(tmp_path)
        try:
            train(project, emit=hear)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)
        project.store.close()

    trainer = threading.Thread(target=run)
    trainer.start()
    assert begun.wait(60)
    project = find(tmp_path)
    heard = []
    for name, line in printed.follow(project, step="talks"):
        heard.append((name, line))
        (tmp_path / "heard").touch()
    trainer.join(60)
    assert not errors
    assert heard == [("talks", "first"), ("talks", "\\xff last")]
    assert list(printed.follow(project)) == heard
    project.store.close()
