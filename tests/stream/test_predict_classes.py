"""Classes of new events: the numbers of the evaluation, from day to day, whatever interrupts them."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.stream.task.conftest import TASKS, with_labels
from tgscale.data.append import UNTOLD_CLASSES
from tgscale.data.following import RowOptions
from tgscale.data.generate import generate_stream
from tgscale.data.store import open_stream, save_stream
from tgscale.errors import ConfigError
from tgscale.stream.config import default_config, replace
from tgscale.stream.engine import StreamEngine
from tgscale.stream.predict import predict
from tgscale.stream.predict.run import _Predictions
from tgscale.stream.trainer import load_config, restore_best, train_stream
from tgscale.train.run_start import load_best

SIZE = 40
SIZES = {"model__dim": 8, "train__epochs": 1, "train__batch_size": SIZE, "sampling__neighbors": 4}
KINDS = {
    "binary": {**TASKS["edge"], "task__past": 0},
    "many": TASKS["edge"],
    "marks": TASKS["marks"],
    "state": TASKS["state"],
}


def stream_of(kind, events=500):
    stream = generate_stream(events=events, nodes=40, edge_features=0, seed=3)
    stream = with_labels(dataclasses.replace(stream, num_sources=None), 1, 2 if kind == "binary" else 3)
    names = ("red", "green", "blue")
    if kind == "many":  # the source's own integers, one of which says that there is none
        return dataclasses.replace(stream, label=np.array([7, -3, 40])[stream.label])
    return dataclasses.replace(stream, classes={"edge_classes": names, "label": names[: 2 if kind == "binary" else 3]})


@dataclasses.dataclass
class Work:
    folder: object
    kind: str
    stream: object
    split: object
    result: dict

    def write(self, path, first, last, **columns):
        columns = {name: getattr(self.stream, name)[first:last] for name in ("src", "dst", "time")} | columns
        pq.write_table(pa.table(columns), path)
        return path

    def true_classes(self, first, last):
        """As a source has them: names, lists of names, or integers."""
        if self.kind == "marks":
            names = self.stream.classes["edge_classes"]
            return [[names[i] for i in np.flatnonzero(row)] for row in self.stream.edge_classes[first:last]]
        names, label = self.stream.classes.get("label"), self.stream.label[first:last].tolist()
        return [names[number] for number in label] if names else label

    def predict(self, out, events=None, **options):
        events = events or self.folder / "new.parquet"
        done = predict(self.folder / "run", events, out, **{"after": "val", "quiet": True, **options})
        return done, pq.read_table(out)


@pytest.fixture(scope="module", params=KINDS)
def work(tmp_path_factory, request):
    """A run on labelled events, and its test part as a file without labels."""
    folder, stream = tmp_path_factory.mktemp(request.param), stream_of(request.param)
    save_stream(stream, folder / "data")
    config = replace(default_config(folder / "data", folder / "run"), **SIZES, device="cpu", quiet=True)
    result = train_stream(replace(config, **KINDS[request.param]))
    made = Work(folder, request.param, stream, stream.split(), result)
    made.write(folder / "new.parquet", made.split.val, made.split.test)
    return made


def evaluated(work, stream):
    """Logits of the test's evaluation on a stream, and the task."""
    engine = StreamEngine(load_config(work.folder / "run"), stream, torch.device("cpu"), False)
    restore_best(engine, load_best(work.folder / "run"))
    engine.evaluate("val")
    found, real = [], engine.task.table

    def table(first, last):
        made = real(first, last)
        add = made.add
        made.add = lambda start, logits: (found.append((start, logits.clone())), add(start, logits))
        return made

    engine.task.table = table
    engine.evaluate("test")
    return torch.cat([logits for _, logits in sorted(found, key=lambda each: each[0])]), engine.task


