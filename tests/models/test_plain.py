"""Each model against its paper's equations, one root and one event at a time: scores, gradients and what is kept."""

import pytest
import torch
from torch.nn import functional as F

from .plain import Plain, attention, same_as_plain


class PlainJODIE(Plain):
    def __init__(self, engine):
        super().__init__(engine)
        self.kept = {}  # node -> memory, its time, own and other memory and event of the mail

    def now(self, node):
        if node not in self.kept:
            return self.zero
        memory, since, own, other, event = self.kept[node]
        x = torch.cat([own, other, self.features(event), self.phi(self.time[event] - since)])
        return self.model.updater.cell(x[None], memory[None])[0]

    def embed(self, node, time):
        elapsed = time - self.time[self.kept[node][4]] if node in self.kept else 0
        delta = torch.log1p(elapsed / self.model.gap[None])
        return self.now(node) * (1 + self.model.drift.weight @ delta)

    def after(self, events):
        new = {}
        for event in events:
            ends = int(self.stream.src[event]), int(self.stream.dst[event])
            for own, other in (ends, ends[::-1]):
                since = self.time[self.kept[own][4]] if own in self.kept else 0
                new[own] = (self.now(own), since, self.now(own), self.now(other), event)
        self.kept.update(new)


class PlainDyRep(Plain):
    def __init__(self, engine):
        super().__init__(engine)
        self.kept = {}  # node -> z, its time, other end, (state, event) of its neighbors, event of the mail

    def now(self, node):
        if node not in self.kept:
            return self.zero
        z, since, other, around, event = self.kept[node]
        time, h, model = self.time[event], self.zero, self.model
        if around:
            query = model.query(other)
            keys = [
                model.key(torch.cat([state, self.features(met), self.phi(time - self.time[met])]))
                for state, met in around
            ]
            q = torch.softmax(torch.stack([query @ key for key in keys]) / self.dim**0.5, 0)
            each = [torch.sigmoid(weight * model.neighbor(state)) for weight, (state, _) in zip(q, around, strict=True)]
            h = torch.stack(each).max(0).values
        x = torch.cat([h, self.features(event), self.phi(time - since)])
        return model.cell(x[None], z[None])[0]

    def embed(self, node, time):
        return self.now(node)

    def after(self, events):
        new = {}
        for event in events:
            ends, time = (int(self.stream.src[event]), int(self.stream.dst[event])), self.time[event]
            for own, other in (ends, ends[::-1]):
                since = self.time[self.kept[own][4]] if own in self.kept else 0
                around = [(self.now(node), met) for met, node in self.past(other, time)]
                new[own] = (self.now(own), since, self.now(other), around, event)
        self.kept.update(new)


class PlainAPAN(Plain):
    def __init__(self, engine):
        super().__init__(engine)
        self.z, self.boxes = {}, {}  # node -> last embedding; node -> (mail, event), latest first

    def now(self, node):
        box, z, model = self.boxes.get(node), self.z.get(node, self.zero), self.model
        if not box:
            return z
        mails = [
            mail + model.edge(self.features(event)) + model.position[place] for place, (mail, event) in enumerate(box)
        ]
        keys, values = [model.key(m) for m in mails], [model.value(m) for m in mails]
        read = model.out(attention(model.query(z), keys, values, model.config.heads))
        return model.mlp(model.norm(z + read))

    def embed(self, node, time):
        return self.now(node)

    def after(self, events):
        boxes, z = {node: list(box) for node, box in self.boxes.items()}, {}
        for event in events:
            ends, time = (int(self.stream.src[event]), int(self.stream.dst[event])), self.time[event]
            mail = self.now(ends[0]) + self.now(ends[1])
            for node in {*ends, *(other for end in ends for _, other in self.past(end, time))}:
                boxes[node] = [(mail, event), *boxes.get(node, [])][: self.model.config.mails]
            z.update({node: self.now(node) for node in ends})
        self.boxes = boxes
        self.z.update(z)


class PlainTGAT(Plain):
    def embed(self, node, time, layer=None):
        layer = len(self.model.layers) if layer is None else layer
        if layer == 0:
            return self.model.static.table[node]
        inner = self.model.layers[layer - 1]
        own = self.embed(node, time, layer - 1)
        query = inner.w_query(torch.cat([own, self.phi(0)]))
        around = [
            torch.cat(
                [
                    self.embed(other, self.time[event], layer - 1),
                    self.features(event),
                    self.phi(time - self.time[event]),
                ]
            )
            for event, other in self.past(node, time)
        ]
        keys, values = [inner.w_key(x) for x in around], [inner.w_value(x) for x in around]
        read = attention(query, keys, values, inner.heads) if around else self.zero
        return inner.norm(F.relu(inner.w_out(torch.cat([read, own]))))


class PlainGraphMixer(Plain):
    def embed(self, node, time):
        model, table, around = self.model, self.model.static.table, self.past(node, time)
        tokens = torch.zeros(self.k, model.link.in_features, dtype=torch.float64)
        for place, (event, _) in enumerate(around):
            tokens[place] = torch.cat([self.features(event), self.phi(time - self.time[event])])
        x = torch.stack([model.link(token) for token in tokens])
        for layer in model.mixer:
            mixed = layer.link_norm(x)
            x = x + torch.stack([layer.over_links(mixed[:, d]) for d in range(self.dim)], dim=1)
            x = x + torch.stack([layer.over_channels(row) for row in layer.channel_norm(x)])
        links = torch.stack([model.norm(row) for row in x]).mean(0)
        near = [table[other] for event, other in around if time - self.time[event] <= model.config.gap]
        nodes = table[node] + (sum(near) / len(near) if near else 0)
        return model.out(torch.cat([links, nodes]))


CASES = {
    "jodie": (PlainJODIE, {}),
    "jodie, learned time": (PlainJODIE, {"model__time_encoding": "learned"}),
    "dyrep": (PlainDyRep, {}),
    "apan": (PlainAPAN, {"model__mails": 3}),
    "tgat": (PlainTGAT, {"sampling__neighbors": 3, "static__mode": "cotrained"}),
    "tgat, 1 layer": (PlainTGAT, {"model__layers": 1, "static__mode": "cotrained", "model__time_encoding": "learned"}),
    "graphmixer": (PlainGraphMixer, {"model__gap": 60, "static__mode": "cotrained"}),
    "graphmixer, 2 layers": (PlainGraphMixer, {"model__layers": 2, "model__gap": 9, "static__mode": "cotrained"}),
}


@pytest.mark.parametrize("case", CASES)
def test_scores_and_gradients_equal_the_equations(streams, case):
    kind, options = CASES[case]
    name = case.partition(",")[0]
    stream = streams.random_stream(times=100)  # many ties
    engine = streams.build_engine(stream, double=True, model__name=name, model__pair_encoding=False, **options)
    if engine.config.static.mode == "cotrained":
        table = engine.model.static.table
        engine.model.static.table = torch.nn.Parameter(table.detach(), requires_grad=False)
        engine.model.static.trained = False
    same_as_plain(engine, kind(engine))
