"""Curves of metrics: which share a chart, what is smoothed and says so, and the table of last values."""

from mlcli.reporting import curves


def test_metrics_of_one_quantity_share_a_chart():
    both = {"accuracy": 0.5, "loss_cycle_A": 1.0, "A": 1.0, "loss_cycle_B": 2.0, "once": None, "seconds": 1}
    metrics = [
        {"step": 1, **both, "once": 1.0},
        {"step": 2, **both, "val_accuracy": 0.5},
        {"step": 3, "val_accuracy": 1},
    ]
    accuracy, cycle, single = curves.charts_of(metrics)
    assert accuracy.captions == [
        "accuracy: 50.00% to 50.00%, last 50.00%; steps 1 to 2",
        "val_accuracy: 50.00% to 100.00%, last 100.00%; steps 2 to 3",
    ]
    for word in ("accuracy (fraction)", ">step<", ">training<", ">validation<"):
        assert word in accuracy.svg
    assert cycle.title == "cycle-consistency loss" and ">cycle-consistency loss<" in cycle.svg
    assert ">A<" in cycle.svg and ">B<" in cycle.svg and len(cycle.captions) == 2
    assert ">training<" not in single.svg, "a single curve needs no legend"
    assert curves.charts_of([{"step": 1, "loss": 4.0}]) == []


def test_a_label_is_no_longer_than_its_axis():
    (chart,) = curves.charts_of([{"step": step, "d_AtoB_accuracy": 0.5} for step in (1, 2)])
    assert chart.title == "accuracy of the discriminator" and ">fraction<" in chart.svg


def test_a_curve_of_many_points_is_smoothed_and_says_so():
    few = curves.charts_of([{"step": step, "loss": step % 2} for step in range(curves.SMOOTHED)])[0]
    many = curves.charts_of([{"step": step, "loss": step % 2} for step in range(100)])[0]
    assert "Smoothed" not in few.captions[0]
    assert many.captions[0].endswith("Smoothed: the mean of 4 points; the points themselves are pale")
    assert "opacity" not in few.svg and "stroke-opacity: 0.35" in many.svg


def test_a_moving_average_has_all_points_and_keeps_constants():
    assert curves.moving_average([3.0] * 7, 4) == [3.0] * 7
    assert curves.moving_average([0.0, 3.0, 6.0, 3.0], 3) == [1.5, 3.0, 4.0, 4.5]


def test_the_last_values_are_a_table_of_quantities():
    metrics = [
        {"step": 1, "loss": 2.0, "val_accuracy": 0.25, "seconds": 1},
        {"step": 2, "loss": None, "accuracy": 0.5},
    ]
    table = curves.last_values(metrics)
    assert table.header == ("", "training", "validation")
    assert table.rows == [("loss", "not a finite number", ""), ("accuracy", "50.00%", "25.00%")]
    assert table.caption == "The last value of each, up to step 2."
    assert curves.last_values([]) is None
    assert curves.last_values([{"step": 1, "val_auc": 0.98765}]).rows == [("area under the ROC curve", "0.9877")]
