"""What the reports of the commands of pendulums show: returns, learning curves, maps, paths."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import pendulum_tables
from mlcli.api.option_tables import option_section
from mlcli.io.files import write_bytes, write_json, write_text
from mlcli.reporting import sections
from mlcli.reporting.sections import Chart, Section, Table
from mlcli.training.run_folder import Run

if TYPE_CHECKING:
    from mlcli.methods.control.transfer import Transfer
    from mlcli.reporting.pendulums.phase_charts import Portrait, StateMap

UNITS = {
    "mass": "mass (kg)",
    "length": "length (m)",
    "gravity": "gravity (m/s²)",
    "max_torque": "greatest torque (N m)",
    "damping": "damping (N m s)",
    "time_step": "time step (s)",
    "max_speed": "greatest speed (rad/s)",
    "velocity_weight": "weight of the squared velocity in the reward",
    "torque_weight": "weight of the squared torque in the reward",
}
TITLES = {"dynamic programming": "optimum (dynamic programming)", "LQR": "optimum for small angles (LQR)"}


def of_training(run: Run, results: Mapping[str, Any]) -> list[Section]:
    """The sections of a run of pendulum-train that has ended."""
    from mlcli.methods.control import dynamic_programming, maps, policies

    policy = policies.load(run.folder).policy
    plan = dynamic_programming.plan(policy.pendulum)
    drawn = [
        maps.policy_map("Learned policy", policy),
        maps.policy_map("Optimal policy", plan.policy),
        maps.value_map("Value of the optimal policy", plan),
    ]
    portraits = [
        maps.portrait(title, each, results["task"]) for title, each in (("Learned", policy), ("Optimal", plan.policy))
    ]
    return [Section("Result", [_returns(results), *_learning(run, results)]), *_drawn(drawn, portraits)]


def _drawn(maps: "Sequence[StateMap]", portraits: "Sequence[Portrait]") -> list[Section]:
    """The sections of maps over the states, and of phase portraits."""
    from mlcli.reporting import charts
    from mlcli.reporting.pendulums import phase_charts

    colored = [sections.from_image(charts.to_image(phase_charts.map_chart(each)), each.title) for each in maps]
    paths = [sections.from_image(charts.to_image(phase_charts.portrait_chart(each)), each.title) for each in portraits]
    return [
        Section("Policies and values", colored, "Over angle and velocity."),
        Section("Phase portraits", paths, "From rest at several angles."),
    ]


def _returns(results: Mapping[str, Any]) -> Table:
    """The returns of the learned policy and of the best ones."""
    rows = []
    for row in results["policies"]:
        low, high = row["return"]["interval"]
        figures = (f"{row['return']['mean']:.4g}", f"{low:.4g} to {high:.4g}", f"{row['return']['sd']:.4g}")
        rows.append((TITLES.get(row["name"], row["name"]), *figures, f"{row['upright']:.1%}"))
    header = ("policy", "mean return", "95 % interval", "sd of episodes", "upright")
    caption = f"Of {results['count']:,} episodes, the same for each policy. Upright: the fraction of all steps."
    return Table(header, rows, "", caption)


def _learning(run: Run, results: Mapping[str, Any]) -> list[Chart]:
    """The learning curve with the optimum as a line; empty where a curve has one point."""
    from mlcli.methods.control.pendulum import STEPS
    from mlcli.reporting import charts
    from mlcli.reporting.pendulums import phase_charts

    points = [(line["step"] / STEPS, line["val_return"]) for line in run.metrics() if "val_return" in line]
    if len(points) < 2:
        return []
    best = max(row["return"]["mean"] for row in results["policies"][1:])
    episodes, returns = [episode for episode, _ in points], [value for _, value in points]
    chart = phase_charts.learning_curve(episodes, returns, best, "episodes learned from")
    caption = "Returns of 200 episodes apart from those that were learned from; the optimum is of the table above."
    return [Chart(charts.to_svg(chart, "learning curve"), "Learning curve", [caption])]


def write_transfer(folder: Path, record: Mapping[str, Any], transfer: "Transfer", command_line: str) -> None:
    """Write the policy, the animation, transfer.json and report.html of a transfer into its folder."""
    from mlcli.methods.control import maps
    from mlcli.reporting import pages
    from mlcli.reporting.pendulums import animation as animations

    task, policies = transfer.task, transfer.results[0].policies
    carried = [name for name in policies if name.startswith(("scaled", "fine-tuned"))][-1]
    policies[carried].save(Run(folder), task=task.trained.task, method=task.trained.method)
    chosen = {"small": "small", "naive": "naive", carried: pendulum_tables.title(carried)}
    shown = {name: policies[name] for name in ("small", "naive", "scaled", carried, "optimum")}
    pendulums = [
        maps.moving(f"{words}: {maps.named(shown[name].pendulum)}", shown[name], task.trained.task)
        for name, words in chosen.items()
    ]
    animation = folder / "animation.gif"
    write_bytes(animation, animations.gif(pendulums))
    write_json(folder / "transfer.json", record)
    titles = {name: pendulum_tables.title(name) for name in shown}
    page = pages.render(
        "report.html",
        title=f"{folder.name}: mlcli pendulum-transfer",
        command_line=command_line,
        sections=[
            Section(
                "Result",
                [
                    Table(
                        pendulum_tables.COLUMNS[record["task"]],
                        pendulum_tables.table_rows(record),
                        "",
                        pendulum_tables.CAPTION,
                    )
                ],
            ),
            Section("Similarity", _similarity(record), pendulum_tables.scaling_text(record)),
            Section("Animation", [sections.from_file(animation, "From rest; the clocks differ by the units of time")]),
            *_drawn(
                [maps.policy_map(titles[name], policy) for name, policy in shown.items()],
                [maps.portrait(titles[name], policy, task.trained.task) for name, policy in shown.items()],
            ),
        ],
        inside=[],
        made_by=[
            option_section("pendulum-transfer", record["options"]),
            Section("Versions", [sections.of_values(record["versions"], ("software", "version"))]),
        ],
    )
    write_text(folder / "report.html", page)


def _similarity(record: Mapping[str, Any]) -> list[Table]:
    """The dimensionless groups, both pendulums, and what was identified."""
    groups = Table(("dimensionless group", "small", "large", "large / small"), pendulum_tables.similarity_text(record))
    names = list(record["small"])
    columns = {"small": record["small"], "large": record["large"]}
    columns |= {
        f"identified, seed {seed}": each for seed, each in zip(record["seeds"], record["identified"], strict=False)
    }
    rows = [(UNITS.get(name, name), *(f"{column[name]:.6g}" for column in columns.values())) for name in names]
    return [groups, Table(("", *columns), rows, "Pendulums")]
