import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread

from tgscale.errors import RunError
from tgscale.report.palette import THEMES
from tgscale.report.report import make_report
from tgscale.report.runs import read_runs
from tgscale.report.sections.curves import kept_of
from tgscale.report.sections.degree import bins_of


class Page(HTMLParser):
    """The page's words, and what it refers to; every element is closed in order."""

    VOID = ("meta", "link", "br", "hr", "img", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "xlink:href", "action"):
                self.references.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.words.append(data.strip())


def test_the_page_says_what_the_runs_say(runs):
    page = Page(make_report(runs).html())
    metrics = ("0.5000", "0.7000", "0.6000", "rule: recency", "DistTGL 1x1x1", "0.8354", "1.2000")
    for word in (*metrics, "layout 2x1x2", "train.lr", "0.5", "imbalance of the devices", "s: a note"):
        assert word in page.words, word
    assert any(re.fullmatch(r".*, test MRR (above|below) the best rule \(.*\).*\.", word) for word in page.words)
    assert any("c has no result.json" in word.lower() for word in page.words)


def test_the_page_needs_nothing_from_elsewhere_and_its_ids_are_unique(runs):
    text = make_report(runs).html()
    page = Page(text)
    assert {reference for reference in page.references if not reference.startswith(("#", "data:,"))} == set()
    assert len(page.ids) == len(set(page.ids))
    assert {reference[1:] for reference in page.references if reference.startswith("#")} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)
    assert "<script" not in text
    for address in re.findall(r"https?://[^\s\"'<]+", text):
        assert address.startswith("http://www.w3.org/"), address  # names of namespaces


def test_figures_on_the_page_have_the_colours_of_the_theme(runs):
    text = make_report(runs).html()
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.S))
    for name, (light, _, _) in THEMES.items():
        assert light not in drawings, f"{name} is {light} in both themes"
    used = set(re.findall(r"var\(--([\w-]+)\)", text)) - {"w", "font"}
    assert used <= set(THEMES)
    assert {"ink", "grid", "c0", "nn"} <= used


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'a"onload="b', "&amp;"])
def test_names_are_words_and_no_markup(tmp_path, name, make_run):
    run = make_run(tmp_path / "run", data=name.replace("/", ""))
    text = make_report([run]).html()
    Page(text)
    assert "<script" not in text
    assert 'onload="b' not in text


def test_figures_as_values(runs):
    figures = json.loads(json.dumps(make_report(runs).figures()))
    assert [(run["name"], run["metric"], run["finished"]) for run in figures["runs"]] == [
        ("a", "mrr", True), ("b", "mrr", True), ("c", "mrr", False), ("s", "rmse", True),
    ]  # fmt: skip
    result = figures["result"]["wikipedia: link prediction"]
    assert result["runs"] == {"a": {"mrr": 0.5, "ap": 0.9, "auc": 0.8}, "b": {"mrr": 0.7, "ap": 0.9, "auc": 0.8}}
    (ours,) = (each for each in result["published"] if each["system"] == "DistTGL 1x1x8")
    assert (ours["data"], ours["metric"], ours["value"]) == ("wikipedia", "mrr", 0.83)
    assert figures["degree"]["a"]["destination"]["0"] == {"events": 150, "mrr": 0.5}
    assert figures["degree"]["a"]["new nodes"] == {"events": 30, "mrr": 0.5}
    assert figures["captured"]["b"] == json.loads((runs[0] / "result.json").read_text())["captured"]
    (step, *_) = figures["time"]["a"]["seconds_per_step"]
    assert step == pytest.approx(
        {"total": 0.1, "forward": 0.04, "backward": 0.03, "read memory": 0.01, "everything else": 0.02}
    )
    assert figures["time"]["a"]["beside"] == pytest.approx({"sample": 0.02})
    assert figures["layout"]["a"]["layout"] == "2x1x2"
    assert figures["layout"]["s"]["imbalance"] == [1.2, 1.1]
    assert figures["timeline"]["a"]["lanes"]["trainer 0"]["backward"] == pytest.approx(3 * 4.0)
    assert len(figures["curves"]["c"]) == 3
    assert any("b has no test_scores.npz" in each for each in figures["missing"]["degree"])


