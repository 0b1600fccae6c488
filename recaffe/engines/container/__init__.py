"""A run's training in a container of its own, by Docker's API: `train.runtime: docker`."""

from recaffe.engines.container.train import train

__all__ = ["train"]
