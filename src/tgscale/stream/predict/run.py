"""Predict: new events stream through the memory, and what is asked is scored before each batch enters it.

The state directory holds, in this order: the new rows as columns, all events as one stream, and then by turns a part of
the predictions and a checkpoint of the memory. Whatever of it is there when the same is asked again is taken over.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tgscale.data.candidates import Candidates, open_candidates, read_candidates
from tgscale.data.following import RowOptions, Rows, open_rows, read_rows
from tgscale.data.store import fingerprint, open_stream
from tgscale.errors import ConfigError, DataError, RunError
from tgscale.stream.config import TrainConfig, replace
from tgscale.stream.engine import StreamEngine
from tgscale.stream.predict.classes import Classified, RunClasses, refuse_ranking
from tgscale.stream.predict.parts import Parts
from tgscale.stream.predict.ranking import Choice, Columns, Given, Negatives, OwnDestination, Ranked, Seen
from tgscale.stream.predict.request import Request, digest
from tgscale.stream.predict.start import Base, joined_stream, make_engine, walk_to_end
from tgscale.stream.predict.state import CHECKPOINTS, STREAM, follow, state_of
from tgscale.stream.predict.walk import Step, steps_of_events, steps_of_queries
from tgscale.stream.scoring import ScoreThreads, score_threads
from tgscale.stream.trainer import load_config
from tgscale.train.checkpoint import Checkpointer
from tgscale.train.environment import FreedMemory, find_device, peak_memory_bytes, set_threads
from tgscale.train.progress import Progress
from tgscale.train.run_start import BEST, data_of, load_best
from tgscale.train.rundir import RunDirectory

CELLS = 1 << 24
"""Scores that one part holds, about."""


def predict(
    run: Path | str,
    events: str | Path | Sequence[str | Path] | None = None,
    out: Path | str = "predictions.parquet",
    *,
    queries: str | Path | Sequence[str | Path] | None = None,
    candidates: Path | str | None = None,
    top_k: int | None = None,
    evaluate: bool = False,
    after: Path | str = "test",
    data: Path | str | None = None,
    rows: RowOptions | None = None,
    device: str | None = None,
    threads: int | None = None,
    save_every: int = 100_000,
    state: Path | str | None = None,
    keep_state: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Score new events, classify them, or answer queries, with the best weights of a run and its memory.

    A run of links scores the events, one that learned classes of events classifies them. The batches, the sampled past,
    the pair features and the memory are those of the evaluation: new events that are the run's test part get the scores
    of the test. Asked again after an interruption it goes on where it was, and what it writes is the same, bit for bit.

    Args:
        run: run directory, of a run on an event stream.
        events: new events, none before the last one that the memory has seen: a file, a folder, a pattern, or several.
            Each is scored, and then enters the memory with its batch.
        out: Parquet file to write, a row per event (or per query, where there are queries).
        queries: rows with a source and a time, to be answered by ``top_k`` destinations; the events, if there are any,
            are what happens meanwhile.
        candidates: table of destinations to choose from: one list for all rows, or with a column ``row`` a list for
            each. Every destination seen before the batch unless given.
        top_k: how many destinations are written per row, best first; 0 for all. 10 unless given, where there are
            queries or candidates; none otherwise.
        evaluate: rank each event's destination among negatives drawn as in the run's evaluation.
        after: ``"test"``: the new rows follow all events of the run; ``"val"``: they follow its validation part; a
            directory: they follow the events of earlier predictions, whose state was kept there.
        data: the run's data directory, where it has moved.
        rows: how the rows are read.
        device, threads: as in training unless given.
        save_every: rows between two saves of the state.
        state: where the state lies meanwhile; ``OUT.state`` unless given.
        keep_state: leave it there.
        overwrite: replace ``out``, and throw away a state that was begun for something else.
        quiet: show no progress.

    Returns:
        What was done: ``rows``, ``events``, ``fresh_nodes``, ``dropped``, ``seconds``, ``rows_per_second``,
        ``peak_memory_bytes``; ``mrr`` and ``hits@10`` where destinations were ranked. Where events were classified,
        ``classes`` (their number), and if rows told their true classes how many did (``told``), the ``metrics`` of the
        run's task over them, and how many told a class that is not among the run's (``unknown_classes``).

    Raises:
        TgscaleError: a run, rows or options that cannot be used; raised before any work.
    """
    request = Request(
        run=Path(run),
        out=Path(out),
        events=_texts(events),
        queries=_texts(queries),
        candidates=None if candidates is None else Path(candidates),
        top_k=top_k,
        evaluate=evaluate,
        after=str(after),
        data=None if data is None else Path(data),
        rows=rows or RowOptions(),
        device=device,
        threads=threads,
        save_every=save_every,
        state=None if state is None else Path(state),
        keep_state=keep_state,
        overwrite=overwrite,
        quiet=quiet,
    )
    return run_request(request)


