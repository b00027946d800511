"""Which words of a command line are which argument, the way the script's argparse parser took them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlops_local.domain.records import dataclass

SWITCH, VALUE, AGAIN, OWN, SEVERAL, COMMAND = "switch", "value", "again", "own", "several", "command"
"""What an argument takes: nothing; one word, which may come again, or which the script handles in a way of its own; any number
of words; the name of a subcommand."""
_ONE = {VALUE, AGAIN, OWN}


@dataclass(frozen=True)
class Word:
    """One word of the line."""

    text: str
    """The value in it, or all of it."""
    argument: Mapping[str, Any] | None = None
    """What it belongs to; None where that cannot be said."""
    value: bool = False
    """It is a value, not the name of an option."""
    prefix: str = ""
    """What stands before the value in the same word: `--rounds=`, `-n`."""


@dataclass(frozen=True)
class Level:
    """What one parser reads: the script's own, or a subcommand's."""

    words: tuple[Word, ...]
    options: tuple[Mapping[str, Any], ...]
    """The options it declares."""


def levels(line: Sequence[str], parsers: Sequence[Mapping[str, Any]]) -> list[Level]:
    """Take a line apart.

    Args:
        line: the script's arguments.
        parsers: as `worker.witness` noted them: the script's, then its subcommands', each with the place of its first word.
    """
    if not parsers:
        return [Level(tuple(Word(text, value=not text.startswith("-")) for text in line), ())]
    ends = [*(parser["at"] for parser in parsers[1:]), len(line)]
    return [
        Level(
            tuple(_words(line[parser["at"] : end], parser["arguments"])),
            tuple(item for item in parser["arguments"] if item["options"]),
        )
        for parser, end in zip(parsers, ends, strict=True)
    ]


def _words(line: Sequence[str], declared: Sequence[Mapping[str, Any]]) -> Iterator[Word]:
    options = {text: item for item in declared for text in item["options"]}
    # Which word is which positional argument is certain only where nothing takes an open number of words.
    certain = all(item["takes"] != SEVERAL for item in declared)
    positional = iter([item for item in declared if not item["options"]] if certain else [])
    open_to: Mapping[str, Any] | None = None
    words = iter(line)
    for word in words:
        prefix, item, value = _option(word, options)
        if item is None:
            named = word.startswith("-") and not _is_number(word)
            owner = open_to if open_to is not None else None if named else next(positional, None)
            yield Word(word, owner, value=not named)
        elif value is not None:
            open_to = None
            yield Word(value, item, value=True, prefix=prefix)
        else:
            open_to = item if item["takes"] == SEVERAL else None
            yield Word(word, item)
            if item["takes"] in _ONE and (following := next(words, None)) is not None:
                yield Word(following, item, value=True)


def _option(word: str, options: Mapping[str, Mapping[str, Any]]) -> tuple[str, Mapping[str, Any] | None, str | None]:
    """The option a word names, also shortened, and the value in the same word: `--rounds=7`, `-n7`."""
    if not word.startswith("-"):
        return "", None, None
    text, equals, value = word.partition("=")
    found = options.get(text)
    if found is None and text.startswith("--"):
        meant = {id(item): item for name, item in options.items() if name.startswith(text)}
        found = next(iter(meant.values())) if len(meant) == 1 else None
    if found is not None:
        return f"{text}=", found, value if equals else None
    short = options.get(word[:2])
    if short is not None and short["takes"] in _ONE and not word.startswith("--"):
        return word[:2], short, word[2:]
    if all(options.get(f"-{letter}", {}).get("takes") == SWITCH for letter in word[1:]):
        return "", short, None  # several in one, `-vq`
    return "", None, None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
