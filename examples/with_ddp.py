"""The model of own_loop.py on several processes, with torch's DistributedDataParallel.

Each process takes its share of every batch; gradients are averaged. It has no node memory, so nothing else is shared:
what a model with memory needs is what `tgscale train --layout` does.

    torchrun --nproc-per-node 2 examples/with_ddp.py [--data DIR] [--epochs 2]
"""

import argparse

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # before the process group is there: its functions would keep that alive
from own_loop import TGAT, draw, mrr
from torch.nn.parallel import DistributedDataParallel

import tgscale
from tgscale.nn.decoder import link_loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="a data directory with events; a small generated stream unless given")
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    dist.init_process_group("gloo")  # nccl on GPUs
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    stream = tgscale.open_stream(args.data) if args.data else tgscale.generate_stream(events=3000, nodes=150, seed=0)
    model = TGAT(stream)
    parallel = DistributedDataParallel(model)
    torch.manual_seed(rank)  # dropout differs from process to process
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(args.epochs):
        parallel.train()
        # Whole batches only: every process then has as many events, and a plain average is the right one.
        first, stop = stream.split().range("train")
        for event in torch.arange(first, stop - (stop - first) % (200 * world)).split(200 * world):
            mine = event[rank::world]
            loss = link_loss(parallel(*draw(stream, mine, negatives=1, seed=epoch * stream.num_events + int(mine[0]))))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if rank == 0:
            print(f"epoch {epoch + 1}: loss {loss:.3f}, val MRR {mrr(model, stream, 'val'):.4f}", flush=True)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    other = weights.clone()
    dist.broadcast(other, src=0)
    assert torch.equal(weights, other), "processes have different weights"
    if rank == 0:
        print(f"{world} processes, equal weights; test MRR {mrr(model, stream, 'test'):.4f}")
    del parallel, loss  # they keep the process group, whose threads must have ended before Python ends
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
