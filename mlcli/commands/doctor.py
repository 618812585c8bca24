"""`mlcli doctor`"""

from mlcli.commands import _options as option
from mlcli.commands._report import csv_text, table
from mlcli.io.files import json_text


def run(
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    format: option.FormatOption = option.Format.table,
    output: option.Output = None,
    overwrite: option.Overwrite = False,
) -> None:
    """Show what a bug report needs.

    Versions, device, precisions, threads, folders, and the time that the two networks of the installation take
    for an image.
    """
    from mlcli.commands._result import Result
    from mlcli.reporting.diagnosis import diagnose
    from mlcli.runtime.device import Runtime

    result = Result(output, overwrite)
    findings = diagnose(Runtime.choose(device, precision))
    if format == "json":
        result.write(json_text(findings))
        return
    rows = [(name, (", ".join(v) or "none") if isinstance(v, list) else v) for name, v in findings.items()]
    result.write(csv_text(("what", "value"), rows) if format == "csv" else table(("what", "value"), rows))
