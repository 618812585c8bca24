"""`mlcli.doctor`: what a bug report needs to say of a machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlcli.api import common
from mlcli.api.call import Call, function


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(common.Computes):
    pass


@dataclass(frozen=True)
class Diagnosis:
    """Findings by name, in the order in which to read them: strings, numbers, booleans or lists of strings."""

    findings: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """What `mlcli doctor --format json` prints."""
        return dict(self.findings)


@function(DoctorConfig)
def doctor(call: Call[DoctorConfig]) -> Diagnosis:
    """Find out what a bug report needs: versions, device, precision, threads, folders and times.

    The times are those of one image in a batch of 64, in milliseconds, for both networks that come with the
    installation.

        >>> import mlcli
        >>> mlcli.doctor(device="cpu").findings["device"]  # doctest: +SKIP
        'cpu'

    Raises UsageError for a device or precision that this machine does not have.
    """
    from mlcli.reporting.diagnosis import diagnose
    from mlcli.runtime.device import Runtime

    return Diagnosis(diagnose(Runtime.choose(call.config.device, call.config.precision)))