def without_later_labels(work):
    """The stream, but that nobody tells the labels of test events."""
    stream, val = open_stream(work.folder / "data"), work.split.val
    if work.kind == "marks":
        marks = np.array(stream.edge_classes)
        marks[val:] = UNTOLD_CLASSES
        return dataclasses.replace(stream, edge_classes=marks)
    names = stream.classes.get("label") or tuple(map(str, np.unique(stream.label)))
    label = np.unique(stream.label, return_inverse=True)[1].astype(np.int32)
    label[val:] = -1
    return dataclasses.replace(stream, label=label, classes={"label": names})


def test_the_test_part_as_new_events_gets_the_scores_of_the_evaluation(work, tmp_path):
    """To the last bit; the head is told the labels of the events before, as in an evaluation with the test's hidden."""
    done, table = work.predict(tmp_path / "p.parquet")
    hidden = load_config(work.folder / "run").task.past > 0
    logits, task = evaluated(work, without_later_labels(work) if hidden else open_stream(work.folder / "data"))
    found, probability = task.targets.answer(logits)
    assert table["probability"].to_pylist() == probability.tolist()
    names = {"many": [-3, 7, 40], "marks": ["red", "green", "blue"]}.get(work.kind, ["red", "green", "blue"])
    if work.kind == "marks":
        found = [[names[i] for i in row.nonzero()[:, 0]] for row in found]
    else:
        found = [names[i] for i in found]
    assert table["class"].to_pylist() == found
    assert json.loads(table.schema.metadata[b"classes"]) == names[: task.targets.classes]
    assert done["classes"] == task.targets.classes
    assert done["rows"] == work.split.test - work.split.val
    assert table["row"].to_pylist() == list(range(done["rows"]))
    for name in ("src", "dst", "time"):
        assert table[name].to_pylist() == getattr(work.stream, name)[work.split.val :].tolist()


def test_where_no_labels_are_told_the_metrics_are_those_of_the_run(work, tmp_path):
    if work.kind != "binary":
        pytest.skip("its head is told labels of test events in the run's own test")
    table = work.predict(tmp_path / "p.parquet")[1]
    second = torch.tensor([row[1] for row in table["probability"].to_pylist()], dtype=torch.float64)
    label = torch.from_numpy(work.stream.label[work.split.val :])
    pairs = second[label == 1][:, None] - second[label == 0]
    auc = ((pairs > 0).double() + 0.5 * (pairs == 0).double()).mean()
    assert float(auc) == pytest.approx(work.result["test"]["auc"], rel=1e-6)  # its sums are in float32


def with_true_classes(work, path, first=None, last=None):
    first, last = first or work.split.val, last or work.split.test
    return work.write(path, first, last, what=work.true_classes(first, last))


def test_with_true_classes_they_are_the_scores_and_metrics_of_the_run(work, tmp_path):
    """To the last bit: the head is told the classes of earlier new events, as in the run's own test."""
    events = with_true_classes(work, tmp_path / "new.parquet")
    done, table = work.predict(tmp_path / "p.parquet", events, rows=RowOptions(classes=("what",)))
    logits, task = evaluated(work, open_stream(work.folder / "data"))
    assert table["probability"].to_pylist() == task.targets.answer(logits)[1].tolist()
    assert done["metrics"] == pytest.approx({name: work.result["test"][name] for name in done["metrics"]}, rel=1e-12)
    assert task.metric in done["metrics"]
    assert (done["told"], done["unknown_classes"]) == (done["rows"], 0)


def test_classes_that_are_absent_or_of_no_event_of_the_run_are_not_known(work, tmp_path):
    """The same as none at all for what follows, but for those that are told."""
    first, last = work.split.val, work.split.test
    absent = [None] * (last - first)
    strange = {"marks": ["violet"], "many": 1}.get(work.kind, "violet")
    options = {"rows": RowOptions(classes=("what",))}
    events = work.write(tmp_path / "new.parquet", first, last, what=pa.array(absent, pa.array([strange]).type))
    done, table = work.predict(tmp_path / "a.parquet", events, **options)
    expected = work.predict(tmp_path / "none.parquet")[1]
    assert table.equals(expected)
    assert "metrics" not in done
    some = work.true_classes(first, last)
    some[:-20] = [strange] * (len(some) - 20)
    events = work.write(tmp_path / "some.parquet", first, last, what=some)
    done, table = work.predict(tmp_path / "b.parquet", events, **options)
    assert done["unknown_classes"] == len(some) - 20
    if work.kind != "marks":  # of several classes those that are known are told
        assert done["told"] == 20
        before = int(np.searchsorted(work.stream.time, work.stream.time[last - 20], side="right")) - first
        assert table.slice(0, before).equals(expected.slice(0, before))
    ignored = work.predict(tmp_path / "c.parquet", events, rows=RowOptions(classes=()))[1]
    assert ignored.equals(expected)


