"""The model of own_loop.py under Lightning: its loop, checkpoints and logging, our sampling and layers.

pip install lightning
python examples/with_lightning.py [--data DIR] [--epochs 3]
"""

import argparse
import importlib.util
import sys

import torch
from own_loop import TGAT, draw, mrr
from torch import Tensor
from torch.utils.data import DataLoader

import tgscale
from tgscale.nn.decoder import link_loss

if importlib.util.find_spec("lightning") is None:
    print("with_lightning.py: Lightning is not installed, so there is nothing to show: pip install lightning")
    sys.exit(0)

import lightning


class LinkPrediction(lightning.LightningModule):
    """Next-event prediction on a stream; a batch is a tensor of event ids in time order."""

    def __init__(self, stream: tgscale.EventStream) -> None:
        super().__init__()
        self.stream, self.model = stream, TGAT(stream)

    def training_step(self, event: Tensor, index: int) -> Tensor:
        seed = self.current_epoch * self.stream.num_events + int(event[0])
        loss = link_loss(self.model(*draw(self.stream, event, negatives=1, seed=seed)))
        self.log("loss", loss, batch_size=len(event))
        return loss

    def on_train_epoch_end(self) -> None:
        print(f"epoch {self.current_epoch + 1}: val MRR {mrr(self.model, self.stream, 'val'):.4f}", flush=True)
        self.model.train()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def batches(stream: tgscale.EventStream, part: str) -> DataLoader:
    """Batches of 200 consecutive events of a part, in time order."""
    events = range(*stream.split().range(part))
    return DataLoader(events, batch_size=200, shuffle=False)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="a data directory with events; a small generated stream unless given")
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    lightning.seed_everything(0)
    stream = tgscale.open_stream(args.data) if args.data else tgscale.generate_stream(events=3000, nodes=150, seed=0)
    module = LinkPrediction(stream)
    trainer = lightning.Trainer(
        max_epochs=args.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, batches(stream, "train"))
    print(f"test MRR {mrr(module.model, stream, 'test'):.4f}")


if __name__ == "__main__":
    main()
