"""Write the reference part of docs/cli.md from the commands' own help, so that it cannot lag behind.

python scripts/cli_docs.py            write it
python scripts/cli_docs.py --check    exit 1 when it is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mlops_local.cli.context import Settings
from mlops_local.cli.main import COMMANDS, SECTIONS, cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
MARK = "<!-- From here on written by scripts/cli_docs.py from the commands' help. -->\n"
WIDTH = 100


def main() -> None:
    """Write the page, or say that it is out of date."""
    before = PAGE.read_text(encoding="utf-8")
    after = page(before)
    if "--check" in sys.argv[1:]:
        if after != before:
            print("docs/cli.md is out of date: run `python scripts/cli_docs.py`")
            sys.exit(1)
        return
    PAGE.write_text(after, encoding="utf-8")


def page(before: str) -> str:
    """The page with its reference written anew; what a person wrote above the mark stays."""
    written, _, _ = before.partition(MARK)
    return written + MARK + reference()


def reference() -> str:
    """Every command's help by section."""
    parts: list[str] = []
    context = click.Context(cli, info_name="mlops", obj=Settings(), terminal_width=WIDTH, max_content_width=WIDTH)
    context.help_option_names = ["-h", "--help"]
    for title, names in SECTIONS.items():
        parts.append(f"\n## {title}\n")
        for name in names:
            command = cli.get_command(context, name)
            assert command is not None and name in COMMANDS
            parts.append(described(command, name, context, level=3))
    return "\n".join(parts)


def described(command: click.Command, name: str, parent: click.Context, *, level: int) -> str:
    """One command's help, its members' after it."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    text = f"{'#' * level} {context.command_path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
    members = command.commands if isinstance(command, click.Group) else {}
    return "\n".join(
        [
            text,
            *(described(member, key, context, level=level + 1) for key, member in sorted(members.items()) if not member.hidden),
        ]
    )


if __name__ == "__main__":
    main()
