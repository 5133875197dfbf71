"""A model's operators in the order and form in which they run: rewritten, split into stages, and run on a group.

Stages: *ahead*, for all steps of a group at once, what depends neither on the hidden state nor on other steps; *scans*,
recurrences that run as one call, and what else puts steps together; *loop*, step by step, what other recurrences need;
*after*, for all steps at once, the rest. What depends on the data alone is computed for the whole run, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tgscale.models.snapshot_model import SnapshotModel
from tgscale.nn.program import ACROSS_STEPS, AGGREGATE, SOURCES, WHOLE_GROUP, Node, Program, reachable, topological
from tgscale.snapshot import rewrite
from tgscale.snapshot.distinct import RowByRow, Sharing, shared_rows
from tgscale.snapshot.fuse import fuse
from tgscale.snapshot.operators import OPERATORS, GroupView, score_rows
from tgscale.snapshot.order import cluster
from tgscale.snapshot.rewrite import CONST, STATE, Rewrites, dependence
from tgscale.snapshot.scan import run_scan


@dataclass(frozen=True)
class Stages:
    """Nodes of a program by when they run, each list in an order in which they can.

    Attributes:
        kept: what the run computes once, for all steps of the sequence.
        weights: tables of weights, once per group.
        ahead, scans, loop, after: see the module.
    """

    kept: list[Node]
    weights: list[Node]
    ahead: list[Node]
    scans: list[Node]
    loop: list[Node]
    after: list[Node]


class Plan:
    """How a model runs on groups of snapshots.

    Args:
        model: whose program is planned; parameters are looked up in it at each run.
        rewrites: which rewrites are made; all unless given.

    Attributes:
        written: the program as the model gives it.
        program: the program as it runs.
        stages: its nodes by when they run.
        constants: what :meth:`keep` has computed, ``[T, N, .]``; a partition cuts its part out of it.
        shared: what is computed once for all nodes with equal data.
    """

    def __init__(self, model: SnapshotModel, rewrites: Rewrites | None = None) -> None:
        self.model, self.rewrites = model, rewrites or Rewrites()
        self.written = model.program()
        self.program = rewritten(self.written, self.rewrites)
        stages = split(self.program, self.rewrites)
        self.stages = replace(stages, ahead=cluster(stages.ahead))
        nodes = topological(self.program.roots())
        self._varies = _varying(nodes)
        self._needed_after = {each for node in self.stages.after for each in node.inputs} | {_output(self.program)}
        self.constants: dict[Node, Tensor] = {}
        fixed = {node for node in nodes if not node.per_node and not self._varies[node]}
        self.shared = shared_rows(nodes, self.stages.kept, self.stages.ahead if self.rewrites.distinct else [], fixed)
        self._on_tables = set(self.shared.rowwise)
        self._kept_from: tuple[int, int] | None = None
        self._modules = dict(model.named_modules())

    @property
    def operators(self) -> list[str]:
        """Names of the adjacencies that it needs."""
        nodes = topological(self.program.roots())
        names = {str(node.attrs[0]) for node in nodes if node.op == AGGREGATE}
        scanned = {name.partition("^")[0] for node in nodes if node.op == "scan" for name in node.attrs[1]}
        return sorted(names | scanned - {""})

    def keep(self, view: GroupView) -> int:
        """Compute what depends on the data alone, for all steps of a sequence.

        Args:
            view: all steps of the sequence as one group.

        Returns:
            Bytes that it takes.
        """
        if self.stages.kept and view.x.requires_grad:
            raise ValueError("features that are learned change each step, so nothing can be kept: plan without cache")
        values: dict[Node, Tensor] = {}
        with torch.no_grad():
            wanted = topological(self.stages.kept)
            users = {each: node for node in wanted for each in node.inputs}
            for node in wanted:
                values[node] = view.x if node.op == "input" else self._evaluate(node, values, view)
                for each in node.inputs:
                    if users[each] is node and each not in self.stages.kept:
                        values.pop(each, None)
        self.constants = {node: values[node] for node in self.stages.kept}
        self._kept_from = _identity(view.x)
        self._number_rows(view)
        return sum(value.nbytes for value in self.constants.values())

    def run(
        self,
        view: GroupView,
        hand_over: Callable[[list[Tensor]], list[Tensor]] | None = None,
        then: RowByRow | None = None,
    ) -> Tensor:
        """Embeddings of a group.

        Args:
            view: the group. Kept values are looked up by its first step, so it must belong to the sequence that
                :meth:`keep` has seen.
            hand_over: called with all that the recurrence takes over from what runs ahead of it, ``[w, N, .]`` each:
                a partition may lay it out differently there.
            then: what is wanted of the embeddings in their place, row by row; of distinct rows where they are shared.

        Returns:
            ``[w, N, C]``, or ``[N, C]`` where the model gives one embedding per group.
        """
        if hand_over is None:
            shared = self.sharing(view)
            return self.run_recurrence(view, self.run_ahead(view, shared), shared, then)
        values = self.run_ahead(view)
        crossing = [node for node in self.crossing() if node.per_node]
        values.update(zip(crossing, hand_over([values[node] for node in crossing]), strict=True))
        return self.run_recurrence(view, values, then=then)

    def crossing(self) -> list[Node]:
        """What is there ahead for each step, as data or computed, and is used by the recurrence, or comes out."""
        later = [*self.stages.scans, *self.stages.loop, *self.stages.after]
        used = {each for node in later for each in node.inputs} | {_output(self.program)}
        ahead = {node for node in topological(self.program.roots()) if node.op == "input"}
        ahead |= {*self.stages.kept, *self.stages.ahead}
        return [node for node in topological(self.program.roots()) if node in used and node in ahead]

    def _number_rows(self, view: GroupView) -> None:
        self.shared.forget()
        on_host = view.x.device.type == "cpu" and view.x.dtype in (torch.float32, torch.float64) and view.x.numel() > 0
        if self.shared.users and on_host and not view.x.requires_grad:
            self.shared.keep(view.x if node.op == "input" else self.constants[node] for node in self.shared.sources)

    def sharing(self, view: GroupView) -> Sharing | None:
        """What the nodes of a group share, for :meth:`run_ahead` and :meth:`run_recurrence`; None: nothing."""
        if self.shared.numbers is None or self._kept_from != _identity(view.x):
            return None
        part = slice(view.first, view.first + view.window)
        values = {n: view.x if n.op == "input" else self.constants[n][part] for n in self.shared.sources}
        return self.shared.of(view, values)

    def run_ahead(self, view: GroupView, shared: Sharing | None = None) -> dict[Node, Tensor]:
        """Everything up to the recurrence; with ``shared``, tables of distinct rows for what works on such.

        Raises:
            ValueError: values that the run keeps were not computed yet, or from features that have changed since.
        """
        storage, version = _identity(view.x)
        before = self._kept_from
        if self.stages.kept and (before is None or (storage == before[0] and version != before[1])):
            raise ValueError("what is kept for the whole run is missing or out of date: call keep first")
        values: dict[Node, Tensor] = {}
        for node in topological(self.program.roots()):
            if node.op == "input":
                values[node] = view.x
        for node, constant in self.constants.items():
            values[node] = constant[view.first : view.first + view.window]
        for node in self.stages.weights:
            values[node] = self._evaluate(node, values, view)
        tables = values | shared.tables if shared else values
        for node in self.stages.ahead:
            if shared and node in self._on_tables:
                values[node] = tables[node] = self._evaluate(node, tables, view)
            else:
                values[node] = self._evaluate(node, self._of_all(node, values, shared), view)
        return values

    def run_recurrence(
        self,
        view: GroupView,
        values: dict[Node, Tensor],
        shared: Sharing | None = None,
        then: RowByRow | None = None,
    ) -> Tensor:
        """The recurrence, and what comes after it; ``shared`` as in :meth:`run_ahead`, ``then`` as in :meth:`run`."""
        out = _output(self.program)
        if shared and shared.takes_table(out) and self.stages.scans == [out]:  # the scan's rows are what comes out
            return shared.run(out, [values[each] for each in out.inputs], then)
        for node in self.stages.scans:
            if shared and shared.takes_table(node) and node.inputs[0] in self._on_tables:
                values[node] = shared.run(node, [values[each] for each in node.inputs])
            else:
                values[node] = self._evaluate(node, self._of_all(node, values, shared), view)
        if shared and (self.stages.loop or self.stages.after):
            used = {each for node in (*self.stages.loop, *self.stages.after) for each in node.inputs}
            values.update({node: shared.expand(values[node]) for node in used & self._on_tables})
        if self.stages.loop:
            self._run_loop(view, values)
        for node in self.stages.after:
            values[node] = self._evaluate(node, values, view)
        embeddings = shared.expand(values[out]) if shared and out in self._on_tables else values[out]
        return then(embeddings) if then else embeddings

    def _of_all(self, node: Node, values: dict[Node, Tensor], shared: Sharing | None) -> dict[Node, Tensor]:
        """What an operator takes, with rows for all nodes."""
        at = {each: values[each] for each in node.inputs}
        if shared:
            at |= {each: shared.expand(at[each]) for each in at if each in self._on_tables}
        return at

    def _run_loop(self, view: GroupView, values: dict[Node, Tensor]) -> None:
        loop, updates = self.stages.loop, self.program.updates
        outside = {each for node in loop for each in node.inputs if each in values}
        steps = {node: values[node].unbind(0) for node in outside if self._varies[node]}
        states = {state: self._initial(state, values, view) for state in updates}
        found: dict[Node, list[Tensor]] = {node: [] for node in [*loop, *updates] if node in self._needed_after}
        for t in range(view.window):
            now = {node: values[node] for node in outside} | {node: part[t] for node, part in steps.items()} | states
            for node in loop:
                now[node] = self._evaluate(node, now, view, t)
            for node, history in found.items():
                history.append(now[node])
            states = {state: now[value] for state, value in updates.items()}
        values.update({node: torch.stack(history) for node, history in found.items()})

    def _initial(self, state: Node, values: dict[Node, Tensor], view: GroupView) -> Tensor:
        return values[state.inputs[0]] if state.inputs else _zeros(state, values, view)

    def _evaluate(self, node: Node, values: dict[Node, Tensor], view: GroupView, step: int | None = None) -> Tensor:
        at = [values[each] for each in node.inputs]
        if node.op in OPERATORS:
            return OPERATORS[node.op](node, at)
        if node.op == AGGREGATE:
            weight = at[1] if len(at) > 1 else None
            if step is None:
                return view.aggregate(node.attrs[0], at[0], weight)
            return view.aggregate_at(node.attrs[0], step, at[0], weight)
        if node.op == "parameter":
            return self.model.get_parameter(node.attrs[0])
        if node.op == "scan":
            return run_scan(node, at, view)
        if node.op == "dropout":
            return nn.functional.dropout(at[0], node.attrs[0], self.model.training)
        if node.op == "batch_norm":
            module = self._modules[node.attrs[0]]
            assert isinstance(module, nn.BatchNorm1d)
            return view.batch_norm(module, at[0])
        if node.op == "top_rows":
            return view.top_rows(at[0], score_rows(at[0], at[1]), node.attrs[0])
        assert node.op == "state", node.op  # one that nothing updates
        return self._initial(node, values, view)


def _identity(x: Tensor) -> tuple[int, int]:
    """Where a tensor's numbers lie, and how often they were altered."""
    return x.untyped_storage().data_ptr(), x._version


