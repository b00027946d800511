"""Readable names for runs (two words from the random part of the id; not unique), and numbers of things in words."""

from __future__ import annotations

_ADJECTIVES = (
    "amber bold brisk calm clear cosy crisp dapper deft eager early fair fleet fond fresh gentle glad golden grand hardy "
    "hazel honest humble jolly keen kind late light lively lucid mellow merry mild modest neat noble nimble patient plain "
    "polite prime proud quick quiet rapid ready royal rustic serene sharp silent silver simple sleek smart snug solid "
    "spry stable steady still stout subtle sunny sure swift tidy trim true upbeat vivid warm wise witty young zesty"
).split()
_NOUNS = (
    "acorn alder ash aspen badger basin bay beacon beech birch bison brook canyon cedar cliff cloud comet coral crane creek "
    "dale delta dune eagle elm falcon fern fjord forest fox glade grove gull harbor hawk heron hill ibis island ivy jay "
    "juniper kestrel lagoon lake larch lark ledge lily linden lynx maple marsh meadow mesa moor moss oak orchid osprey otter "
    "owl peak pebble pine plover pond poplar prairie quail raven reef ridge river robin sage shore sparrow spruce stone "
    "stork summit swan teal thicket thistle tide valley vale walnut willow wren yew"
).split()


def readable(identifier: str) -> str:
    """A run's readable name, from the random part of its id; not unique."""
    number = int(identifier[16:], 16)
    return f"{_ADJECTIVES[number % len(_ADJECTIVES)]}-{_NOUNS[(number // 97) % len(_NOUNS)]}"


def counted(number: int, thing: str, things: str = "") -> str:
    """`1 step`, `3 steps`, `10,000 steps`."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
