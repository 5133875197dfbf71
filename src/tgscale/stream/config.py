"""The whole configuration of a training run on an event stream, and its presets."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tgscale.data.stream import EventStream, Split
from tgscale.errors import ConfigError
from tgscale.models.config import ModelConfig
from tgscale.models.stream_models import STREAM_MODELS
from tgscale.stream.layout import Layout
from tgscale.stream.protocol import PROTOCOLS
from tgscale.stream.protocol.base import Draw, EvalProtocol
from tgscale.train.loggers.base import LogConfig
from tgscale.train.options import at_least, leave_something
from tgscale.train.options import replace as replace

LONGEST = 2**62
"""The longest window: times minus windows stay within 64 bits."""


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(f"{name} is {value}: give a number above 0, such as 0.001.")


def _share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} is {value}: give a share in [0, 1).")


@dataclass
class SamplingConfig:
    """Which past events a root sees."""

    neighbors: int = 10
    """Past events per root."""
    strategy: Literal["recent", "uniform"] = "recent"
    """The latest ones, or a uniform draw without replacement."""
    window: int | None = None
    """Only events at most this long ago, in the stream's time unit."""
    roots: Literal["event", "node"] = "event"
    """What is embedded: each node at the time of each of its events, or once per batch as of the batch's start (as PyG
    and TGM do: cheaper, and blind to the batch's own earlier events)."""

    def __post_init__(self) -> None:
        at_least("sampling.neighbors", self.neighbors, 1)
        at_least("sampling.window", self.window, 1)
        if self.window is not None and self.window > LONGEST:
            raise ConfigError(
                f"sampling.window is {self.window}: give {LONGEST} or less, or leave it out for no limit."
            )


@dataclass
class StaticConfig:
    """Static node memory: a time-independent vector per node, added to the dynamic one."""

    mode: Literal["none", "pretrained", "features", "cotrained"] = "none"
    """none; a table pre-trained on shuffled training events; the node features; a table trained along."""
    epochs: int = 10
    """Pre-training epochs."""
    dim: int | None = None
    """Width of the table; as wide as the memory unless given."""
    lr: float = 1e-3
    """Learning rate of pre-training."""
    batch_size: int = 600
    """Events per pre-training step."""
    weight_decay: float = 0.0
    """Decoupled weight decay of pre-training."""
    dropout: float = 0.0
    """Share of static vectors dropped as a whole while the main model trains."""
    gate: float | None = None
    """Start value of a learned gate on the static part; no gate unless given."""
    cache: Path = Path("~/.cache/tgscale/static")
    """Where pre-trained tables are kept, by content hash."""

    def __post_init__(self) -> None:
        at_least("static.epochs", self.epochs, 1)
        at_least("static.dim", self.dim, 1)
        at_least("static.batch_size", self.batch_size, 1)
        _positive("static.lr", self.lr)
        at_least("static.weight_decay", self.weight_decay, 0)
        _share("static.dropout", self.dropout)


