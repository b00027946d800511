"""The `[steps.NAME]` entry for a script that was seen running once. Pure but for a look at which files a pattern means."""

from __future__ import annotations

import glob
import json
import math
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mlops_local.domain.command import literal
from mlops_local.domain.errors import UsageError
from mlops_local.domain.secrets import is_secret_name
from mlops_local.services.arguments import AGAIN, COMMAND, OWN, SEVERAL, SWITCH, VALUE, Word, levels
from mlops_local.services.witness import Seen

_OWN = {"mlops.toml", "mlops.lock"}
_LITERAL = {
    SWITCH: "a switch is there or not",
    SEVERAL: "it takes any number of values",
    AGAIN: "it may be given again and again",
    OWN: "the script reads it in a way of its own",
    COMMAND: "it names a subcommand",
}
_MANY = 3
"""So many files of one kind in a folder are one input, or output."""


@dataclass(frozen=True)
class Proposal:
    """An entry of mlops.toml."""

    name: str
    text: str
    """As TOML, with its header."""
    notes: tuple[str, ...] = ()
    """What the entry does not say, one sentence each."""


def step_name(script: str) -> str:
    """What the step of a script is called."""
    return _identifier(PurePosixPath(script).stem)


def propose(seen: Seen, root: Path) -> Proposal:
    """Work out the entry.

    Args:
        seen: one run of the script.
        root: the project's folder.

    Raises:
        UsageError: the script wrote nothing.
    """
    if not seen.writes:
        raise UsageError(
            f"{seen.script} wrote no file in the project: there is no result to keep",
            hint="let it write what it makes to a file, then run this again",
        )
    entry = _Entry(seen, root)
    line = entry.line()
    entry.outputs_by_themselves()
    entry.inputs_by_themselves()
    parts = [
        ("command", line), ("inputs", entry.inputs), ("outputs", entry.outputs), ("code", entry.code), ("params", entry.params),
    ]  # fmt: skip
    name = step_name(seen.script)
    lines = [f"[steps.{name}]", *(f"{key} = {_toml(value)}" for key, value in parts if value)]
    return Proposal(name, "\n".join(lines) + "\n", tuple(entry.notes))


