"""The linear-quadratic regulator (LQR; Kalman 1960), optimal near upright: the discrete Riccati equation."""

import torch
from torch import Tensor

from mlcli.errors import TrainingError
from mlcli.methods.control.pendulum import Pendulum
from mlcli.methods.control.policies import Linear, Policy

DOUBLINGS = 60  # steps 2^60: more than any horizon


def linearized(pendulum: Pendulum) -> tuple[Tensor, Tensor]:
    """(A (2, 2), B (2, 1)) with (angle, velocity)' = A (angle, velocity) + B torque for small angles."""
    p = pendulum
    gravity, motor = 3 * p.gravity / (2 * p.length), 3 / (p.mass * p.length**2)
    step = p.time_step
    velocity = torch.tensor([gravity * step, 1 - motor * p.damping * step], dtype=torch.float64)
    a = torch.stack([torch.tensor([1.0, 0.0], dtype=torch.float64) + step * velocity, velocity])
    b = torch.tensor([[motor * step * step], [motor * step]], dtype=torch.float64)
    return a, b


def riccati(a: Tensor, b: Tensor, q: Tensor, r: Tensor) -> Tensor:
    """The stabilizing solution X of X = Aᵀ X A - Aᵀ X B (R + Bᵀ X B)⁻¹ Bᵀ X A + Q.

    By the doubling algorithm (Anderson 1978), which squares the horizon at each step. Raises TrainingError where it
    does not converge, as for a system that cannot be stabilized.
    """
    identity = torch.eye(len(a), dtype=a.dtype)
    g, h = b @ torch.linalg.solve(r, b.T), q.clone()
    for _ in range(DOUBLINGS):
        w = torch.linalg.inv(identity + g @ h)
        a, g, h, before = a @ w @ a, g + a @ w @ g @ a.T, h + a.T @ h @ w @ a, h
        if not h.isfinite().all():
            break
        if (h - before).abs().max() <= 1e-15 * h.abs().max():
            return (h + h.T) / 2
    raise TrainingError("the Riccati equation of this pendulum has no solution; take a larger torque")


def regulator(pendulum: Pendulum) -> Policy:
    """The policy that is optimal for small angles."""
    p = pendulum
    a, b = linearized(p)
    r = torch.tensor([[p.torque_weight]], dtype=torch.float64)
    x = riccati(a, b, torch.diag(torch.tensor([1.0, p.velocity_weight], dtype=torch.float64)), r)
    gain = torch.linalg.solve(r + b.T @ x @ b, b.T @ x @ a)
    return Policy(Linear(gain[0]), p)
