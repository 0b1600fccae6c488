"""A batch in parts is the whole batch; which part fits, and what is said where none does."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from recaffe import config
from recaffe.config import ROOT
from recaffe.engines.torch import memory, nets
from recaffe.engines.torch.data import Feed
from recaffe.engines.torch.net import Net
from recaffe.errors import ConfigError
from recaffe.net.parse import read_net
from recaffe.proto import caffe_pb2 as pb
from tests.training import IGNORE, write_training
from tests.unit.trained import CPU, final, lines, losses, same


@pytest.mark.parametrize("loss", ["", IGNORE, "loss_param { normalization: NONE }"])
@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_a_batch_in_parts_is_the_whole_batch(tmp_path: Path, loss: str, micro_batch: int) -> None:
    write_training(tmp_path, loss=loss, base_lr=0.005)
    final(tmp_path, final=tmp_path / "whole")
    shown = losses(lines((tmp_path / "log").read_text()))
    whole = tmp_path / "whole"
    parts = final(tmp_path, micro_batch=micro_batch)
    assert same(whole, parts, 2e-5)
    assert losses(lines((tmp_path / "log").read_text())) == pytest.approx(shown, rel=1e-4)


def test_a_micro_batch_that_does_not_divide_names_those_that_do(tmp_path: Path) -> None:
    write_training(tmp_path)
    with pytest.raises(ConfigError, match="micro_batch is 3.*the 8 pictures.*can be 8, 4, 2, 1"):
        final(tmp_path, micro_batch=3)


def test_batch_size_auto_is_the_nets_own_in_parts_that_fit() -> None:
    row = {"weights": "none", "batch_size": "auto"}
    for net, own in (("squeezenet_v1.1", 32), ("lenet", 64)):
        run = config.complete({"dataset": "d", "images": "x", "runs": {"a": {**row, "net": net}}})
        assert run["runs"]["a"]["batch_size"] == own
        assert run["runs"]["a"]["micro_batch"] == "auto"


def test_the_largest_part_that_fits_is_found() -> None:
    tried: list[int] = []
    assert memory.largest(48, lambda n: bool(tried.append(n)) or n <= 13) == 12
    assert tried == [48, 24, 16, 12]
    assert memory.largest(48, lambda n: False) == 0


LIMITED = """
    import resource, sys
    from pathlib import Path
    from recaffe.engines.base import TrainJob
    from recaffe.engines.torch.train import Trainer, train
    from recaffe.engines.torch import distributed, memory
    from recaffe.errors import RecaffeError
    import torch
    torch.set_num_threads(1)
    job = TrainJob(Path(sys.argv[1]), device="cpu", micro_batch=sys.argv[2])
    if sys.argv[2] == "0":
        job = TrainJob(Path(sys.argv[1]), device="cpu")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[3]),) * 2)
    try:
        print("trained", train(job).iteration)
    except RecaffeError as error:
        print("recaffe:", error)
"""


def limited(solver: Path, micro_batch: str, extra: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(solver), micro_batch, str(extra)],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    return done.stdout + done.stderr


def test_running_out_of_memory_names_numbers_and_what_would_fit(tmp_path: Path) -> None:
    wide = 'layer { name: "wide" type: "Convolution" bottom: "data" top: "wide" ' \
        'convolution_param { num_output: 2000 kernel_size: 1 weight_filler { type: "xavier" } } }' \
        'layer { name: "thin" type: "Pooling" bottom: "wide" top: "thin" pooling_param { pool: AVE global_pooling: true } }' \
        'layer { name: "mute" type: "InnerProduct" bottom: "thin" top: "more" inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }' \
        'layer { name: "third" type: "SoftmaxWithLoss" bottom: "more" bottom: "label" top: "third" }'  # fmt: skip
    solver = write_training(tmp_path, batch=1024, middle=wide, max_iter=1, test_interval=100)
    said = limited(solver, "0", 900 * 2**20)
    assert re.search(
        r"recaffe: Out of memory: 1024 pictures at once need about 1\.\d GiB in float32, and \d+\.\d "
        r"(GiB|MiB) were free\. micro_batch: (\d+) \(or auto\) trains the same batch of 1024 in parts; "
        r"so does batch_size: (\d+) with iter_size: (\d+)", said,
    ), said  # fmt: skip
    batch, iters = map(int, re.findall(r"batch_size: (\d+) with iter_size: (\d+)", said)[0])
    assert batch * iters == 1024
    assert "Traceback" not in said
    assert "trained 1" in limited(solver, "auto", 900 * 2**20)


def test_needed_memory_grows_with_pictures_but_for_the_weights(tmp_path: Path) -> None:
    solver = write_training(tmp_path)
    net = read_net(nets.read_solver(solver).net)
    walked = Net(net, pb.TRAIN, Feed(net, pb.TRAIN, 0).shapes).walked
    two, four, eight = (memory.needed(walked, n) for n in (2, 4, 8))
    assert eight - four == 2 * (four - two)
    assert two - (four - two) > 0, "the weights' share"
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    assert soft == resource.RLIM_INFINITY
    assert 2**20 < memory.available(CPU) < 2**50
