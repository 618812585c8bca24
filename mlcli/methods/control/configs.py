"""Hyperparameters of the control of a pendulum. Free of torch, since the command line reads it for --help."""

from dataclasses import dataclass

from mlcli.options import METHOD, NETWORK, TRAINING, option

TASKS = ("swing-up", "balance")
METHODS = ("sac", "model-based")
EPISODES = {"sac": 30, "model-based": 3}  # of experience, by default
LEAST, MOST = 1e-3, 1e6  # of masses, lengths, torques and gravities


def _of_sac(options: object) -> bool:
    return options["method"] == "sac"  # type: ignore[index]


@dataclass(frozen=True)
class Sac:
    """Soft actor-critic (Haarnoja et al. 2018), one update of the networks for each step of the pendulum.

    The target entropy is -1, that of the dimension of the action. random_episodes: whose torques are drawn uniformly,
    before the policy is asked. reward_factor: rewards are multiplied by it, so that values are of the order of 1.
    """

    lr: float = option(
        1e-3, "Learning rate of the networks of sac.", minimum=0, maximum=1, applies=_of_sac, panel=TRAINING
    )
    batch_size: int = option(
        128, "Number of remembered steps per update of sac.", minimum=1, applies=_of_sac, panel=TRAINING
    )
    hidden: int = option(
        64, "Width of both hidden layers of the networks of sac.", minimum=1, applies=_of_sac, panel=NETWORK
    )
    discount: float = option(
        0.99, "Factor by which sac discounts each later step.", minimum=0, maximum=1, applies=_of_sac, panel=METHOD
    )
    averaging: float = 0.005
    reward_factor: float = 0.1
    random_episodes: int = 1


@dataclass(frozen=True)
class Planning:
    """Dynamic programming on a grid of angles and velocities.

    angles: a whole circle, even, so that upright and hanging are points of the grid. velocities: odd, so that rest is.
    torques: odd, so that none is among them.
    """

    angles: int = 200
    velocities: int = 161
    torques: int = 21
    sweeps: int = 200
