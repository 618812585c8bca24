"""`mlcli pendulum-train`"""

from mlcli.api.call import Call
from mlcli.api.pendulum_train import PendulumTrainConfig, pendulum_train
from mlcli.commands import _options as option
from mlcli.commands._derived import command


@command(PendulumTrainConfig)
def run(call: Call[PendulumTrainConfig], quiet: option.Quiet = False) -> None:
    """Learn a policy that swings a pendulum up, or balances it.

    The pendulum is that of gymnasium's Pendulum-v1, with its reward, time step and bounds, and 200 steps an episode.
    Soft actor-critic learns from rewards alone; the model-based method identifies the equations by least squares and
    plans on them. The report shows the policy beside the optimum by dynamic programming. `mlcli.load_policy(RUN)` is
    the policy in Python, and `mlcli pendulum-transfer RUN` carries it to another pendulum.
    """
    call.run(pendulum_train)
