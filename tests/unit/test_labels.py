"""Labels and indices that point at nothing are named, on the CPU and before they go to a GPU."""

import pytest
import torch

from recaffe.engines.torch.data.batch import Batch, Buffers
from recaffe.engines.torch.upload import on_device
from recaffe.errors import DataError
from tests.unit.small_nets import CONV, DATA, FC, LOSS, build, inputs

EMBED = (
    'layer { name: "e" type: "Embed" bottom: "label" top: "e" embed_param { input_dim: 5 num_output: 2 } } '
    'layer { name: "quiet" type: "Silence" bottom: "data" }'
)  # fmt: skip


def test_a_label_that_is_no_class_is_named() -> None:
    net = build(f"{CONV} {FC} {LOSS}")
    blobs = inputs()
    blobs["label"][2] = 6
    with pytest.raises(DataError, match="'loss'.*classes 0 to 5, but met the label 6"):
        net(blobs)


def test_an_index_without_weights_is_named() -> None:
    net = build(EMBED)
    with pytest.raises(DataError, match="'e'.*indices 0 to 4, but met 5"):
        net({"data": inputs()["data"], "label": torch.tensor([0.0, 5, 2, 3])})


BOTH = (
    'layer { name: "both" type: "Input" top: "data" top: "label" '
    "input_param { shape { dim: 4 dim: 3 dim: 8 dim: 8 } shape { dim: 4 } } }"
)
WRONG = {
    "a label beyond": (f"{CONV} {FC} {LOSS}", 6, "'loss'.*classes 0 to 5, but met the label 6"),
    "a negative label": (f"{CONV} {FC} {LOSS}", -1, "'loss'.*classes 0 to 5, but met the label -1"),
    "an ignored label": (f"{CONV} {FC} {LOSS.replace('top:', 'loss_param { ignore_label: 255 } top:')}", 255, None),
    "by axis": (f'{CONV} {LOSS.replace("fc", "conv").replace("top:", "softmax_param { axis: -3 } top:")}', 5, "classes 0 to 4"),
    "one for all scores": (f"{CONV} {LOSS.replace('fc', 'conv').replace('SoftmaxWithLoss', 'HingeLoss')}", 180, "classes 0 to 179"),
    "an index": (EMBED, 5, "'e'.*indices 0 to 4, but met 5"),
    "labels that a layer has changed": (f'{BOTH} layer {{ name: "less" type: "Power" bottom: "label" top: "label" power_param {{ scale: 0.5 }} }} {CONV} {FC} {LOSS}', 6, None),
    "labels that a layer makes": (f'layer {{ name: "less" type: "Power" bottom: "label" top: "half" power_param {{ scale: 0.5 }} }} {CONV} {FC} {LOSS.replace("label", "half")}', 6, None),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_labels_are_looked_at_before_they_go_to_a_device(case: str) -> None:
    """For a GPU such a label would be the end: nothing may be read on the device, here none at all."""
    text, label, said = WRONG[case]
    shapes = dict(DATA, label=(4, 6, 6) if case == "by axis" else (4,))
    walked = build(text, inputs=shapes).walked
    labels = torch.zeros(shapes["label"])
    labels.view(-1)[2] = label
    batches = iter([Batch(0, 4, {"data": torch.zeros(DATA["data"]), "label": labels}, Buffers())])
    ready = on_device(batches, torch.device("meta"), channels_last=True, net=walked)
    if said is None:
        assert next(ready)[1]["label"].device.type == "meta"
        return
    with pytest.raises(DataError, match=said):
        next(ready)
