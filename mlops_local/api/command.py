"""Declare a program in any language as a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mlops_local.api.declare import Note, _place
from mlops_local.domain.command import command as checked


class CommandDeclaration:
    """A program as a step: `legacy = mlops.command("python legacy.py {input} {output}", ...)`. Its name is the variable's."""

    __mlops_kind__: ClassVar[str] = "command"

    def __init__(self, declared: Any) -> None:
        self.declared = declared
        self.place = _place()
        self.__mlops__ = Note("command", declared.inputs, declared.needs)


def command(
    line: str,
    *,
    inputs: Any = None,
    outputs: str | Mapping[str, str],
    code: str | Sequence[str] = (),
    params: Mapping[str, Any] | None = None,
    shell: bool = False,
    cpus: int = 0,
    memory: int | str = 0,
    gpus: int = 0,
    retries: int = 0,
    timeout: float = 0,
) -> CommandDeclaration:
    """Declare a program in any language as a step. It runs in the project's folder.

    Args:
        line: the command line with a placeholder for each input, output and parameter. Each word is handed over as it is,
            without a shell; a value is never split.
        inputs: what it reads: a source or step (`{input}`), or several by name. A table is handed over as a Parquet file, as
            CSV or JSON where asked for (`{rows:csv}`); a source as its files, a path as a path.
        outputs: the file it writes (`{output}`), or several by name. Tables (.parquet, .csv, .tsv, .jsonl) reach the next
            step as frames, .json as its value, the rest as a path; a slash at the end makes it a folder. An output without
            placeholder is a path below the project that the program writes by itself.
        code: the files that are the program, as globs: their contents count for the fingerprint.
        params: parameters and their defaults.
        shell: run the line in a shell, for pipes and redirections. Values are quoted.
        cpus: threads it may use.
        memory: what it needs, in bytes or as text.
        gpus: how many GPUs it needs, for itself alone.
        retries: how often it is tried again after a failure.
        timeout: seconds after which it is ended and counts as failed; 0 for never.
    """
    needs = {"cpus": cpus, "memory": memory, "gpus": gpus, "retries": retries, "timeout": timeout}
    return CommandDeclaration(checked(line, inputs, outputs, code, params, shell, **needs))
