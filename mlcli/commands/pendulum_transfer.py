"""`mlcli pendulum-transfer`"""

from collections.abc import Mapping
from typing import Any

from mlcli.api.call import Call
from mlcli.api.pendulum_tables import COLUMNS, numbers, similarity_text, table_rows
from mlcli.api.pendulum_transfer import PendulumTransferConfig, pendulum_transfer
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import csv_text, out, table
from mlcli.io.files import json_text


@command(PendulumTransferConfig)
def run(
    call: Call[PendulumTransferConfig], format: option.FormatOption = option.Format.table, quiet: option.Quiet = False
) -> None:
    """Carry a policy to a pendulum of another mass and length.

    What small and large pendulum share is the equation of motion: in units of the frequency √(g / l) and of the torque
    m g l it is the same. So a policy is scaled by these units. The table has the small pendulum; on the large one the
    policy as it is (naive), scaled, and the optimum; with --identify scaled by an identified mass and length; with
    --finetune fine-tuned, and learned from scratch with as many episodes. What is not said of the large pendulum
    follows by similarity. `mlcli.load_policy(FOLDER)` is the policy in Python.
    """
    record = call.run(pendulum_transfer).as_json()
    if format == "json":
        out(json_text(record))
    elif format == "csv":
        out(csv_text(*numbers(record)))
    else:
        out(_text(record))


def _text(record: Mapping[str, Any]) -> str:
    header = ("dimensionless group", "small", "large", "large / small")
    text = table(header, similarity_text(record), right=(1, 2, 3))
    return text + "\n" + table(COLUMNS[record["task"]], table_rows(record), right=range(1, 8))
