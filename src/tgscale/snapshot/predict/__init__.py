"""Predictions for the steps that follow a snapshot sequence, or for any of its own."""

from tgscale.snapshot.predict.run import predict_snapshots

__all__ = ["predict_snapshots"]