@dataclass
class OptimConfig:
    """How the weights are trained."""

    epochs: int = 6
    """Passes over the training events, at most, by all trainers together."""
    batch_size: int = 400
    """Events per step of one trainer. The memory that a batch sees is that from before it."""
    lr: float = 1e-3
    """Learning rate of Adam, for one trainer."""
    lr_scaling: Literal["linear", "sqrt", "none"] = "sqrt"
    """How the learning rate grows with the number of trainers."""
    warm_start: Literal["none", "replay"] = "none"
    """What a memory copy that starts inside the stream knows: nothing, or a replay of the part before it."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate over all epochs: a short warm-up and then a cosine down to nothing, or always the same."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    negatives: int = 1
    """Negative destinations per event in the loss."""
    patience: int = 3
    """Stop after this many validations without a better MRR; 0 never stops early."""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("negatives", 1), ("patience", 0), ("weight_decay", 0)):
            at_least(f"train.{name}", getattr(self, name), least)
        _positive("train.lr", self.lr)


@dataclass
class PipelineConfig:
    """How batches get to the step."""

    depth: int = 0
    """Batches that are made ahead of the step in a thread of their own; 0 makes each when it is needed."""
    sample_on: Literal["device", "host"] = "device"
    """Where batches are made: on the training device, or on the CPU, to be pinned and copied to the GPU."""
    slice_features: bool = False
    """Leave the edge features in main memory, or on the disk, and give each batch the rows that it needs."""
    feature_cache: int | None = None
    """Sliced rows to keep on the device: those of the latest events, all but a few."""
    cache: Path | None = None
    """Folder to keep batches in, so that they are sampled once. Their negatives then repeat every `cache_sets`."""
    cache_sets: int = 32
    """Negative sets per batch in that folder."""

    def __post_init__(self) -> None:
        at_least("pipeline.depth", self.depth, 0)
        at_least("pipeline.cache_sets", self.cache_sets, 1)
        at_least("pipeline.feature_cache", self.feature_cache, 1)
        if self.feature_cache and not self.slice_features:
            raise ConfigError(
                "pipeline.feature_cache keeps rows of sliced features; without slicing, all are on the device: give "
                " --pipeline.slice-features, too, or leave it out."
            )
        if self.feature_cache and self.sample_on == "host":
            raise ConfigError(
                "pipeline.feature_cache keeps features on the device, and pipeline.sample_on host slices them on the "
                "host: choose one of them."
            )


@dataclass
class EvalConfig:
    """How validation and test are scored."""

    protocol: Literal["mrr49", "mrr49-optimistic", "ap", "ap-tgl", "ap-pyg", "ap-dyglib", "tgb"] = "mrr49"
    """mrr49: each event against 49 random destinations (DistTGL). ap: against one; ap-tgl, ap-pyg, ap-dyglib: by the
    exact rule of that project. tgb: TGB's negatives. docs/why-numbers-differ.md has each."""
    negatives: Draw | None = None
    """What an event is compared with: random destinations, or edges (with mrr49 and tgb: destinations of the same
    source) of the past that do not happen now: historical, or inductive, which training never met."""
    negatives_from: Path | None = None
    """Folder with TGB's files of negatives (protocol tgb); without it they are drawn by TGB's rule."""
    negatives_per_event: int | None = None
    """As the protocol says unless given (mrr49: 49, tgb: 100)."""
    population: Literal["destinations", "all", "range"] | None = None
    """Where random negatives come from, unless the protocol says: every destination of the stream (the default), all
    nodes, or every id from the lowest to the highest destination."""
    exclude_own: bool = False
    """Never draw an event's own destination as its negative. DistTGL may draw it; it counts as a tie."""
    batch_size: int | None = None
    """Events per batch, as in training unless given. Part of the protocol: a batch sees the memory from before it."""
    seed: int = 0
    """Seed of the negatives."""
    val: float = 0.15
    """Share of the events, by time, to validate on."""
    test: float = 0.15
    """Share of the events, by time, to test on."""
    split: Literal["events", "times"] = "events"
    """Borders of the parts: at these shares of the events, or between times, at those quantiles (as TGN, DyGLib and TGB
    do: events of one time stay together)."""

    def __post_init__(self) -> None:
        at_least("eval.batch_size", self.batch_size, 1)
        at_least("eval.negatives_per_event", self.negatives_per_event, 1)
        if self.negatives_from is not None:  # absolute, so that the run finds it from anywhere
            self.negatives_from = Path(self.negatives_from).expanduser().absolute()
        self._check_protocol()
        leave_something("eval.val", self.val, "eval.test", self.test)

    def _check_protocol(self) -> None:
        rule = self.rule
        if self.negatives_from is not None and not rule.from_files:
            raise ConfigError(f"eval.negatives_from is for the protocol tgb, and this is {rule.name}: leave it out.")
        if self.negatives_from is not None and (self.negatives or self.negatives_per_event):
            raise ConfigError("eval.negatives_from brings the negatives: leave eval.negatives and their number out.")
        if rule.population is not None and self.population not in (None, rule.population):
            raise ConfigError(
                f"the protocol {rule.name} draws from the population {rule.population}, not {self.population}: leave "
                "eval.population out, or take another protocol."
            )
        if rule.name == "ap-pyg" and self.draw != "random":
            raise ConfigError("the protocol ap-pyg has random negatives alone: ap-dyglib has the others.")
        if rule.negatives == 1 and self.negatives_per_event not in (None, 1):
            raise ConfigError(f"the protocol {rule.name} has one negative per event: leave their number out.")
        if self.exclude_own and rule.name.startswith("ap-"):
            raise ConfigError(f"the protocol {rule.name} may draw an event's own destination: leave exclude_own out.")

    def split_of(self, stream: EventStream) -> Split:
        """The parts of a stream."""
        return stream.split(self.val, self.test, self.split)

    @property
    def rule(self) -> EvalProtocol:
        """All that the protocol fixes."""
        return PROTOCOLS[self.protocol]

    @property
    def draw(self) -> Draw:
        """Kind of negatives."""
        return self.negatives or self.rule.draw

    @property
    def num_negatives(self) -> int:
        """Negatives per event; a file may have another number."""
        return self.negatives_per_event or self.rule.negatives

    @property
    def drawn_from(self) -> str:
        """Population of random negatives."""
        return self.population or self.rule.population or "destinations"


