"""Models of event streams in plain words: node after node, event after event, with the weights of the real ones."""

import math

import torch
from torch.nn import functional as F


def past(stream, node, time, k):
    """The latest k events of a node strictly before a time, latest first: (event, the other end)."""
    found = []
    for event in range(stream.num_events):
        ends = int(stream.src[event]), int(stream.dst[event])
        if stream.time[event] < time and node in ends:
            found.append((event, ends[1] if ends[0] == node else ends[0]))
    return found[::-1][:k]


class Plain:
    """What all of them share. A subclass says what a root's embedding is, and what an event leaves behind."""

    def __init__(self, engine):
        self.model, self.stream, self.k = engine.model, engine.stream, engine.config.sampling.neighbors
        self.dim = engine.config.model.dim
        self.zero = torch.zeros(self.dim, dtype=torch.float64)
        self.time = [int(t) for t in self.stream.time]

    def past(self, node, time):
        return past(self.stream, node, time, self.k)

    def features(self, event):
        return torch.tensor(self.stream.edge_features[event], dtype=torch.float64)

    def phi(self, dt):
        return torch.cos(self.model.time.omega.double() * dt + self.model.time.bias.double())

    def embed(self, node, time):
        raise NotImplementedError

    def after(self, events):
        """Nothing is kept."""

    def score(self, batch):
        """Logits of a batch's candidates; then its events leave what they leave."""
        block, decoder = batch.block, self.model.decoder
        roots = block.nodes[block.roots[block.root_row]]
        rows = []
        for b, event in enumerate(batch.event.tolist()):
            time = self.time[event]
            source = self.embed(int(self.stream.src[event]), time)
            logits = []
            for candidate in roots[batch.candidate[b]].tolist():
                hidden = decoder.source(source) + decoder.destination(self.embed(candidate, time))
                logits.append(decoder.out(F.relu(hidden)))
            rows.append(torch.cat(logits))
        with torch.no_grad():
            self.after(batch.event.tolist())
        return torch.stack(rows)


def attention(query, keys, values, heads):
    """Softmax over the keys of q.k / sqrt(width of a head), head after head."""
    out, width = [], len(query) // heads
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        scores = torch.stack([query[part] @ key[part] / math.sqrt(width) for key in keys])
        weights = torch.softmax(scores, 0)
        out.append(sum(weight * value[part] for weight, value in zip(weights, values, strict=True)))
    return torch.cat(out)


def same_as_plain(engine, plain, batches=3, negatives=1):
    """Compare logits and all gradients over some batches, in float64."""
    engine.model.eval()
    weights = {name: weight for name, weight in engine.model.named_parameters() if weight.requires_grad}
    touched = set()
    for start in range(0, 20 * batches, 20):
        batch = engine.builder.range(start, start + 20, negatives, seed=start)
        fast, slow = engine.score(batch), plain.score(batch)
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
        value = torch.randn(fast.shape, dtype=fast.dtype, generator=torch.Generator().manual_seed(start))
        gradients = [
            torch.autograd.grad((logits * value).sum(), list(weights.values()), allow_unused=True)
            for logits in (fast, slow)
        ]
        for name, ours, theirs in zip(weights, *gradients, strict=True):
            zero = torch.zeros_like(weights[name])
            ours, theirs = (zero if gradient is None else gradient for gradient in (ours, theirs))
            torch.testing.assert_close(
                ours, theirs, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
            )
            if theirs.any():
                touched.add(name)
    assert touched == set(weights)  # all weights learn
