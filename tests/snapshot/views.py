"""A group of snapshots with dense adjacencies: the simplest view that a plan can run on."""

from dataclasses import dataclass, field

import torch

from tgscale.snapshot.operators import pick_top


@dataclass
class DenseView:
    """Every operator is a dense matrix per step."""

    x: torch.Tensor
    matrices: dict[str, torch.Tensor]
    first: int = 0
    calls: list[str] = field(default_factory=list)

    @classmethod
    def random(cls, window=5, nodes=7, features=3, relations=2, seed=0):
        g = torch.Generator().manual_seed(seed)

        def matrix():
            dense = torch.rand(window, nodes, nodes, generator=g, dtype=torch.float64)
            return torch.where(torch.rand(dense.shape, generator=g) < 0.3, dense, 0)

        names = ["gcn", "chebyshev", *(f"mean:{r}" for r in range(relations))]
        x = torch.randn(window, nodes, features, generator=g, dtype=torch.float64)
        return cls(x, {name: matrix() for name in names})

    @property
    def window(self):
        return len(self.x)

    def at(self, step):
        return lambda operator, x: self.matrices[operator][self.first + step] @ x

    def aggregate(self, operator, x, edge_weight=None):
        self.calls.append(operator)
        matrix = self.matrices[operator][self.first : self.first + self.window]
        return (matrix if edge_weight is None else matrix * edge_weight) @ x

    def aggregate_at(self, operator, step, x, edge_weight=None):
        self.calls.append(operator)
        matrix = self.matrices[operator][self.first + step]
        return (matrix if edge_weight is None else matrix * edge_weight) @ x

    def adjacency(self, operator):
        return None

    def graphs(self):
        return torch.arange(self.first, self.first + self.window)

    def batch_norm(self, module, x):
        return module(x.flatten(0, 1)).view_as(x)

    def top_rows(self, x, score, count):
        return pick_top(x, score, count)

    def part(self, first, window):
        return DenseView(self.x[first : first + window], self.matrices, first, self.calls)
