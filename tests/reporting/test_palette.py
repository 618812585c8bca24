from mlcli.reporting.palette import COLORS, class_colors


def test_every_class_has_its_own_color_and_the_background_is_black():
    palette = class_colors(20).tolist()
    assert palette[0] == [0, 0, 0] and tuple(palette[1]) == COLORS[0]
    assert len({tuple(color) for color in palette}) == 20
    assert palette[8] == [round(value * 0.75) for value in COLORS[0]]
