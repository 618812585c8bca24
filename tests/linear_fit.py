"""A linear fit as the method of a training: a run of it is small enough to check by hand."""

import torch

from mlcli.runtime.processes import Processes
from mlcli.training.loop import fit
from mlcli.training.plan import Plan
from mlcli.training.run_folder import Run, save_tensors

CPU = torch.device("cpu")


class LinearFit:
    """y = 3 x - 1 by SGD with dropout on the input, so that the global random stream matters too."""

    def __init__(self, items: int = 40, at_step=lambda step: None):
        torch.manual_seed(7)
        self.network = torch.nn.Linear(1, 1)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9)
        self.state = {"network": self.network, "optimizer": self.optimizer}
        self.x = torch.linspace(-1, 1, items)[:, None]
        self.seen: list[torch.Tensor] = []
        self.at_step = at_step

    def load(self, indices, step):
        return indices, self.x[indices]

    def step(self, batch, step):
        indices, x = batch
        self.seen.append(indices)
        noisy = x + 0.01 * torch.randn_like(x)
        loss = (self.network(noisy) - (3 * x - 1)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.at_step(step)
        return {"loss": loss}

    def name_batch(self, indices, step):
        return [f"{index}.png" for index in indices.tolist()]

    def warning(self, values):
        return ""

    def evaluate(self):
        return {"slope": self.network.weight.item()}

    def samples(self):
        return {"fit": torch.full((3, 2, 2), 0.5)}

    def save_model(self, run):
        save_tensors(run.model_file, self.network.state_dict(), {"kind": "linear"})


def plan(**changes) -> Plan:
    return Plan(**{"items": 40, "batch_size": 8, "epochs": 6, "seed": 3, "log_every": 2, "save_every": 1e9} | changes)


def new_run(folder) -> Run:
    run = Run(folder)
    run.create({"command": "test", "options": {}, "data": {}})
    return run


def train(run: Run, method=None, **changes):
    method = method or LinearFit()
    return method, fit(method, plan(**changes), run, Processes(CPU))


def lines(run: Run) -> list[dict]:
    """The metrics without the times."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]