def test_published_figures_stand_beside_runs_of_that_protocol_alone(tmp_path, make_run):
    run = make_run(tmp_path / "run")
    file = run / "result.json"
    result = json.loads(file.read_text())
    result["protocol"]["name"] = "mine"
    file.write_text(json.dumps(result))
    assert make_report([run]).figures()["result"]["wikipedia: link prediction"]["published"] == []


def test_drawings_as_files(runs, tmp_path):
    files = make_report(runs).save_figures(tmp_path / "figures")
    assert sorted(files) == sorted((tmp_path / "figures").iterdir())
    assert {file.suffix for file in files} == {".svg", ".png"}
    names = {file.stem for file in files}
    assert {
        "result-0",
        "curves-val_mrr-epoch",
        "degree-source",
        "captured-1",
        "time-0",
        "schedule-1",
        "timeline-0",
    } <= names
    assert len(names) * 2 == len(files)
    for file in files:
        if file.suffix == ".png":
            assert imread(file)[0, 0].tolist() == [1, 1, 1, 1]
        else:
            assert "var(--" not in file.read_text()


def test_a_run_with_a_config_alone_has_a_report(tmp_path, make_run):
    run = make_run(tmp_path / "run", None)
    (run / "metrics.jsonl").unlink()
    page = Page(make_report([run]).html())
    at = page.words.index("What is not shown, and why", page.words.index("Options"))
    assert any(word.startswith("Learning curves: run has no validation yet") for word in page.words[at:])
    assert any("has no timeline.json: train with --profile" in word for word in page.words[at:])
    assert {"curves", "timeline"}.isdisjoint(page.ids)  # sections of which nothing is there


def write_result(run, **changes):
    file = run / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return run


def test_figures_of_the_best_run_say_whose_they_are(runs):
    page = Page(make_report(runs[:2]).html())
    assert "Of the best run, b:" in page.words
    assert page.words[page.words.index("Of the best run, b:") + 1] == "0.7000"
    assert not any("best run" in word for word in Page(make_report(runs[:1]).html()).words)


def test_negatives_are_named_where_there_are_any(tmp_path, make_run, make_snapshot_run):
    link, values = make_run(tmp_path / "link"), make_snapshot_run(tmp_path / "values")
    for paths, words in (
        ([link], "the same events and negatives."),
        ([values], "the same labels."),
        ([link, values], "the same events and negatives, or labels."),
    ):
        assert make_report(paths).sections[0].lead.endswith(words)


def test_the_ring_is_where_the_weights_were_kept(tmp_path, make_run):
    run = make_run(tmp_path / "run", scores=False)
    lines = [{"kind": "epoch", "epoch": e, "loss": 1.0, "val_mrr": mrr} for e, mrr in ((1, 0.2), (2, 0.6), (3, 0.4))]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (read,) = read_runs([run])
    assert kept_of(read) == 2  # as the result says: best_epoch is 3
    (run / "result.json").unlink()
    (read,) = read_runs([run])
    assert kept_of(read) == 1
    read.lines = [{"epoch": e, "val_rmse": rmse} for e, rmse in ((1, 0.9), (2, 0.5), (3, 0.5))]
    assert kept_of(read) == 1
    read.lines = []
    assert kept_of(read) is None


def test_bars_that_are_left_out_are_counted(tmp_path, make_run):
    run = make_run(tmp_path / "run", data="mine")
    rules = {f"rule{at}": {"mrr": at / 10} for at in range(7)}
    (drawing, *_) = make_report([write_result(run, baselines=rules)]).sections[0].drawings
    assert drawing.note.startswith("And 3 more rules in the table; 49 negatives")
    assert "more" not in make_report([write_result(run, baselines={})]).sections[0].drawings[0].note


def test_runs_of_one_name_are_told_apart(tmp_path, make_run):
    paths = [make_run(tmp_path / name / "run") for name in "xy"]
    assert [run.name for run in read_runs(paths)] == ["x/run", "y/run"]


def test_what_is_no_run_or_damaged_is_refused(tmp_path, make_run):
    run = make_run(tmp_path / "run")
    with pytest.raises(RunError, match="not a run directory"):
        make_report([tmp_path])
    with pytest.raises(RunError, match="given twice"):
        make_report([run, tmp_path / "." / "run"])
    for file, text in (("result.json", "{"), ("timeline.json", "[]"), ("test_scores.npz", "no zip")):
        damaged = tmp_path / f"damaged-{file}"
        shutil.copytree(run, damaged)
        (damaged / file).write_text(text)
        with pytest.raises(RunError, match=file):
            make_report([damaged])


