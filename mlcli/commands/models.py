"""`mlcli models`"""

from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.api.list_models import ListModelsConfig, list_models
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import csv_text, table
from mlcli.commands._result import Result
from mlcli.counting import counted
from mlcli.io.files import json_text


@command(ListModelsConfig)
def run(
    call: Call[ListModelsConfig],
    format: option.FormatOption = option.Format.table,
    output: option.Output = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """List the models that can be named.

    Each with its parameters in millions, input size, number of classes, published ImageNet top-1 accuracy in percent,
    the license of its weights, and whether they are on this disk. The folder of a run is a model too: name it with
    --model RUN.
    """
    document = Result(output, overwrite)
    result = call.run(list_models)
    entries = result.as_json()
    if format == "json":
        document.write(json_text(entries))
    else:
        rows = [[_plain(value) for value in entry.values()] for entry in entries]
        words = [key.replace("_", " ") for key in entries[0]]
        document.write(csv_text([*entries[0]], rows) if format == "csv" else table(words, rows, right=(1, 2, 3, 4)))
    if result.unlisted:
        say(f'{counted(result.unlisted, "more model")} of timm: mlcli models "timm/*"')


def _plain(value: object) -> object:
    """A value as a cell of a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else value
