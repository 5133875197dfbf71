"""The training loop of one trainer whose whole step runs on the device, captured as one CUDA graph.

The first iterations run operator by operator on a side stream, as capturing demands; they count like all others. Then
the step is recorded once, and each iteration after that is one replay: which batch comes next and how it is drawn stand
in device tensors, so nothing synchronises with the host inside a sweep. Between two sweeps the host empties the memory
and sets the seeds, by launches alone. On a CPU the same step runs uncaptured.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from tgscale.errors import ConfigError
from tgscale.memory.group import GroupMemory, LocalGroupMemory, NoGroupMemory
from tgscale.memory.local import LocalMemory
from tgscale.models.stream_models import model_class
from tgscale.stream.config import TrainConfig
from tgscale.stream.device_step import DeviceStep
from tgscale.stream.engine import StreamEngine
from tgscale.stream.layout import Layout
from tgscale.stream.loop import TrainingLoop
from tgscale.stream.schedule import Schedule
from tgscale.train.distributed import Ranks
from tgscale.train.trace import Trace

HERE = ("auto", "local")  # for a single trainer both are plain tensors on its device
WARM_UP = 3
"""Iterations before the step is captured: lazily made state, such as the optimiser's, must be there by then."""


def why_not(config: TrainConfig) -> str | None:
    """Why a run cannot have its step on the device as a whole; None where it can."""
    pipeline, fixed = config.pipeline, model_class(config.model).fixed_shapes
    reasons = {
        f"it scores candidates, and the task is {config.task.name}": config.task.name != "link",
        f"model {config.model.name} counts what it reads or writes, and shapes must be fixed": not fixed,
        f"it serves one trainer, and the layout is {config.run_layout}": config.run_layout != Layout(),
        f"memory_backend {config.memory_backend} holds the memory elsewhere": config.memory_backend not in HERE,
        "static.mode cotrained has sparse gradients, whose size is counted": config.static.mode == "cotrained",
        "pipeline.depth makes batches in a thread of the host": pipeline.depth > 0,
        "pipeline.slice_features keeps the edge features on the host": pipeline.slice_features,
        "pipeline.cache keeps batches on the host's disk": pipeline.cache is not None,
        "pipeline.sample_on host makes batches there": pipeline.sample_on == "host",
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def uses_device_graph(config: TrainConfig, device: torch.device) -> bool:
    """Whether ``config.device_graph`` comes to a step on the device as a whole; ``auto`` does so on a GPU if it can.

    Raises:
        ConfigError: it is asked for and cannot be.
    """
    reason = why_not(config)
    if config.device_graph == "on" and reason:
        raise ConfigError(
            f"device_graph on cannot be: {reason}. Leave that option out, or give --device-graph off (or auto, which "
            "captures the step wherever it can)."
        )
    return config.device_graph == "on" or (config.device_graph == "auto" and device.type == "cuda" and reason is None)


def make_loop(
    engine: StreamEngine, schedule: Schedule, memories: dict[int, GroupMemory], ranks: Ranks, trace: Trace
) -> TrainingLoop:
    """The training loop that the configuration asks for."""
    kind = DeviceLoop if uses_device_graph(engine.config, engine.device) else TrainingLoop
    return kind(engine, schedule, memories, ranks, trace)


class DeviceLoop(TrainingLoop):
    """As :class:`TrainingLoop`, for a single trainer.

    Attributes:
        captured: whether iterations are replays of a CUDA graph by now.
    """

    def __init__(
        self,
        engine: StreamEngine,
        schedule: Schedule,
        memories: dict[int, GroupMemory],
        ranks: Ranks | None = None,
        trace: Trace | None = None,
    ) -> None:
        super().__init__(engine, schedule, memories, ranks, trace)
        only = memories[0]
        assert isinstance(only, LocalGroupMemory | NoGroupMemory)
        self.memory: LocalMemory = only.memory
        self.whole_step = DeviceStep(engine, self.memory, self.gradients, self.optimizers, self._loss)
        self._stream = torch.cuda.Stream(engine.device) if engine.device.type == "cuda" else None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._may_capture = self._stream is not None

    @property
    def captured(self) -> bool:
        return self._graph is not None

    def step(self) -> None:
        """One iteration."""
        t = self.iteration
        task = self.schedule.task(t, 0)
        assert task is not None
        if task.resets:
            self.memory.reset()
        if task.resets or self.steps == 0:
            self.whole_step.aim(task.batch, self.engine.config.seed * 1_000_003 + task.traversal)
        self.engine.seed(t, 0)  # a replay takes the generator's seed of now
        with self.trace.span("device step"):
            self._run()
        for scheduler in self.schedulers:
            scheduler.step()  # fills the rate's tensor
        events = self.schedule.events(t)
        self._loss_events += events
        self.rows_written += 2 * events
        self.iteration += 1
        self.steps += 1

    def mean_loss(self) -> float:
        self.rows_read = int(self.whole_step.nodes)
        return super().mean_loss()

    def memory_of(self, group: int) -> dict[str, Tensor] | None:
        return self.memory.state_dict()

    def _start(self) -> None:
        """No batch is made on the host. What was loaded into the optimisers is made fit for capturing."""
        for optimizer in self.optimizers:
            make_capturable(optimizer)

    def _run(self) -> None:
        if self._graph is not None:
            self._graph.replay()
        elif self._stream is None:
            self.whole_step.run()
        elif self.steps < WARM_UP or not self._may_capture:
            self._run_aside(self._stream)
        else:
            self._capture(self._stream)

    def _run_aside(self, stream: torch.cuda.Stream) -> None:
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.whole_step.run()
        torch.cuda.current_stream().wait_stream(stream)

    def _capture(self, stream: torch.cuda.Stream) -> None:
        """Record the step, which runs nothing, and replay it; where that fails, go on as before and say so."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=stream):
                self.whole_step.run()
        except RuntimeError as error:
            if self.engine.config.device_graph == "on":
                raise
            self._may_capture = False
            print(
                f"the step was not captured as a CUDA graph, so it runs operator by operator ({error}); "
                "--device-graph off takes the usual step.",
                file=sys.stderr,
            )
            self._run_aside(stream)
            return
        self._graph = graph
        graph.replay()


def make_capturable(optimizer: torch.optim.Optimizer) -> None:
    """Let a captured step of an Adam see its learning rate change: a tensor beside its weights, filled in place."""
    for group in optimizer.param_groups:
        device = group["params"][0].device
        rate = group["lr"]
        if not isinstance(rate, Tensor) or rate.device != device:
            # float64 where a CPU's kernel reads it, as the number that it replaces was.
            dtype = torch.float64 if device.type == "cpu" else torch.float32
            group["lr"] = torch.tensor(float(rate), dtype=dtype, device=device)
        group["capturable"] = device.type == "cuda"
