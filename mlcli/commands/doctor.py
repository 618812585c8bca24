"""`mlcli doctor`"""

from mlcli.api.call import Call
from mlcli.api.doctor import DoctorConfig, doctor
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import csv_text, table
from mlcli.commands._result import Result
from mlcli.io.files import json_text


@command(DoctorConfig)
def run(
    call: Call[DoctorConfig],
    format: option.FormatOption = option.Format.table,
    output: option.Output = None,
    overwrite: option.Overwrite = False,
) -> None:
    """Show what a bug report needs.

    Versions, device, precisions, threads, folders, and the time that the two networks of the installation take
    for an image.
    """
    document = Result(output, overwrite)
    findings = call.run(doctor).as_json()
    if format == "json":
        document.write(json_text(findings))
        return
    if format == "csv":  # a line for each value
        lines = [(name, one) for name, v in findings.items() for one in (v if isinstance(v, list) else [v])]
        document.write(csv_text(("name", "value"), lines))
        return
    rows = [(name, (", ".join(v) or "none") if isinstance(v, list) else v) for name, v in findings.items()]
    document.write(table(("name", "value"), rows))
