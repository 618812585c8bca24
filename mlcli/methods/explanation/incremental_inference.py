"""The values of a network for many images that differ from one image within a small square each.

Most values of the first layers are those of that one image: a layer's value differs only where its receptive field
meets the square. So the network is divided at maps that all its paths pass through, and in each division only a crop of
the map is computed, the square with what is around it that its layers need; what comes out is put in the place of the
image's own values, as soon as the crop would be as large as the map (Nakandala et al. 2019, Krypton).

Crops begin at multiples of the stride, so that windows and padding fall as they do in the whole map. Whether that gives
the values of the whole network is tried out, and otherwise less of the network is divided.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor

import torch
from torch import Tensor, fx

from mlcli.models.model import Model
from mlcli.models.structure.features import Activations
from mlcli.models.structure.graph import WHOLE, Layer, graph_of

WORTH = 0.75  # a crop that is a larger fraction of its map saves too little
AFTER = "after"
EXACT = 1e-4  # the largest difference, relative to the values, by which a division is taken for exact


@dataclass(frozen=True)
class Window:
    """The positions of one map that one position of a later map depends on, along an axis.

    Position o depends on o * stride + first up to o * stride + first + count - 1, as far as they are in the map.
    """

    count: int
    first: int
    stride: int

    @classmethod
    def between(cls, before: tuple[float, float, float], after: tuple[float, float, float]) -> "Window | None":
        """Of two layers by (size, start, stride) of their receptive fields; None where it is no whole number."""
        stride = after[2] / before[2]
        count = (after[0] - before[0]) / before[2] + 1
        first = (after[1] - before[1]) / before[2]
        if any(number != int(number) for number in (stride, count, first)):
            return None
        return cls(int(count), int(first), int(stride))

    def outputs(self, start: int, end: int, length: int) -> tuple[int, int]:
        """(start, end) of the positions, of `length`, that depend on any position from start to end - 1."""
        low = ceil((start - self.first - self.count + 1) / self.stride)
        high = floor((end - 1 - self.first) / self.stride) + 1
        return min(max(0, low), length - 1), min(max(1, high), length)

    def inputs(self, start: int, end: int, length: int) -> tuple[int, int]:
        """(start, end) of the positions, of `length`, that the positions from start to end - 1 depend on."""
        return max(0, start * self.stride + self.first), min(length, (end - 1) * self.stride + self.first + self.count)


@dataclass(frozen=True)
class Cuts:
    """Of many squares, along one axis: crops of one length in the map before, and what they give in the map after.

    crops: where each begins.  length: of the crops.  patches, size: the same of what differs in the map after.
    """

    crops: tuple[int, ...]
    length: int
    patches: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, window: Window, starts: Sequence[int], size: int, before: int, after: int) -> "Cuts | None":
        """starts, size: of what differs in the map before, whose length is `before`. None where cuts are not exact."""
        stride = window.stride
        if before % stride or before // stride != after:
            return None  # padding depends on the length
        changed = [window.outputs(start, start + size, after) for start in starts]
        patch = max(end - start for start, end in changed)
        patches = [min(start, after - patch) for start, _ in changed]
        needed = [window.inputs(start, start + patch, before) for start in patches]
        aligned = [start // stride * stride for start, _ in needed]
        length = max(end - start for start, (_, end) in zip(aligned, needed, strict=True))
        length = ceil(length / stride) * stride
        if length > before:
            return None
        return cls(tuple(min(start, before - length) for start in aligned), length, tuple(patches), patch)


class Division:
    """A part of the network from one map (None: the images) to another.

    module: computes it.  rest: computes from the map after it what is wanted in the end.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        rest: fx.GraphModule,
        before: Layer | None,
        after: Layer,
        size: tuple[int, int],
    ) -> None:
        """size: (height, width) of the map before."""
        self.module, self.rest, self.size = module, rest, size
        self.after = (after.shape[1], after.shape[2])
        pixel = (1.0, 0.0, 1.0)
        first = (pixel, pixel) if before is None else _axes(before)
        self.windows = [Window.between(a, b) for a, b in zip(first, _axes(after), strict=True)]

    def cuts(self, corners: Sequence[tuple[int, int]], sides: tuple[int, int]) -> tuple[Cuts, Cuts] | None:
        """By rows and by columns, of squares by (top, left) and their sides; None where they are not worth while."""
        found = []
        for axis, window in enumerate(self.windows):
            starts = [corner[axis] for corner in corners]
            cuts = window and Cuts.of(window, starts, sides[axis], self.size[axis], self.after[axis])
            if not cuts:
                return None
            found.append(cuts)
        rows, columns = found
        area = rows.length * columns.length / (self.size[0] * self.size[1])
        return (rows, columns) if area <= WORTH else None

    def __call__(self, maps: Tensor) -> Tensor:
        return self.module.forward(maps)[AFTER]


