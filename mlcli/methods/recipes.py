"""The options of the training methods and their defaults; without torch, since the command line reads it for --help."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Supervised:
    """`mlcli train`; the defaults made the embedded network."""

    epochs: int = 30
    batch_size: int = 1000
    optimizer: str = "muon"
    lr: float = 0.08
    momentum: float = 0.85
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    schedule: str = "one-cycle"
    flip: bool = True
    translate: int = 4
    cutout: int = 8
    cutmix: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Analogy:
    """`mlcli analogy`; the defaults learn a filter, ANALOGIES has those of every mode.

    inputs: the pictures that the mode takes. texture: A' is a texture to be laid out anew, not a picture in its place.
    """

    inputs: tuple[str, ...] = ("A", "A_PRIME", "B")
    texture: bool = False
    match: str = "luminance"
    color: str = "auto"
    remap: str = "none"
    kappa: float = 0.5
    source_weight: float = 3.0
    levels: int = 5
    passes: int = 2
    seed: int = 0


ANALOGIES = {
    "filter": Analogy(),
    "texture-transfer": Analogy(
        ("TEXTURE", "B"), texture=True, color="a-prime", remap="b", kappa=2.0, source_weight=0.3, passes=4
    ),
    "texture-synthesis": Analogy(("TEXTURE",), texture=True, color="a-prime", kappa=2.0, source_weight=0.0, passes=4),
    # Over a flat colour nothing but A' guides the coarse levels, which then repeat the few patches that fit best
    "texture-by-numbers": Analogy(
        texture=True, match="color", color="a-prime", kappa=6.0, source_weight=1.0, levels=3, passes=4
    ),
}