@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_interrupted_anywhere_gives_the_same_file(work, tmp_path, monkeypatch, stop_at):
    options = {"save_every": 30, "rows": RowOptions(classes=("what",))}
    options["events"] = with_true_classes(work, tmp_path / "new.parquet")
    whole = work.predict(tmp_path / "whole.parquet", **options)[0]
    real, calls = _Predictions._save, []

    def failing(self):
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        calls.append(1)
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(_Predictions, "_save", failing)
        with pytest.raises(KeyboardInterrupt):
            work.predict(tmp_path / "p.parquet", **options)
    done = work.predict(tmp_path / "p.parquet", **options)[0]
    assert done["metrics"] == whole["metrics"]
    assert (tmp_path / "p.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_day_after_day_gives_the_numbers_of_all_at_once(work, tmp_path):
    """What was told of the run's events, and of those of the first day, is still told on the second."""
    options = {"rows": RowOptions(classes=("what",))}
    whole = work.predict(tmp_path / "whole.parquet", with_true_classes(work, tmp_path / "new.parquet"), **options)[1]
    middle, after, days = work.split.val + SIZE, "val", []
    for day, span in (("a", (work.split.val, middle)), ("b", (middle, work.split.test))):
        events = with_true_classes(work, tmp_path / f"{day}-new.parquet", *span)
        found = work.predict(tmp_path / f"{day}.parquet", events, after=after, keep_state=True, **options)
        days.append(found[1])
        after = tmp_path / f"{day}.parquet.state"
    for name in ("src", "class", "probability"):
        assert pa.concat_tables(days)[name].to_pylist() == whole[name].to_pylist(), name


@pytest.mark.parametrize("options", [{"top_k": 3}, {"evaluate": True}, {"queries": "q.csv"}, {"candidates": "c.csv"}])
def test_destinations_are_not_ranked(work, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    for name in ("q.csv", "c.csv"):
        (tmp_path / name).write_text("src,dst,time\n1,2,99\n")
    with pytest.raises(ConfigError, match=r"trained for task .*-class, which gives each new event its classes"):
        work.predict(tmp_path / "p.parquet", **options)
    assert not (tmp_path / "p.parquet.state").exists()


def test_a_label_that_says_that_there_is_none_is_no_answer(tmp_path):
    stream = stream_of("many")
    save_stream(stream, tmp_path / "data")
    config = replace(default_config(tmp_path / "data", tmp_path / "run"), **SIZES, device="cpu", quiet=True)
    train_stream(replace(config, **KINDS["many"], task__unknown=7))
    split = stream.split()
    work = Work(tmp_path, "many", stream, split, {})
    events = work.write(tmp_path / "new.parquet", split.val, split.test)
    table = work.predict(tmp_path / "p.parquet", events)[1]
    assert set(table["class"].to_pylist()) <= {-3, 40}
    assert json.loads(table.schema.metadata[b"classes"]) == [-3, 40]


def test_classes_of_nodes_are_refused(tmp_path):
    stream = stream_of("many")
    save_stream(stream, tmp_path / "data")
    config = replace(default_config(tmp_path / "data", tmp_path / "run"), **SIZES, device="cpu", quiet=True)
    train_stream(replace(config, **TASKS["node"]))
    work = Work(tmp_path, "node", stream, stream.split(), {})
    events = work.write(tmp_path / "new.parquet", stream.split().val, stream.split().test)
    with pytest.raises(ConfigError, match="was trained for classes of nodes"):
        work.predict(tmp_path / "p.parquet", events)
