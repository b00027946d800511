"""The `-S name=value` option of every command that plans or runs steps."""

from __future__ import annotations

import click


def assignments(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Read `name=value` arguments."""
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not name=value")
        found[name] = text
    return found


set_option = click.option(
    "-S", "params", multiple=True, metavar="NAME=VALUE", callback=assignments, help="Set a parameter: -S gbm.num_leaves=31."
)
