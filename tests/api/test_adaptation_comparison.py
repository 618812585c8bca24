"""The choice among methods without a label, and their warnings."""

import pytest

from mlcli.api.adaptation_comparison import _warnings, seems_best


def judged(*kept, guards=()):
    return {"kept": list(kept), "guards": list(guards)}


def entry(before, after, criterion="im", model="adapted"):
    return {"model": model, "criterion": criterion, "source_only": before, "adapted": after, "doubt": ""}


def test_the_highest_criterion_of_what_is_handed_out_is_best():
    found = {"a": judged(entry(0.5, 0.7), entry(0.5, 0.9)), "b": judged(entry(0.5, 1.0), entry(0.5, 0.7))}
    best = seems_best(found)
    assert best["method"] == "b" and best["criterion"] == "im"
    assert best["scores"] == {"a": pytest.approx(0.8), "b": pytest.approx(0.85)}
    found["b"] = judged(entry(0.5, 1.0, model="source_only"), entry(0.5, 0.7))
    assert seems_best(found)["method"] == "a", "of b's first seed the source model is handed out"


@pytest.mark.parametrize("other", (entry(0, 9, criterion="snd"), {"model": "adapted", "doubt": ""}))
def test_methods_that_no_criterion_compares_leave_the_first(other):
    best = seems_best({"a": judged(entry(0.5, 0.7)), "b": judged(other)})
    assert best == {"method": "a", "criterion": None, "scores": {}}


def test_a_warning_of_several_methods_is_given_once():
    found = {
        "a": judged(guards=["of the data", "shifted"]),
        "b": judged(guards=["of the data", "collapsed", "shifted"]),
    }
    assert _warnings(found, 1) == ["a and b: shifted", "b: collapsed"]
