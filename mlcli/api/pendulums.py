"""The options of a pendulum, and what is refused of one."""

import math
from typing import Any

from mlcli.errors import UsageError
from mlcli.methods.control.configs import LEAST, MOST
from mlcli.methods.control.pendulum import STEPS, Pendulum
from mlcli.options import PENDULUM, option, required


def mass(**more: Any) -> Any:
    return _quantity("Mass of the rod in kg.", Pendulum.mass, **more)


def length(**more: Any) -> Any:
    return _quantity("Length of the rod in m.", Pendulum.length, **more)


def gravity(**more: Any) -> Any:
    return _quantity("Acceleration of gravity in m/s².", Pendulum.gravity, **more)


def max_torque(**more: Any) -> Any:
    return _quantity("Greatest torque of the motor in N m.", Pendulum.max_torque, **more)


def damping(**more: Any) -> Any:
    return _quantity("Damping of the axle in N m s, as torque per rad/s.", Pendulum.damping, **{"minimum": 0, **more})


def _quantity(help: str, usual: float, **more: Any) -> Any:
    """An option of a physical quantity. more: attributes of the option, and `default`, that differ."""
    if more.pop("needed", False):
        return required(help, minimum=LEAST, maximum=MOST, panel=PENDULUM)
    return option(more.pop("default", usual), help, **{"minimum": LEAST, "maximum": MOST, "panel": PENDULUM, **more})


def require_torque(pendulum: Pendulum, task: str) -> None:
    """Raise UsageError where the motor is too weak to swing the pendulum up within an episode."""
    from mlcli.methods.control.swing_up import least_torque

    if task != "swing-up" or pendulum.max_torque >= (least := least_torque(pendulum)):
        return
    within = f"within an episode of {STEPS} steps ({pendulum.seconds:.3g} s)"
    raise UsageError(
        f"--max-torque {pendulum.max_torque:.4g}: too weak to swing this pendulum up {within}; the least that suffices "
        f"is {_rounded_up(least):.4g} N m"
    )


def _rounded_up(value: float) -> float:
    """The next number of four digits, which is not below the value."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 3)
    return math.ceil(value / unit) * unit
