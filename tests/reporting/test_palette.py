from mlcli.reporting.palette import COLOURS, class_colours


def test_every_class_has_its_own_colour_and_the_background_is_black():
    palette = class_colours(20).tolist()
    assert palette[0] == [0, 0, 0] and tuple(palette[1]) == COLOURS[0]
    assert len({tuple(colour) for colour in palette}) == 20
    assert palette[8] == [round(value * 0.75) for value in COLOURS[0]]
