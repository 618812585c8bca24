import math

import torch

from mlcli.reporting import charts
from mlcli.reporting.pendulums.phase_charts import Portrait, StateMap, learning_curve, map_chart, portrait_chart


def test_maps_have_their_values_where_the_states_are():
    values = torch.zeros(4, 3)
    values[3, 2] = 5.0  # angle near pi, greatest velocity
    figure = map_chart(StateMap("a $map$", values, 8.0, "velocity", "torque", signed=True))
    (image,) = figure.axes[0].get_images()
    assert image.get_array()[2, 3] == 5 and image.get_clim() == (-5, 5)
    assert image.get_extent() == [-math.pi, math.pi, -8, 8]
    assert figure.axes[0].get_title(loc="left") == "a $map$"
    assert charts.to_image(figure).width > 300


def test_a_path_has_a_gap_where_the_angle_is_wrapped():
    angles = torch.tensor([[3.0], [3.1], [-3.1], [-3.0]])
    figure = portrait_chart(Portrait("paths", angles, torch.ones(4, 1), 8.0, "velocity"))
    line, start = figure.axes[0].get_lines()
    assert [math.isnan(x) for x in line.get_xdata()] == [False, False, True, False, False]
    assert list(start.get_xdata()) == [3.0]


def test_the_optimum_is_a_line_beside_what_is_learned():
    figure = learning_curve([1, 2, 3], [-1000, None, -150], -136.0, "episodes")
    learned, optimum = figure.axes[0].get_lines()
    assert list(optimum.get_ydata()) == [-136, -136] and list(optimum.get_xdata()) == [1, 3]
