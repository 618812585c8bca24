"""A call for a command whose configuration is still its own signature."""

from types import SimpleNamespace

import typer

from mlcli.api.call import Call, plain


def call_of(context: typer.Context) -> Call:
    """The call that a Typer context stands for."""
    config = SimpleNamespace(
        **{name: plain(value) if name != "output" else value for name, value in context.params.items()}
    )
    config.as_json = lambda: {name: plain(getattr(value, "value", value)) for name, value in context.params.items()}
    given = {name for name in context.params if context.get_parameter_source(name).name != "DEFAULT"}
    import sys

    call = Call(context.info_name or "", config, frozenset(given), ("mlcli", *sys.argv[1:]))
    return context.with_resource(call)
