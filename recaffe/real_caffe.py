"""The way out where the built-in engine lacks something that Caffe has."""

from __future__ import annotations


def can(what: str) -> str:
    """The sentence for the end of a message: `what` is what real Caffe can do."""
    return f"Real Caffe can {what}: use `caffe train` (in a clone, `make caffe` builds it)."