OF_PROTOCOL = {
    "negatives", "negatives_from", "negatives_per_event", "population", "exclude_own", "batch_size", "seed",
}  # fmt: skip
"""Options of evaluation by which a finished run may be scored anew. Not its split: it was trained on that."""


def other_protocol(config: EvalConfig, protocol: str | None, **options: Any) -> EvalConfig:
    """The options with another protocol, with whose rules those of the one before do not go.

    Args:
        config: those of a run.
        protocol: a name of :data:`tgscale.stream.protocol.PROTOCOLS`, or None for the same.
        options: fields to set; None leaves a field as it is.

    Raises:
        ConfigError: an unknown protocol, or options that do not go with it.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if wrong := sorted(set(given) - OF_PROTOCOL):
        raise ConfigError(
            f"{wrong[0]} is nothing that an evaluation can change: give split, protocol, device, quiet, or some of "
            f"{', '.join(sorted(OF_PROTOCOL))}."
        )
    if protocol is not None and protocol != config.protocol:
        if protocol not in PROTOCOLS:
            raise ConfigError(f"protocol {protocol!r} is unknown: choose one of {', '.join(PROTOCOLS)}.")
        rule = PROTOCOLS[protocol]
        reset: dict[str, Any] = {"negatives": None, "negatives_from": None, "negatives_per_event": None}
        if rule.population is not None:
            reset["population"] = None
        if rule.name.startswith("ap-"):
            reset["exclude_own"] = False
        given = reset | given | {"protocol": protocol}
    elif given.get("negatives"):
        given = {"negatives_from": None} | given
    return dataclasses.replace(config, **given)


@dataclass
class TaskConfig:
    """What is learned from the embeddings."""

    name: Annotated[Literal["link", "edge-class", "node-class"], tyro.conf.arg(aliases=["--task"])] = "link"
    """link: the true destination among others. edge-class: the class, or the classes, of each event. node-class: the
    class of nodes, or the state of each event's source."""
    labels: Literal["auto", "label", "edge_classes", "node_label"] = "auto"
    """Column of the data that holds them; auto: the one that the data have for the task."""
    past: int = 20
    """Labels of earlier events that the head is told, for the pair and each of its nodes; 0: none. For classes of
    nodes: partners of a node whose classes it is told."""
    balance: Literal["auto", "none", "sqrt", "inverse"] = "auto"
    """How much rare classes count: as they occur, by the root of their rarity, or all the same. auto: inverse for two
    classes, none for more."""
    lr: float = 1e-2
    """Learning rate of the head, for one trainer; that of all else is train.lr."""
    unknown: int | None = None
    """The label that says that an event has none."""
    dropout: float = 0.1
    """On the head's hidden layer."""
    val_nodes: float = 0.15
    """Share of the labelled nodes to validate on; for classes of nodes."""
    test_nodes: float = 0.15
    """Share of the labelled nodes to test on; for classes of nodes."""
    init_from: Path | None = None
    """A run on the same data whose best weights to begin with; its options of model, sampling and static are taken."""
    freeze: bool = True
    """With init_from: train the head alone, on the embeddings as they are."""

    def __post_init__(self) -> None:
        at_least("task.past", self.past, 0)
        _positive("task.lr", self.lr)
        _share("task.dropout", self.dropout)
        leave_something("task.val_nodes", self.val_nodes, "task.test_nodes", self.test_nodes)
        if self.name == "link" and self.init_from is not None:
            raise ConfigError("task.init_from is for edge-class and node-class: give a --task, or leave it out.")


