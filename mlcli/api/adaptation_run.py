"""One method of `mlcli adapt` in its run folder: the seeds, their stages, the table, the model that is handed out."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from mlcli.api import runs
from mlcli.api.adaptation_data import Data
from mlcli.data.domains import Domain
from mlcli.imaging.image_io import write
from mlcli.io.files import write_json
from mlcli.methods.adaptation import projection, results, supervised_stage
from mlcli.methods.adaptation.context import AdaptationContext, AdaptationResult, frozen
from mlcli.methods.adaptation.registry import METHODS, Adaptation
from mlcli.methods.adaptation.results import SeedResult
from mlcli.models import artifacts, translators
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.training.method import Method
from mlcli.training.plan import Plan
from mlcli.training.run_folder import Run

STAGE = "adapt (a stage of the run in ../..)"  # the command of the run folder of a stage
# Stages that know nothing of the method: the same training where the configurations agree in what all methods have.
COMMON_STAGES = ("source", "target")


@dataclass(frozen=True)
class MethodRun:
    """The seeds of one method, whose stages are run folders FOLDER/seed-N/STAGE.

    stages_of: the run of another method, in whose folder the common stages are; None where they are in this one's.
    """

    folder: Run
    options: Mapping[str, Any]
    config: Adaptation
    data: Data
    source_model: Model | None
    runtime: Runtime
    processes: Processes
    save_every: float
    stages_of: Run | None = None

    def trains_the_same_source_model(self, other: "MethodRun") -> bool:
        """Whether the common stages of the two are the same training."""
        names = [each.name for each in fields(Adaptation)]
        return all(getattr(self.config, name) == getattr(other.config, name) for name in names)

    def results(self, disagreements: list[str]) -> dict[str, Any]:
        """What is in the table. It is measured, unless it is there for this test set and as many seeds."""
        result = self.folder.results()
        keep = self.options.get("keep", "best")  # runs of earlier versions have no such option
        measured_on = {"seeds": self.options["seeds"], "test": self.data.summary().get("test", {}).get("hash")}
        measured_on["keep"] = keep
        if result.get("measured_on") == measured_on:
            return result
        seeds = []
        for number in range(self.options["seeds"]):
            context = self.context(number)
            adapted = METHODS[self.options["method"]].adapt(context)
            seeds.append(results.measure(context, adapted, self.data.test, self._supervised(context, number)))
            if number == 0 and self.processes.main:
                self._save(adapted, seeds[0].kept(keep))
        result = {"method": self.options["method"], "task": self.options["task"]}
        result |= results.result(seeds, self.options["task"], self.data.classes, self.data.test, keep)
        result |= {"measured_on": measured_on, "guards": disagreements + result["guards"]}
        if self.processes.main:
            self._write_images(seeds[0])
            self.folder.save_results(result)  # last: it says that everything else is there
        return result

    def context(self, number: int) -> AdaptationContext[Adaptation]:
        """What the method is given for the seed of this number."""
        seed = self.options["seed"] + number

        def stage(name: str) -> Run:
            owner = self.stages_of if self.stages_of and name in COMMON_STAGES else self.folder
            return owner.part(f"seed-{seed}", name)

        def fit(run: Run, method: Method, plan: Plan) -> None:
            if self.processes.main:
                written = {"method": self.options["method"], "stage": run.folder.name, "seed": seed}
                written |= {name: getattr(self.config, name) for name in ("model", "pretrained", "weights")}
                runs.start(run, STAGE, written, {}, resume=True)
            self.processes.wait()
            runs.fit(run, method, replace(plan, save_every=self.save_every), self.processes)

        source, held_out = self.data.source.subset(self.options["max_source"], seed), None
        if (fraction := self.options.get("hold_out")) is not None:
            source, held_out = source.split(fraction, seed)
        target, source_model = self._drawn(self.data.target, number), None
        if self.source_model:  # at the size of these images, and so that no seed changes what the next one begins with
            preprocessing = replace(self.source_model.preprocessing, resize=None, crop=target.size, squash=False)
            source_model = replace(self.source_model, preprocessing=preprocessing)
            source_model.network = copy.deepcopy(source_model.network).to(self.runtime.device)
        return AdaptationContext(
            source,
            target,
            self.data.classes,
            self.config,
            seed,
            self.runtime,
            self.processes,
            stage,
            fit,
            held_out,
            source_model and frozen(source_model),
        )

    def _drawn(self, target: Domain, number: int) -> Domain:
        """The part of the target that the seed of this number takes."""
        return target.subset(self.options["max_target"], self.options["seed"] + number)

    def _supervised(self, context: AdaptationContext[Adaptation], number: int) -> Model | None:
        """The model that is trained on the labels of the target, where these are to be used."""
        if self.data.labeled_target is None:
            return None
        return supervised_stage.train(context, "target", self._drawn(self.data.labeled_target, number))

    def _save(self, adapted: AdaptationResult, kept: str) -> None:
        """Write the model that is kept, "adapted" or "source_only", and a translator where there is one."""
        method = self.options["method"]
        model = adapted.model if kept == "adapted" else adapted.source_only
        description = model.describe() | {"method": method if kept == "adapted" else "source only"}
        artifacts.save(self.folder.model_file, model.network.state_dict(), description)
        if made := adapted.translator:
            translators.save_file(self.folder.translator_file, {"AtoB": made}, {"AtoB": made.network}, method=method)

    def _write_images(self, seed: SeedResult) -> None:
        """Write the samples: translated images, and the features of both domains before and after."""
        from mlcli.reporting import charts

        if seed.features:
            planes = projection.before_and_after(*seed.features)
            write(charts.to_image(projection.chart(planes)), self.folder.domains_image)
            write_json(self.folder.domains_file, projection.as_json(planes))
        for name, image in seed.images.items():
            write(image, self.folder.samples_folder / f"{name}.png")
