"""A model that is loaded: records in, probabilities and heat maps out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recaffe.engines import views
from recaffe.engines.scoring import transformation
from recaffe.engines.torch import cam
from recaffe.engines.torch.data import Batch
from recaffe.engines.torch.data.batch import Buffers, Windows
from recaffe.engines.torch.data.transform import Transform
from recaffe.engines.torch.scorer import Scorer
from recaffe.errors import DataError, NetError
from recaffe.model.folder import Model
from recaffe.net.parse import read_net


class Classifier:
    """The net of a model's folder with its preprocessing; records are uint8 C×H×W, as in its LMDB.

    `batch_size` (the most records at once) and `threads` 0 are the defaults. One thread at a time may
    use it. Raises `NetError` and `WeightsError` where the model's files don't fit each other.
    """

    def __init__(
        self, model: Model, batch_size: int = 0, threads: int = 0, device: str = "auto"
    ) -> None:
        job = model.job(batch_size, threads, device)
        self.model, self.batch_size = model, job.batch_size
        views.check(job.crops, job.crop_size, model.record_shape[1:])
        # The centre crop, which heat maps are of; and what the scores are the mean of.
        self._transform, *self._tested = (
            Transform(transformation(job), model.record_shape, training=False, seed=0, view=view)
            for view in (None, *views.of(job.crops))
        )
        net = read_net(job.deploy)
        self._scorer = Scorer(job, net, self._transform.shape, what="--batch-size")
        self._buffers = Buffers()

    def scores(self, records: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities, float32 N×K; raises `DataError` if they aren't as many as the labels."""
        batches = (self._batch(records, transform)[0] for transform in self._tested)
        with self._scorer.ready() as score:
            found = views.mean([score(batch)[0] for batch in batches])
        if found.shape[1] != len(self.model.labels):
            raise DataError(
                f"The net of {self.model.folder} gives {found.shape[1]} numbers a picture, and there "
                f"are {len(self.model.labels)} labels. Copy the whole folder again."
            )
        return found

    def why_no_heat_maps(self) -> str:
        """Why the net has none; empty where it has."""
        try:
            cam.view(self._scorer.net)
        except NetError as error:
            return str(error)
        return ""

    def heat_maps(
        self, records: Sequence[np.ndarray], classes: Sequence[int]
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """What the net sees of each record, uint8 H×W×3 in RGB, and where in it speaks for its class.

        Maps are float32 N×h×w (see `cam.maps`); raises `NetError` if the net has none.
        """
        batch, windows = self._batch(records, self._transform)
        with self._scorer.ready():
            blob = batch.to(self._scorer.device, channels_last=True)[self._scorer.top]
            heat = cam.maps(self._scorer.net, blob, classes)
        return [as_rgb(x) for x in windows.pixels.numpy()], heat

    def _batch(self, records: Sequence[np.ndarray], transform: Transform) -> tuple[Batch, Windows]:
        n = len(records)
        filling = transform.start(0, n, range(n), self._buffers)
        for record in records:
            filling.add(record)
        windows = filling.done()
        return Batch(0, n, {self._scorer.top: windows}, self._buffers), windows


def as_rgb(window: np.ndarray) -> np.ndarray:
    """Caffe's gray or BGR, C×H×W, as H×W×3; float records as the nearest uint8."""
    values = np.clip(np.rint(window), 0, 255).astype(np.uint8)
    three = values[::-1] if len(values) == 3 else np.repeat(values[:1], 3, 0)
    return np.ascontiguousarray(three.transpose(1, 2, 0))
