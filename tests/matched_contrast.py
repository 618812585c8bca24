"""A method of adaptation that trains nothing, for the tests: target images at the contrast of the source.

The mean and standard deviation by which the source model normalizes its images are replaced, so that normalized target
images have the moments of normalized source images. `weight` mixes both, as (1 - weight) source + weight target.
"""

from dataclasses import dataclass, replace

from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.context import AdaptationContext, AdaptationResult
from mlcli.methods.adaptation.registry import Adaptation
from mlcli.options import option


@dataclass(frozen=True)
class MatchedContrast(Adaptation):
    weight: float = option(1.0, "Weight of the target in the moments.", minimum=0, maximum=1)


def adapt(context: AdaptationContext[MatchedContrast]) -> AdaptationResult:
    """Stages: source."""
    f, weight = supervised_stage.train(context, "source", context.source), context.config.weight
    (source, spread), (target, other) = (
        (values.mean().item(), values.std().item())
        for values in (context.source.images.float() / 255, context.target.images.float() / 255)
    )
    scale = weight * other / spread + 1 - weight
    offset = weight * (target - source * other / spread)
    own = f.preprocessing
    mean, std = tuple(scale * m + offset for m in own.mean), tuple(scale * s for s in own.std)
    model = replace(f, preprocessing=replace(own, mean=mean, std=std))
    return AdaptationResult(f, model, [context.stage("source")], facts={"contrast": other / spread})