def test_nothing_is_unpickled(tmp_path, make_run):
    run = make_run(tmp_path / "run")
    np.savez(run / "test_scores.npz", rank=np.array([{"a": 1}], dtype=object))
    with pytest.raises(RunError, match=r"test_scores\.npz cannot be read"):
        make_report([run])


def test_bins_of_degrees():
    values = bins_of(np.array([0, 1, 3, 3, 4, 5000]), np.array([1, 2, 4, 4, 1, 2], np.float32))
    assert values == [(1, 1.0), (3, pytest.approx(1 / 3)), (1, 1.0), (0, None), (0, None), (0, None), (1, 0.5)]


def test_equal_runs_make_equal_pages(tmp_path, make_snapshot_run):
    run = make_snapshot_run(tmp_path / "run")
    assert make_report([run]).html() == make_report([run]).html()


def test_a_run_with_other_metrics_has_a_report(make_run, tmp_path):
    """As of other tasks: metrics by other names, no ranks, nothing captured, and entries that are no numbers."""
    run = make_run(tmp_path / "run", scores=False, profile=False)
    result = json.loads((run / "result.json").read_text())
    result |= {
        "task": "edge classification",
        "protocol": {"name": "f1"},
        "baselines": {"majority": {"f1_micro": 0.25}, "x": 3},
    }
    result["test"] = result["val"] = {"f1_micro": 0.75, "classes": ["a", "b"], "per_class": {"a": 1}}
    del result["captured"]
    (run / "result.json").write_text(json.dumps(result))
    report = make_report([run])
    assert report.figures()["runs"][0]["metric"] == "f1_micro"
    words = Page(report.html()).words
    assert {"0.7500", "0.2500", "F1-micro", "rule: majority"} <= set(words)
    assert any("does not hold what the memory captures" in word for word in words)


@pytest.mark.parametrize("name", ["x$_$y", "_hidden", "a[b]c"])
def test_names_of_runs_stand_in_drawings_as_they_are(tmp_path, make_run, name):
    """Not as formulas, and not left out of the legend, as matplotlib does with what begins with _."""
    runs = [make_run(tmp_path / name, 0.5), make_run(tmp_path / "other", 0.7)]
    files = make_report(runs).save_figures(tmp_path / "figures")
    drawn = [file.read_text() for file in files if file.suffix == ".svg"]
    assert sum(name in text for text in drawn) > 1
    assert [name in text for text in drawn] == ["other" in text for text in drawn]


def test_runs_that_were_asked_different_things_are_not_compared(tmp_path, make_run):
    runs = [make_run(tmp_path / "a", 0.6), make_run(tmp_path / "b", 0.9), make_run(tmp_path / "c", 0.8)]

    def ask(run, **changes):
        result = json.loads((run / "result.json").read_text())
        result["protocol"] |= changes
        result["baselines"]["recency"]["mrr"] = 0.123
        (run / "result.json").write_text(json.dumps(result))

    ask(runs[1], negatives=1, name="ap")
    ask(runs[2], batch_size=99)  # of other batches: the same question
    report = make_report(runs)
    tables = [table for section in report.sections if section.name == "result" for table in section.tables]
    ours = [table for table in tables if "rule: recency" in str(table.rows)]
    assert [[row[0][:2] for row in table.rows if "(" in row[0]] for table in ours] == [["a ", "c "], ["b "]]
    assert "0.1230" in str(ours[1].rows)
    assert "0.1230" not in str(ours[0].rows)
    assert "Of the best run" not in report.html()
    assert "Of the best run" in make_report([runs[0], runs[2]]).html()
    assert len(report.figures()["result"]) == 2


def test_scores_that_were_cut_short_are_refused(tmp_path, make_run):
    run = make_run(tmp_path / "run")
    whole = (run / "test_scores.npz").read_bytes()
    for size in (0, len(whole) // 2):
        (run / "test_scores.npz").write_bytes(whole[:size])
        with pytest.raises(RunError, match=r"test_scores\.npz cannot be read"):
            make_report([run])


def test_letters_on_dark_cells_stay_light_in_both_themes(tmp_path, make_run):
    html = make_report([make_run(tmp_path / "run")]).html()
    letters = re.findall(r"<text[^>]*>", html[html.index("Layout") :])
    assert "#fefefe" in html
    assert not [each for each in letters if "var(--paper)" in each]
