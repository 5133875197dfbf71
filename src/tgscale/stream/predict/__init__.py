"""Predictions for events and queries that follow those a run was trained on."""

from tgscale.stream.predict.run import predict

__all__ = ["predict"]
