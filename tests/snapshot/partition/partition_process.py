"""One of the processes of a partition, which does what it is told."""

import os
import traceback

import numpy as np
import torch
import torch.distributed as dist
from torch.nn import BatchNorm1d

from tgscale.snapshot.partition.collectives import Exchange
from tgscale.snapshot.partition.fetch import NodeRows
from tgscale.snapshot.partition.statistics import batch_norm
from tgscale.train.distributed import Ranks

from .cases import PLACEMENTS


def run_case(ranks, case):
    return case.run(lambda data: PLACEMENTS[case.placement](data, ranks))


def exchange_rows(ranks, rows, send, scale):
    """Rows that were received, the gradient of those sent, and bytes sent forward and in all."""
    exchange = Exchange(ranks)
    own = rows[ranks.rank].requires_grad_()
    out = exchange.rows(own, send[ranks.rank], [counts[ranks.rank] for counts in send])
    sent = exchange.bytes_sent
    (out * scale[ranks.rank]).sum().backward()
    return out.detach(), own.grad, sent, exchange.bytes_sent, exchange.trace.totals()


def fetch(ranks, rows, wanted, scale):
    """The rows that this process wants, the gradient of its own ones, and bytes sent forward and in all."""
    exchange = Exchange(ranks)
    own = rows[ranks.rank].requires_grad_()
    bounds = np.cumsum([0, *map(len, rows)])
    out = NodeRows(own, bounds, exchange)[wanted[ranks.rank]]
    sent = exchange.bytes_sent
    (out * scale[ranks.rank]).sum().backward()
    return out.detach(), own.grad, sent, exchange.bytes_sent


def gather(ranks, rows, scale):
    """All rows, the gradient of own ones, and bytes sent forward and in all."""
    exchange = Exchange(ranks)
    own = rows[ranks.rank].requires_grad_()
    out = exchange.gather(own, [len(each) for each in rows])
    sent = exchange.bytes_sent
    (out * scale[ranks.rank]).sum().backward()
    return out.detach(), own.grad, sent, exchange.bytes_sent


def normalize(ranks, rows, scale, options, training):
    """Batch normalisation of rows of all processes: result, gradients, buffers."""
    module = BatchNorm1d(rows[0].shape[1], **options).double().train(training)
    own = rows[ranks.rank].requires_grad_()
    out = batch_norm(module, own, sum(map(len, rows)), Exchange(ranks))
    (out * scale[ranks.rank]).sum().backward()
    return out.detach(), own.grad, [p.grad for p in module.parameters()], dict(module.named_buffers())


def serve(connection, store, rank, world):
    """Do what comes over the connection until it is closed."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, world), rank=rank, world_size=world)
    ranks = Ranks(rank, world, rank, world)
    while True:
        try:
            command, arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send((True, globals()[command](ranks, **arguments)))
        except Exception:
            connection.send((False, traceback.format_exc()))
