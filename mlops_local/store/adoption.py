"""Decisions of another store as decisions of this one. Pure: its lines and our registry in, entries to append out.

The local chain stays one chain: a decision that comes from elsewhere is a new line here, with its origin in `data.origin`. The
same version (fingerprint and bundle) is one version, whatever number it had there; it keeps that number where that is free.
What was decided here about a version stands; a champion moves only to a version that is new here and that mlops.lock names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import PurePosixPath
from typing import Any

from mlops_local.domain import events
from mlops_local.domain.assets import ModelVersion
from mlops_local.domain.errors import IntegrityError
from mlops_local.store import ledger
from mlops_local.store.ledger import Entry
from mlops_local.store.lockfile import ModelEntry
from mlops_local.store.registry import Registry, verdict_from_json
from mlops_local.store.versions import CHAMPION

Line = Mapping[str, Any]
KINDS = (events.VERSION, events.STATE, events.VERDICT, events.ALIAS)
"""What travels. What a server did, what was removed or collected is a matter of the place where it was."""


@dataclass
class Adopted:
    """What is to be appended, all in one moment."""

    entries: list[Entry] = field(default_factory=list)
    versions: dict[tuple[str, str], str] = field(default_factory=dict)
    """(store, version id there) -> version id here."""
    new: list[str] = field(default_factory=list)
    """Versions that are new here."""


def versions(lines: Iterable[Line]) -> dict[tuple[str, str], ModelVersion]:
    """The versions among lines of several stores, by (store, id there). Raises IntegrityError: one says what none may."""
    return {(line["store"], line["subject"]): _version(line) for line in lines if line["kind"] == events.VERSION}


def matches(version: ModelVersion, entry: ModelEntry) -> bool:
    """Whether mlops.lock means this version."""
    return (version.fingerprint, version.bundle_hash) == (entry.fingerprint, entry.bundle)


def adopt(state: Registry, lines: Sequence[Line], named: Mapping[str, ModelEntry]) -> Adopted:
    """Work out what to append.

    Args:
        state: the registry of this moment.
        lines: decisions of other stores, each with its `store`.
        named: the champions that mlops.lock names.

    Raises:
        IntegrityError: a decision cannot be what another store wrote.
    """
    made = Adopted()
    ordered = sorted((line for line in lines if line["kind"] in KINDS), key=lambda line: (line["at"], line["seq"]))
    _take_versions(state, ordered, made)
    for kind, take in ((events.VERDICT, _verdict), (events.STATE, _state)):
        newest: dict[str, Line] = {}
        for line in ordered:
            here = made.versions.get((line["store"], line["subject"]))
            if line["kind"] == kind and here is not None:
                newest[here] = line
        for here, line in newest.items():
            if here in made.new or (kind == events.VERDICT and here not in state.verdicts):
                made.entries.append(take(here, line, made))
    _take_champions(state, ordered, named, made)
    return made


def _take_versions(state: Registry, ordered: Sequence[Line], made: Adopted) -> None:
    known = {(v.model, v.fingerprint, v.bundle_hash): v.id for v in state.versions.values()}
    taken = {line.subject for line in state.lines if line.kind == events.VERSION}
    for line in ordered:
        if line["kind"] != events.VERSION:
            continue
        version = _version(line)
        same = (version.model, version.fingerprint, version.bundle_hash)
        if same not in known:
            known[same] = here = _free(version, taken)
            taken.add(here)
            made.new.append(here)
            data = asdict(replace(version, id=here, number=int(here.rpartition("@")[2]), state="new"))
            made.entries.append(Entry(events.VERSION, here, "new", None, _reason(line), {**data, "origin": _origin(line)}))
        made.versions[line["store"], line["subject"]] = known[same]


def _free(version: ModelVersion, taken: set[str]) -> str:
    """Its own number, or the next one where that is another version's here."""
    if version.id not in taken:
        return version.id
    numbers = [int(name.rpartition("@")[2]) for name in taken if name.rpartition("@")[0] == version.model]
    return f"{version.model}@{max(numbers) + 1}"