Plan = list[tuple[Division, Cuts, Cuts]]


class IncrementalNetwork:
    """Computes the values of layers for variations of an image, each of which differs within one square."""

    def __init__(self, model: Model, activations: Activations, addresses: Sequence[str]) -> None:
        """activations: of the wanted `addresses`, and of those of `stages`, which are maps on the way."""
        self.addresses = list(addresses)
        self.whole = activations.extractor
        self.nodes = activations.nodes
        outputs: Mapping[str, fx.Node] = activations.extractor.graph.output_node().args[0]  # type: ignore[assignment]
        wanted = {address: outputs[self.nodes[address]] for address in self.addresses}
        size = (model.preprocessing.crop,) * 2
        self.divisions: list[Division] = []
        self._exact: dict[tuple[int, ...], int] = {}  # how many divisions are, by size and number of the squares
        layer, start = None, None
        for after in stages(model):
            end = outputs[self.nodes[after.address]]
            module, rest = between(self.whole, start, {AFTER: end}), between(self.whole, end, wanted)
            if module is None or rest is None:
                break
            self.divisions.append(Division(module, rest, layer, after, size))
            layer, start, size = after, end, (after.shape[1], after.shape[2])

    def __call__(
        self, image: Tensor, filling: Tensor, corners: Sequence[tuple[int, int]], side: int, chunk: int
    ) -> Iterator[Mapping[str, Tensor]]:
        """The values for an image (1, C, H, W) with the square at each corner (top, left) from the `filling`.

        filling: (1, C, H, W) or a color (1, C, 1, 1). Squares end at the image's border. Yields the values, by address,
        of up to `chunk` of them at a time.
        """
        height, width = image.shape[2:]
        filling = filling.expand_as(image)
        plan = self._plan(image, filling, corners, side)
        own = self._own(image, plan)
        for first in range(0, len(corners), chunk):
            part = range(first, min(first + chunk, len(corners)))
            yield self._values(own, filling, corners, side, plan, part)

    def _plan(self, image: Tensor, filling: Tensor, corners: Sequence[tuple[int, int]], side: int) -> Plan:
        """The divisions that are worth while and exact, with their cuts."""
        plan: Plan = []
        starts, sides = _inside(corners, side, image)
        for division in self.divisions:
            cuts = division.cuts(starts, sides)
            if cuts is None:
                break
            rows, columns = cuts
            plan.append((division, rows, columns))
            starts, sides = list(zip(rows.patches, columns.patches, strict=True)), (rows.size, columns.size)
        key = (side, len(corners))
        if key not in self._exact:
            some = sorted({0, len(corners) // 2, len(corners) - 1})
            expected, own = self._values([image], filling, corners, side, [], some), self._own(image, plan)
            while plan and not _equal(self._values(own, filling, corners, side, plan, some), expected):
                plan.pop()
            self._exact[key] = len(plan)
        return plan[: self._exact[key]]

    def _own(self, image: Tensor, plan: Plan) -> list[Tensor]:
        """The image and its maps (1, K, H, W) after each division."""
        maps = [image]
        for division, _, _ in plan:
            maps.append(division(maps[-1]))
        return maps

    def _values(
        self,
        own: Sequence[Tensor],
        filling: Tensor,
        corners: Sequence[tuple[int, int]],
        side: int,
        plan: Plan,
        part: Sequence[int],
    ) -> Mapping[str, Tensor]:
        """The values for the squares of these numbers. own: the image and its maps, at least up to the plan's end."""
        image = own[0]
        starts, (height, width) = _inside(corners, side, image)
        patches = []
        for number in part:
            (top, left), (row, column) = corners[number], starts[number]
            patch = image[:, :, row : row + height, column : column + width].clone()
            square = (..., slice(top - row, None), slice(left - column, None))
            patch[square] = filling[:, :, row : row + height, column : column + width][square]
            patches.append(patch)
        found = torch.cat(patches)
        for base, (division, rows, columns) in zip(own, plan, strict=False):
            crops = [(rows.crops[n], columns.crops[n]) for n in part]
            there = _pasted(base, crops, (rows.length, columns.length), found, [starts[n] for n in part])
            after = division(there)
            down, right = division.windows[0], division.windows[1]
            assert down is not None and right is not None  # those without have no cuts
            starts = list(zip(rows.patches, columns.patches, strict=True))
            corner = [
                (starts[n][0] - rows.crops[n] // down.stride, starts[n][1] - columns.crops[n] // right.stride)
                for n in part
            ]
            found = torch.stack(
                [
                    each[:, top : top + rows.size, left : left + columns.size]
                    for each, (top, left) in zip(after, corner, strict=True)
                ]
            )
        base = own[len(plan)]
        size = (base.shape[2], base.shape[3])
        maps = _pasted(base, [(0, 0)] * len(part), size, found, [starts[n] for n in part])
        if plan:
            return plan[-1][0].rest.forward(maps)
        values = self.whole.forward(maps)
        return {address: values[self.nodes[address]] for address in self.addresses}


def _inside(
    corners: Sequence[tuple[int, int]], side: int, image: Tensor
) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """(corners of squares of one size that lie in the image and hold the given ones, their height and width)."""
    height, width = min(side, image.shape[2]), min(side, image.shape[3])
    return [(min(top, image.shape[2] - height), min(left, image.shape[3] - width)) for top, left in corners], (
        height,
        width,
    )


def _pasted(
    base: Tensor,
    crops: Sequence[tuple[int, int]],
    size: tuple[int, int],
    patches: Tensor,
    starts: Sequence[tuple[int, int]],
) -> Tensor:
    """Crops (N, K, *size) of a map (1, K, H, W), in each of which is a patch. crops, starts: (top, left) in the map."""
    found = torch.cat([base[:, :, top : top + size[0], left : left + size[1]] for top, left in crops])
    height, width = patches.shape[2:]
    for each, patch, (top, left), (row, column) in zip(found, patches, crops, starts, strict=True):
        low, high = max(row, top), min(row + height, top + size[0])
        near, far = max(column, left), min(column + width, left + size[1])
        each[:, low - top : high - top, near - left : far - left] = patch[
            :, low - row : high - row, near - column : far - column
        ]
    return found


def _equal(values: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return all((values[address] - one).abs().max() <= EXACT * one.abs().max() for address, one in expected.items())


def stages(model: Model) -> list[Layer]:
    """The maps at which a network may be divided: all paths pass through them, and their receptive fields are known.

    Of several in a row with the same receptive field the last.
    """
    graph = graph_of(model)
    passed = graph.passages()
    found: list[Layer] = []
    for number, layer in enumerate(graph.layers):
        if not layer.is_map or WHOLE in layer.field:
            if WHOLE in layer.field:
                break
            continue
        if number not in passed:
            continue
        if found and found[-1].field == layer.field:
            found.pop()
        found.append(layer)
    return found


def _axes(layer: Layer) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """(size, start, stride) of the receptive field along the rows and along the columns."""
    field = layer.field
    return (field.height, field.top, field.stride), (field.width, field.left, field.stride)


def between(extractor: fx.GraphModule, start: fx.Node | None, ends: Mapping[str, fx.Node]) -> fx.GraphModule | None:
    """A module that computes these nodes from the values of the node `start`, or from the images.

    None where they cannot be computed from these alone.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    needed, ahead = set[fx.Node](), [node for node in ends.values()]
    while ahead:
        node = ahead.pop()
        if node is start or node in needed:
            continue
        if node.op == "placeholder" and start is not None:
            return None
        needed.add(node)
        ahead += node.all_input_nodes
    if start is not None:
        copies[start] = graph.placeholder("values")
    for node in extractor.graph.nodes:
        if node in needed:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output({name: copies[node] for name, node in ends.items()})
    return fx.GraphModule(extractor, graph)