@dataclass
class TrainConfig:
    """Train a temporal graph network on an event stream."""

    data: Path
    """Data directory, made by `tgscale data import` or `tgscale data generate`."""
    run: Annotated[Path, tyro.conf.arg(aliases=["--run-dir"])]
    """Run directory to write; must not exist yet. (torchrun on Python 3.11 takes --run for one of its own options.)"""
    preset: Literal["default", "disttgl"] = "default"
    """Where the defaults of all options come from: what measured best, or the paper's model with nothing added."""
    layout: str = "auto"
    """Trainers: per mini-batch x epochs in flight x copies of the memory, such as 2x1x4; auto: as planned."""
    emulate: str | None = None
    """A layout to run on this one device, trainer after trainer: the same numbers as with as many processes."""
    memory_backend: Literal["auto", "local", "shared", "replicated"] = "auto"
    """Who holds a memory copy that several trainers share: a process of its own, or each of them."""
    seed: int = 0
    """Seed of weights, dropout and training negatives."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int = 1
    """CPU threads. Evaluation gives each whole batches; a training step is many small operators, which more threads
    have not made faster so far."""
    quiet: bool = False
    """Print nothing but errors."""
    keep_checkpoints: int = 2
    """How many checkpoints to keep."""
    checkpoint_every: int | None = None
    """Iterations between two checkpoints, beside the one after each validation."""
    device_graph: Literal["auto", "on", "off"] = "auto"
    """Run the whole step on the device, captured as one CUDA graph; auto: on a GPU, wherever that can be."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the products of a training step. The memory is fp32 either way, and so is all of validation and test."""
    compile: bool = False
    """Let torch.compile make the model's part of a training step; the first steps then take a while."""
    profile: bool = False
    """Write timeline.json, a trace that opens in Perfetto, and say where the time went."""
    model: ModelConfig = field(default_factory=ModelConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    static: StaticConfig = field(default_factory=StaticConfig)
    train: OptimConfig = field(default_factory=OptimConfig)
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        for name in ("data", "run"):
            if isinstance(getattr(self, name), str):  # from Python they may be
                setattr(self, name, Path(getattr(self, name)))
        if self.emulate is not None:
            Layout.parse(self.emulate)
            if self.layout != "auto":
                raise ConfigError(f"layout {self.layout} and emulate {self.emulate} were given: give one of them.")
        elif self.layout != "auto":
            Layout.parse(self.layout)
        at_least("checkpoint_every", self.checkpoint_every, 1)
        at_least("keep_checkpoints", self.keep_checkpoints, 1)
        at_least("threads", self.threads, 1)
        if not -(2**40) < self.seed < 2**40:
            raise ConfigError(f"seed is {self.seed}: give an integer of at most 40 bits.")

    @staticmethod
    def as_written(values: dict[str, Any]) -> dict[str, Any]:
        """The configuration of a run, with what its options of before meant: pair encodings had no groups once."""
        model = values.get("model")
        return {**values, "model": {"pair_groups": [], **model}} if isinstance(model, dict) else values

    @property
    def run_layout(self) -> Layout:
        """The layout, whether run by as many processes or emulated; of one trainer while ``layout`` is auto."""
        asked = self.emulate or self.layout
        return Layout() if asked == "auto" else Layout.parse(asked)

    @property
    def eval_batch_size(self) -> int:
        return self.eval.batch_size or self.train.batch_size


def with_model(config: TrainConfig, name: str) -> TrainConfig:
    """The configuration with another model of these sizes, and with the sampling that its paper has.

    Raises:
        ConfigError: no such model; the message gives the nearest one.
    """
    if name not in STREAM_MODELS:
        near = difflib.get_close_matches(str(name), STREAM_MODELS, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"model {name!r} is unknown: choose one of {', '.join(STREAM_MODELS)}.{hint}")
    model = dataclasses.replace(config.model, name=name)
    sampling = dataclasses.replace(config.sampling, **STREAM_MODELS[name].sampling)
    return dataclasses.replace(config, model=model, sampling=sampling)


def default_config(data: str | Path, run: str | Path, model: str = "tgn") -> TrainConfig:
    """What measured best: the paper's model with the pair encoding."""
    return with_model(TrainConfig(data=data, run=run), model)  # type: ignore[arg-type]


def disttgl_config(data: str | Path, run: str | Path, model: str = "tgn") -> TrainConfig:
    """The paper's model, nothing added: TGN-attn with pre-trained static memory.

    How it is trained is ours: dropout 0.1, batch 400, 1e-3 with a schedule (the paper: 0.2, 600, a constant 1e-4), and
    3 epochs of pre-training with half of the static vectors dropped (the paper: 10, none), which measured better.
    """
    config = TrainConfig(
        data=data,  # type: ignore[arg-type]
        run=run,  # type: ignore[arg-type]
        preset="disttgl",
        model=ModelConfig(pair_encoding=False),
        static=StaticConfig(mode="pretrained", epochs=3, dropout=0.5),
        train=OptimConfig(epochs=24, patience=0),
    )
    return with_model(config, model)


PRESETS = {"default": default_config, "disttgl": disttgl_config}
"""Name -> function of (data, run, model) that makes a :class:`TrainConfig`."""
