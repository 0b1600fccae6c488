"""Where else a training's numbers go: TensorBoard, MLflow.

They are read from the training's log while it grows, which both engines write in Caffe's form wherever
they run: so nothing of a training knows of it, and nothing of its result can depend on it. The log of a
run that goes on tells of its beginning, too.
"""

from __future__ import annotations

from recaffe.track.follow import following, needed

__all__ = ["following", "needed"]