def _verdict(here: str, line: Line, made: Adopted) -> Entry:
    data = dict(line["data"])
    baseline = str(data.get("baseline", ""))
    # A baseline that did not come along must not be taken for a version of ours that has its number.
    data["baseline"] = baseline and made.versions.get((line["store"], baseline), f"{baseline} of {line['store'][:8]}")
    data["version"] = here
    try:
        verdict = verdict_from_json(data)
        _check_types(verdict, *verdict.gates)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _odd(line, error) from error
    return Entry(events.VERDICT, here, line["value"], None, _reason(line), {**data, "origin": _origin(line)})


def _state(here: str, line: Line, made: Adopted) -> Entry:
    if line["value"] not in ("new", "approved", "rejected", "retired"):
        raise _odd(line, f"{line['value']!r} is no state")
    return Entry(events.STATE, here, line["value"], reason=_reason(line), data={"origin": _origin(line)})  # made this moment


def _take_champions(state: Registry, ordered: Sequence[Line], named: Mapping[str, ModelEntry], made: Adopted) -> None:
    """The alias follows mlops.lock to a version that is new here; where mlops.lock is silent, it is set if it was not."""
    there = {entry.subject: ledger.version_from_json(entry.data) for entry in made.entries if entry.kind == events.VERSION}
    last: dict[str, tuple[str, Line]] = {}
    for line in ordered:
        here = made.versions.get((line["store"], line["value"] or ""))
        if line["kind"] == events.ALIAS and here is not None:
            model, _, name = line["subject"].rpartition("@")
            if not _called(name) or model != line["value"].rpartition("@")[0]:
                raise _odd(line, "it is no alias of that model")
            last[line["subject"]] = here, line
    wanted: dict[str, tuple[str, Line]] = {}
    for alias, (here, line) in last.items():
        model, _, name = alias.rpartition("@")
        if alias not in state.aliases and not (name == CHAMPION and model in named):
            wanted[alias] = here, line
    origins = {
        made.versions[line["store"], line["subject"]]: line for line in reversed(ordered) if line["kind"] == events.VERSION
    }
    for here, version in there.items():
        entry = named.get(version.model)
        if entry is not None and matches(version, entry):
            wanted[f"{version.model}@{CHAMPION}"] = here, {**origins[here], "reason": "mlops.lock names it"}
    for alias, (here, line) in sorted(wanted.items()):
        made.entries.append(
            Entry(events.ALIAS, alias, here, state.aliases.get(alias), _reason(line), {"origin": _origin(line)})
        )


def _origin(line: Line) -> dict[str, Any]:
    """Where a decision was made first: it may have come a long way."""
    known = line["data"].get("origin")
    if isinstance(known, Mapping):
        return dict(known)
    return {key: line[key] for key in ("store", "seq", "hash", "at", "actor", "host")}


def _reason(line: Line) -> str:
    if "origin" in line["data"]:
        return str(line["reason"])
    told = f"pulled: {line['actor']} on {line['host']}, {str(line['at'])[:10]}"
    return f"{told}: {line['reason']}" if line["reason"] else told


def _version(line: Line) -> ModelVersion:
    try:
        version = ledger.version_from_json(line["data"])
        hashes = [*version.bundle.values(), *([version.predictions] if version.predictions else [])]
        safe = all(_inside(name) for name in version.bundle) and all(_hash(hash) for hash in hashes)
        _check_types(version)
        safe = safe and all(isinstance(item, str) for pair in version.snapshots.items() for item in pair)
        safe = safe and _called(version.model)
        if not safe or version.id != line["subject"] or version.id != f"{version.model}@{version.number}":
            raise ValueError("it names a file or version that cannot be")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _odd(line, error) from error
    return version


def _check_types(*values: Any) -> None:
    """What tables and later commands rely on: text is text and a number is a number. Raises TypeError."""
    kinds = {
        "str": (str,),
        "int": (int,),
        "float": (int, float),
        "float | None": (int, float, type(None)),
        "int | None": (int, type(None)),
    }
    for value in values:
        for field_ in fields(value):
            kind = kinds.get(str(field_.type))
            found = getattr(value, field_.name)
            if kind is not None and (not isinstance(found, kind) or isinstance(found, bool)):
                raise TypeError(f"{field_.name} is {found!r}")


def _odd(line: Line, why: object) -> IntegrityError:
    return IntegrityError(
        f"decision {line['seq']} about {line['subject']} is none of a store's: {why}", hint="nothing was taken"
    )


def _called(name: str) -> bool:
    """Whether a model or an alias may be called so."""
    return name.replace("-", "_").isidentifier()


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _hash(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")
