"""The documents say what is true: every command is described, every shown command runs."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from mlops_local.cli.context import Settings
from mlops_local.cli.main import COMMANDS, SECTIONS, cli
from tests.conftest import MadeOnce
from tests.reader import commands, follow_the_readme, run_in_order

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "cli.md"
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def _context() -> click.Context:
    return click.Context(cli, info_name="mlops", obj=Settings())


def _walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if command.hidden:
        return
    yield path, command
    if isinstance(command, click.Group):
        for name, member in command.commands.items():
            yield from _walk(member, f"{path} {name}")


def _every() -> list[tuple[str, click.Command]]:
    found = []
    for name in COMMANDS:
        command = cli.get_command(_context(), name)
        assert command is not None
        found += list(_walk(command, f"mlops {name}"))
    return found


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_explains_itself() -> None:
    """Each command and member of a group has help, and each that does something has an example that names it."""
    for path, command in _every():
        assert command.help and command.help.strip(), f"{path} has no help"
        if not isinstance(command, click.Group):
            assert command.epilog and path in command.epilog, f"{path} has no example in its epilog"


def test_every_option_explains_itself() -> None:
    """No option is shown without a word on what it does."""
    for path, command in _every():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.help, f"{path} {parameter.opts}"


def test_the_reference_is_what_the_help_says() -> None:
    """docs/cli.md holds every command's help as it is now; `python scripts/cli_docs.py` writes it."""
    page = REFERENCE.read_text(encoding="utf-8")
    assert _script("cli_docs").page(page) == page, "docs/cli.md is out of date: run `python scripts/cli_docs.py`"
    for path, _ in _every():
        assert f"# {path}\n" in page


def test_help_lines_are_short_enough_for_a_terminal() -> None:
    """`mlops --help` fits 80 columns without wrapping a command's line."""
    for entries in SECTIONS.values():
        for name, entry in entries.items():
            assert len(entry.help) <= 66, name


def test_no_document_points_into_nothing() -> None:
    """Every relative link of the documents leads to a file of the repository."""
    broken = []
    for document in [*DOCUMENTS, *sorted(ROOT.glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if "://" not in target and not (document.parent / target).exists():
                broken.append(f"{document.name}: {target}")
    assert broken == []


def test_commands_are_found_in_console_blocks_only(tmp_path: Path) -> None:
    """Only lines after a `$ ` in ```console blocks are commands; their output and other blocks are not."""
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo a\na\n$ false  # exit 1, on purpose\n```\n```sh\n$ no\n```\n")
    assert commands(page) == ["echo a", "false  # exit 1, on purpose"]
    assert run_in_order(commands(page), tmp_path) == ["a\n", ""]


def test_a_shown_command_that_fails_is_noticed(tmp_path: Path) -> None:
    """The test of the documents can fail."""
    with pytest.raises(AssertionError, match="exit 3"):
        run_in_order(["mkdir x", "cd x", "exit 3"], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_readmes_commands_run(made_once: MadeOnce) -> None:
    """A reader who types the README's commands from top to bottom gets no error."""
    assert any(line.startswith("mlops train") for line in commands(ROOT / "README.md"))
    assert "Usage:" not in (made_once("readme", follow_the_readme) / "said").read_text()


def _trained(folder: Path) -> None:
    folder.mkdir()
    rows = "\n".join(f"{number},{number % 7},{int(number % 3 == 0)}" for number in range(400))
    (folder / "rows.csv").write_text(f"id,size,late\n{rows}\n")
    prepare = ["mlops init scratch --template blank --data rows.csv --target late", "cd scratch", "mlops train"]
    _, trained = run_in_order(prepare, folder)
    assert "late@1" in trained


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.name != "README.md" and commands(path)], ids=lambda path: path.name
)
def test_the_other_documents_commands_run(document: Path, tmp_path: Path, made_once: MadeOnce) -> None:
    """Every page's commands run in a small trained project of their own, or in the one that its first command makes."""
    lines = commands(document)
    if not lines[0].startswith("mlops init "):
        shutil.copytree(made_once("scratch", _trained), tmp_path, symlinks=True, dirs_exist_ok=True)
        lines.insert(0, "cd scratch")
    assert len(run_in_order(lines, tmp_path)) == sum(not line.startswith("cd ") for line in lines)
