"""The report's figures: which there are, what they show, and that those of an unchanged report are drawn once."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from codemmlu.engine.adapter_store import Point
from codemmlu.report import figures, summary
from codemmlu.report.canvas import Figure
from codemmlu.report.results import OrderSensitivity
from codemmlu.report.schema import ModelReport, Report, TrainingReport, VoterCalibration, VoterReport
from codemmlu.run_dir import RunDir
from codemmlu.voting.costs import cost_sums
from tests.support.reports import report_of
from tests.support.rows import answer, question
from tests.support.score_tables import Said, sheet

LONG = "a_voter.with-a-name-of-64-characters".ljust(64, "x")


@pytest.fixture(scope="module")
def report() -> Report:
    """What figures need to know of a report with two voters."""
    good: list[Said] = [*[("A", 0.9)] * 15, *[("B", 0.6)] * 5]
    said: dict[str, list[Said]] = {"good": good, LONG: good[::-1]}
    whole = sheet(["A"] * 20, said, rules={"log_pool": good})
    costs = cost_sums([answer(question())])
    return report_of(
        questions=20,
        chance=0.25,
        letters_right={"A": 20},
        models={"m": ModelReport(source="m", parameters=135_000_000)},
        voters={name: VoterReport(**vars(summary.voter(whole, name, costs)), rank=None, model="m") for name in said},
        vote=summary.vote(whole, "log_pool"),
        order_sensitivity={"good": OrderSensitivity(asked=20, accuracy={"A": 0.9, "B": 0.4}, std=0.25)},
        training=TrainingReport(
            name="tuned",
            backend="peft",
            device="cpu",
            train_examples=90,
            steps=4,
            best_step=2,
            train=tuple(Point(step=step, loss=2 - step / 4) for step in range(4)),
            tune=(Point(step=2, loss=1.5, accuracy=0.5), Point(step=4, loss=1.6, accuracy=0.4)),
        ),
    )


@pytest.fixture(scope="module")
def drawn(report: Report) -> list[Figure]:
    """All figures of that report."""
    return figures.figures(report)


def texts(figure: Figure) -> list[str]:
    """Return the texts that a figure shows; it is XML, or this fails."""
    root = ElementTree.fromstring(figure["svg"].replace("xlink:href", "href"))
    assert not {element.tag.rpartition("}")[2] for element in root.iter()} & {"script", "image", "foreignObject"}
    return ["".join(element.itertext()).strip() for element in root.iter() if element.tag.endswith("text")]


def test_there_is_a_figure_for_everything_measured(drawn: list[Figure]) -> None:
    shown = {figure["title"]: texts(figure) for figure in drawn}
    assert list(shown) == [
        "Accuracy against model size",
        "Accuracy against cost",
        "Accuracy at coverage",
        "Reliability",
        "Predicted and right letters",
        "Order sensitivity",
        "Loss while training",
        "Accuracy while training, one reading",
    ]
    assert {"good", f"{LONG[:21]}...", "vote", "guessing"} <= set(shown["Accuracy at coverage"])
    assert {"good", "Coder 32B"} <= set(shown["Accuracy against model size"])
    assert "good (0.250)" in shown["Order sensitivity"]
    assert {"right", "A", "B"} <= set(shown["Predicted and right letters"])


def test_what_was_not_measured_has_no_figure(report: Report, drawn: list[Figure]) -> None:
    """And the others are the same to the last byte, as the report of the same run is."""
    unknown = {"models": {"m": ModelReport(source="m")}, "order_sensitivity": None, "training": None}
    less = report.model_copy(update=unknown)
    assert figures.figures(less) == drawn[1:5]
    calibration = VoterCalibration(as_said=None, fitted=None)
    silent = report.voters["good"].model_copy(update={"coverage": [], "calibration": calibration, "letters_said": {}})
    # One voter alone has nothing to compare its cost with.
    assert figures.figures(less.model_copy(update={"voters": {"good": silent}, "letters_right": {}})) == []


def test_figures_take_the_colour_and_width_of_the_page(drawn: list[Figure]) -> None:
    for figure in drawn:
        head = figure["svg"].partition(">")[0]
        assert f'role="img" aria-label="{figure["title"]}"' in head
        assert not re.search(r' (width|height)="', head)
        assert "currentColor" in figure["svg"]
        assert "#ffffff" not in figure["svg"]


def test_no_figure_refers_to_a_part_of_another(drawn: list[Figure]) -> None:
    """All stand in one page, where a name means the first thing that has it."""
    names = [set(re.findall(r'(?:url\(|href=")#([^)"]+)', figure["svg"])) for figure in drawn]
    assert all(names)
    assert sum(map(len, names)) == len(set().union(*names))


def test_an_unchanged_report_is_drawn_once(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float | None] = []

    def draw(report: Report) -> list[Figure]:
        calls.append(report.chance)
        return [{"title": str(report.chance), "note": "", "svg": ""}]

    monkeypatch.setattr(figures, "figures", draw)
    run = RunDir(str(tmp_path))
    first = figures.stored_figures(run, report)
    assert figures.stored_figures(run, report) == first == [{"title": "0.25", "note": "", "svg": ""}]
    assert figures.stored_figures(run, report.model_copy(update={"chance": 0.3})) == [
        {"title": "0.3", "note": "", "svg": ""}
    ]
    assert calls == [0.25, 0.3]