@dataclass
class _Entry:
    seen: Seen
    root: Path
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    code: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        read = {file: name for file, name in self.seen.reads.items() if file not in _OWN}
        beside = sorted(file for file in read if file.startswith("../"))
        again = sorted(file for file in read if file in self.seen.writes)
        self.notes += [f"reads {file}, which lies beside the project: changes to it are not noticed" for file in beside]
        self.notes += [f"reads {file} and writes it anew: it is taken as an output, not as an input" for file in again]
        read = {file: name for file, name in read.items() if file not in {*beside, *again}}
        # A file in the root without a suffix would be taken for a step's name; as code its content counts just the same.
        code = {file for file in read if file.endswith(".py") or not re.search(r"[/.]", file)}
        self.code = [self.seen.script, *sorted(code - {self.seen.script})]
        self.read = {file: name for file, name in read.items() if file not in {*code, self.seen.script}}
        self.placed: set[str] = set()
        """Files that a word of the line stands for."""

    # The line

    def line(self) -> str:
        """The command line, its paths and values as placeholders."""
        words = ["python", _word(self.seen.script)]
        for level in levels(self.seen.arguments, self.seen.parsers):
            given = {word.argument["name"] for word in level.words if word.argument is not None}
            words += self._defaults(level.options, given)
            words += [
                word.prefix + self._value(word.argument, word.text) if word.value else _word(word.text) for word in level.words
            ]
            self._note_literal(level.words)
        return " ".join(words)

    def _note_literal(self, words: Sequence[Word]) -> None:
        """Say of arguments what of them cannot be a parameter."""
        kept: dict[str, list[str]] = {}
        for word in words:
            if word.argument is not None and word.argument["takes"] in _LITERAL:
                kept.setdefault(word.argument["name"], []).append(word.text)
        takes = {word.argument["name"]: word.argument["takes"] for word in words if word.argument is not None}
        self.notes += [f"{' '.join(texts)} stays in the line as it is: {_LITERAL[takes[name]]}" for name, texts in kept.items()]

    def _defaults(self, options: Iterable[Mapping[str, Any]], given: set[str]) -> list[str]:
        """The options that were left at their defaults; before all others, so that no open list takes them."""
        words: list[str] = []
        for item in options:
            name, value = item["name"], item["value"]
            if name in given or item["takes"] != VALUE or value in (None, "") or is_secret_name(name):
                continue
            given.add(name)
            if not (isinstance(value, float) and not math.isfinite(value)):
                words += [max(item["options"], key=len), self._value(item, str(value))]
        return words

    def _value(self, item: Mapping[str, Any] | None, text: str) -> str:
        """A word's placeholder: the path or the parameter it is; as it stands where it is neither."""
        if item is not None and item["takes"] == COMMAND:
            return _word(text)
        path = os.path.relpath(self.root / text, self.root)
        inside = {file for file in self.seen.writes if file.startswith(f"{path}/")}
        wanted = item["name"] if item is not None else ""
        if path in self.read:
            self.placed.add(path)
            return self._placeholder(self.inputs, wanted or PurePosixPath(path).stem, path)
        if path in self.seen.writes:
            self.placed.add(path)
            return self._placeholder(self.outputs, wanted or PurePosixPath(path).stem, PurePosixPath(path).name)
        if inside and not any(file.startswith(f"{path}/") for file in (*self.seen.reads, *self.code)):
            self.placed |= inside
            return self._placeholder(self.outputs, wanted or PurePosixPath(path).name, f"{PurePosixPath(path).name}/")
        within = any(file == path or file.startswith(f"{path}/") for file in (*self.seen.reads, *self.code))
        if item is None or item["takes"] != VALUE or within or (item["value"] is None and not item["text"]):
            return _word(text)
        value = item["value"]
        same = str(value) == text or (isinstance(value, (int, float)) and _number(text) == value)
        return self._placeholder(self.params, wanted, value if same else _plain(text) if item["text"] else text)

    def _placeholder(self, table: dict[str, Any], wanted: str, value: Any) -> str:
        known = next((name for name, held in table.items() if held == value and table is self.inputs), "")
        name = known or self._free(wanted)
        table[name] = value
        return f"{{{name}}}"

    def _free(self, wanted: str) -> str:
        base, taken = _identifier(wanted), {*self.inputs, *self.outputs, *self.params}
        return next(name for name in (base, *(f"{base}_{number}" for number in range(2, len(taken) + 3))) if name not in taken)

    # What no word of the line names

    def outputs_by_themselves(self) -> None:
        """Files that the script writes where it wants; a folder of many is one output."""
        left = [file for file in self.seen.writes if file not in self.placed]
        for folder, files in _by_folder(left).items():
            mixed = not folder or any(file.startswith(f"{folder}/") for file in (*self.seen.reads, *self.code, *self.placed))
            for path in files if mixed or len(files) < _MANY else [f"{folder}/"]:
                self.outputs[self._free(PurePosixPath(path).stem)] = path

    def inputs_by_themselves(self) -> None:
        """Files that the script knows: by the pattern it reads them with, or one for a folder's files of a kind."""
        left = {file: name for file, name in self.read.items() if file not in self.placed}
        patterns = {name for file, name in left.items() if name != file and glob.has_magic(name)}
        left = {file: name for file, name in left.items() if name not in patterns}
        for folder, files in _by_folder(left).items():
            kinds: dict[str, list[str]] = {}
            for file in files:
                kinds.setdefault(PurePosixPath(file).suffix, []).append(file)
            for suffix, same in kinds.items():
                pattern = f"{folder}/*{suffix}" if folder else f"*{suffix}"
                there = sorted(glob.glob(pattern, root_dir=self.root))  # noqa: PTH207  (root_dir)
                patterns |= {pattern} if len(same) >= _MANY and there == sorted(same) else set(same)
        for pattern in sorted(patterns):
            stem = re.sub(r"\W+$", "", re.sub(r"[*?\[].*", "", PurePosixPath(pattern).stem))
            self.inputs[self._free(stem or PurePosixPath(pattern).parent.name or "rows")] = pattern


def _word(text: str) -> str:
    """A word that stays as it is."""
    return shlex.quote(literal(text))


def _by_folder(files: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(os.path.dirname(file), []).append(file)  # noqa: PTH120  (empty for the root)
    return found


def _identifier(text: str) -> str:
    name = re.sub(r"\W+", "_", text).strip("_")
    return name if name.isidentifier() else f"step_{name}"


def _plain(text: str) -> int | float | str:
    """A number where its text is just this one."""
    for kind in (int, float):
        try:
            made = kind(text)
        except ValueError:
            continue
        if str(made) == text and math.isfinite(made):
            return made
    return text


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if name.isascii() else json.dumps(name, ensure_ascii=False)