def run_request(request: Request) -> dict[str, Any]:
    """See :func:`predict`."""
    began = time.perf_counter()
    if request.out.exists() and not request.overwrite:
        raise RunError(f"--out {request.out} is there already: give another name, or --overwrite to replace it.")
    if RunDirectory.kind_of(request.run) == "snapshots":
        raise ConfigError(f"{request.run} is a run on snapshots: tgscale.predict_snapshots is for such.")
    request.check_places()
    config = _config(request)
    classes = _classes(request, config)
    set_threads(config.threads)
    best = load_best(request.run, config.data)
    device = find_device(config.device)
    weights = {"data": fingerprint(config.data), "best": _tag_of_best(request.run)}
    if request.followed is None:
        base, followed = Base.of(config, config.data, request.after), None
    else:
        base, followed = follow(request.followed, weights)
    with state_of(request, digest(request.describe(weights, followed)), weights) as folder:
        work = _prepare(request, config, classes, base, folder, device, best)
        done = work.finish()
    seconds = time.perf_counter() - began
    return {
        "out": str(request.out),
        **done,
        "seconds": seconds,
        "rows_per_second": done["rows"] / seconds,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def _config(request: Request) -> TrainConfig:
    config = load_config(request.run)
    changes: dict[str, Any] = {"emulate": None, "layout": "1x1x1", "compile": False}
    changes["data"] = data_of(config, request.data)
    changes |= {name: getattr(request, name) for name in ("device", "threads") if getattr(request, name) is not None}
    return replace(config, **changes)


def _classes(request: Request, config: TrainConfig) -> RunClasses | None:
    if config.task.name == "link":
        if request.rows.classes:
            raise ConfigError(
                f"--classes: {request.run} was trained for links and does not classify events: leave it out, or give a "
                "run of task edge-class."
            )
        return None
    refuse_ranking(request, config)
    return RunClasses.of(config, open_stream(config.data))


def _prepare(
    request: Request,
    config: TrainConfig,
    classes: RunClasses | None,
    base: Base,
    folder: Path,
    device: torch.device,
    best: dict[str, Any],
) -> _Predictions:
    events = queries = None
    read = partial(_read, request, base.data, base.last_time)
    if request.has_events:
        events = read(folder / "events", request.events or None, classes=classes)
    if request.queries:
        queries = read(folder / "queries", request.queries, queries=True, after=events)
    rows = queries or events
    assert rows is not None
    candidates = _candidates(request, base.data, rows, folder / "candidates")
    stream = joined_stream(base, events, queries, folder / STREAM, classes)
    if classes is not None:
        config = replace(config, task__unknown=classes.unknown)
    engine = make_engine(config, stream, device, best if base.memory is None else {**best, "memory": base.memory})
    size = config.eval_batch_size
    spans = config.eval.rule.spans(base.first, stream.num_events, size)
    choice = _choice(request, engine, base, rows, candidates) if classes is None else Classified(engine, base.first)
    most = choice.rows_of(CELLS) if isinstance(choice, Ranked) else None
    steps = steps_of_events(spans, most) if queries is None else steps_of_queries(spans, stream.time, queries, most)
    about = {"run": str(request.run), "batch_size": str(size), "time_unit": stream.time_unit}
    summary = {
        "events": stream.num_events - base.first,
        "fresh_nodes": stream.num_nodes - base.stream.num_nodes,
        "dropped": {each.part: each.rows for source in (events, queries) if source for each in source.dropped},
        "unknown_candidates": candidates.unknown if candidates else 0,
    }
    if classes is not None:
        about["classes"] = json.dumps(classes.answers)
        summary |= {"classes": len(classes.answers), "unknown_classes": rows.unknown_classes}
    parts = Parts(folder / "parts", rows, rows.node_ids, None if classes is None else classes.answers)
    return _Predictions(request, engine, base, steps, choice, parts, folder, about, summary)


def _read(
    request: Request, data: Path, not_before: int, folder: Path, source: Any, queries: bool = False, **options: Any
) -> Rows:
    if folder.exists():
        return open_rows(folder)
    show = (lambda step: None) if request.quiet else (lambda step: print(f"{folder.name}: {step}", file=sys.stderr))
    how = request.rows if not queries else RowOptions(**{**vars(request.rows), "query": None})
    return read_rows(source, data, folder, how, not_before=not_before, queries=queries, progress=show, **options)


def _candidates(request: Request, data: Path, rows: Rows, folder: Path) -> Candidates | None:
    if request.candidates is None:
        return None
    if folder.exists():
        found = open_candidates(folder)
    else:
        memory = request.rows.memory_limit
        found = read_candidates(request.candidates, data, rows, folder, dst=request.rows.dst, memory_limit=memory)
    if found.unknown and request.rows.unknown == "stop":
        raise DataError(f"--candidates {request.candidates}: {found.unknown:,} ids are not nodes of the data.")
    return found


def _choice(request: Request, engine: StreamEngine, base: Base, rows: Rows, candidates: Candidates | None) -> Choice:
    if request.evaluate:
        return Negatives(engine)
    if not request.ranks_candidates:
        return OwnDestination()
    return Ranked(rows, Given(candidates) if candidates else Seen(engine.stream, base.first), request.kept, base.first)


class _Predictions:
    """The work between two saves, again and again."""

    def __init__(
        self,
        request: Request,
        engine: StreamEngine,
        base: Base,
        steps: list[Step],
        choice: Choice,
        parts: Parts,
        folder: Path,
        about: dict[str, str],
        summary: dict[str, Any],
    ) -> None:
        self.request, self.engine, self.base, self.choice, self.parts = request, engine, base, choice, parts
        self.steps, self.about, self.summary = steps, about, summary
        self.saved = Checkpointer(folder / CHECKPOINTS, keep=2)
        self.begins: list[int] = []
        self.at = 0
        self.freed = FreedMemory()

    def finish(self) -> dict[str, Any]:
        """Go on from the last save to the end, and write the file."""
        _, state = self.saved.load()
        if state:
            self.at, self.begins = state["step"], list(state["begins"])
            self.engine.memory.load_state_dict(state["memory"])
            if not self.request.quiet:
                print(f"going on from row {self._rows_done:,}", file=sys.stderr)
        else:
            walk_to_end(self.engine, self.base, self.request.quiet)
            self._save()
        total = self.steps[-1].high
        with Progress(total, "predict", self.request.quiet, unit="rows") as progress:
            progress.resume(self._rows_done)
            while self.at < len(self.steps):
                self._one_part(progress)
                self._save()
        done = self.parts.join(self.request.out, set(self.begins), self.about)
        if isinstance(self.choice, Classified):
            done |= self.choice.metrics(self.request.out)
        return {**done, **self.summary}

    @property
    def _rows_done(self) -> int:
        return self.steps[self.at - 1].high if self.at else 0

    def _save(self) -> None:
        memory = self.engine.memory.state_dict()
        self.saved.save(self.at, {"step": self.at, "steps": len(self.steps), "begins": self.begins, "memory": memory})

    @torch.no_grad()
    def _one_part(self, progress: Progress) -> None:
        """Steps until enough rows are scored for a part; then that part is written."""
        engine, columns, pieces = self.engine, list[Columns](), dict[int, Any]()
        steps = self._steps_of_part()
        order = [piece for step in steps for piece in [*self.choice.pieces(step), step]]

        def build(builder: Any, item: Any) -> Any:
            return None if isinstance(item, Step) else self.choice.build(builder, item)

        def take(number: int, logits: torch.Tensor) -> None:
            scored = self.choice.take(pieces.pop(number), logits)
            if scored is not None:
                columns.append(scored)
            self.freed.check()

        with ScoreThreads(engine.builder, score_threads(engine.device), take) as threads:
            for number, (item, batch) in enumerate(threads.batches(order, build)):
                if isinstance(item, Step):
                    if item.stop > item.start:
                        engine.advance(item.start, item.stop)
                    progress.advance(item.high - item.low)
                    continue
                assert batch is not None
                pieces[number] = item
                threads.score(number, partial(engine.logits, engine.memory.read(batch.block.nodes), batch))
        low, high = steps[0].low, steps[-1].high
        if high > low:
            self.parts.write(self.at, low, high, columns)
            self.begins.append(self.at)
        self.at += len(steps)

    def _steps_of_part(self) -> list[Step]:
        """The steps of the next part: a function of where it begins alone, so that a resumed run makes the same."""
        most, cells, stop = self.request.save_every, 0, self.at
        first = self.steps[self.at]
        while stop < len(self.steps):
            step = self.steps[stop]
            cells += sum((piece.high - piece.low) * (piece.last - piece.first) for piece in self.choice.pieces(step))
            stop += 1
            if step.stop - first.start >= most or step.high - first.low >= most or cells >= CELLS:
                break
        return self.steps[self.at : stop]


def _tag_of_best(run: Path) -> str:
    """What tells the weights of a run from those of another."""
    saver = Checkpointer(RunDirectory.checkpoints_of(run) / BEST)
    return (saver.folder / f"step-{saver.steps()[-1]:08d}" / "state.json").read_text()


def _texts(paths: str | Path | Sequence[str | Path] | None) -> tuple[str, ...]:
    if paths is None:
        return ()
    return (str(paths),) if isinstance(paths, str | Path) else tuple(map(str, paths))