def _zeros(state: Node, values: dict[Node, Tensor], view: GroupView) -> Tensor:
    """A per-node state as a group begins; as many rows as the recurrence has, whoever lays them out."""
    rows = next((v.shape[1] for node, v in values.items() if node.per_node and v.dim() == 3), view.x.shape[1])
    return view.x.new_zeros(rows, state.width)


def rewritten(program: Program, rewrites: Rewrites) -> Program:
    """A program after the rewrites that were asked for, in the order in which they help each other."""
    if rewrites.share:
        program = rewrite.share(program)
    if rewrites.associate:
        program = rewrite.associate(program)
    if rewrites.fold:
        program = rewrite.drop_zeros(rewrite.fold(program))
    if rewrites.share:
        program = rewrite.share(program)
    if rewrites.fuse:
        program = fuse(program)
    if rewrites.merge:
        program = rewrite.add_biases(rewrite.merge(rewrite.gather_biases(program)))
    return rewrite.share(program) if rewrites.share else program


def split(program: Program, rewrites: Rewrites) -> Stages:
    """Say for every node when it runs."""
    nodes = topological(program.roots())
    depends, varies = dependence(nodes), _varying(nodes)
    on_live: dict[Node, bool] = {}
    for node in nodes:
        on_live[node] = node in program.updates or any(on_live[each] for each in node.inputs)
    across: dict[Node, bool] = {}
    for node in nodes:
        across[node] = node.op in ACROSS_STEPS or any(across[each] for each in node.inputs)
    # What these need, they need for all steps at once, hoisted or not.
    whole = _ancestors([node for node in nodes if node.op in (*WHOLE_GROUP, "scan") and not on_live[node]])
    wanted = _ancestors(program.updates.values())
    kept: list[Node] = []
    stages: dict[str, list[Node]] = {name: [] for name in ("weights", "ahead", "scans", "loop", "after")}
    const_only = _kept_nodes(nodes, depends, program) if rewrites.cache else set()
    still_used = reachable(program.roots(), const_only)
    for node in nodes:
        if node.op == "input" or node in program.updates or node not in still_used:
            continue
        if node in const_only:
            kept.append(node)
        elif not varies[node] and not on_live[node]:
            stages["weights"].append(node)
        elif not on_live[node]:
            in_steps = not rewrites.hoist and node not in whole and program.updates
            alone = depends[node] != STATE and not across[node]
            stages["loop" if in_steps else "ahead" if alone else "scans"].append(node)
        elif node.op in WHOLE_GROUP or (rewrites.hoist and node not in wanted) or _after_group(node, wanted):
            stages["after"].append(node)
        else:
            stages["loop"].append(node)
    return Stages(kept, **stages)


def _after_group(node: Node, wanted: set[Node]) -> bool:
    """Whether a node works on what a whole-group operator gives, and so cannot run step by step."""
    return node not in wanted and any(each.op in WHOLE_GROUP for each in _ancestors([node]))


def _kept_nodes(nodes: Sequence[Node], depends: dict[Node, str], program: Program) -> set[Node]:
    """What depends on data alone and is used by something that does not, sources aside: where to stop computing."""
    used = {each for node in nodes if depends[node] != CONST for each in node.inputs} | {_output(program)}
    whole = {node for node in nodes if node.op in WHOLE_GROUP}  # of a group's steps, not of the run's
    tainted = set()
    for node in nodes:
        if node in whole or any(each in tainted for each in node.inputs):
            tainted.add(node)
    return {
        node
        for node in nodes
        if node in used and depends[node] == CONST and node.op not in SOURCES and node not in tainted
    }


def _varying(nodes: Sequence[Node]) -> dict[Node, bool]:
    """Whether a node's value differs from step to step, and so has a leading dimension of steps."""
    varies: dict[Node, bool] = {}
    for node in nodes:
        varies[node] = node.op in ("input", "state", "scan") or any(varies[each] for each in node.inputs)
    return varies


def _output(program: Program) -> Node:
    assert program.output is not None
    return program.output


def _ancestors(roots: Iterable[Node]) -> set[Node]:
    return set(topological(list(roots)))
