"""Devices, layouts, precisions and compilation: what they change, and what they don't."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recaffe.engines.base import TrainJob
from recaffe.engines.torch import losses as losses_of
from recaffe.engines.torch import nets
from recaffe.engines.torch.data import Feed
from recaffe.engines.torch.devices import keeps_channels_last, numerics, pick_device, processes
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.replica import Replica
from recaffe.errors import ConfigError, TrainError
from recaffe.net.parse import read_net
from recaffe.proto import caffe_pb2 as pb
from tests.training import BATCH_NORM, write_training
from tests.unit.trained import CPU, final, logged, losses


@pytest.mark.parametrize("middle", ["", BATCH_NORM])
def test_bf16_learns_as_fp32_does(tmp_path: Path, middle: str) -> None:
    solver = write_training(tmp_path, middle=middle, drop=0.0, average_loss=1)
    wide, _ = logged(TrainJob(solver))
    half, result = logged(TrainJob(solver, precision="bf16"))
    assert losses(half) != losses(wide), "bf16 would have no effect"
    assert losses(half) == pytest.approx(losses(wide), rel=0.05, abs=0.02)
    assert result.val_accuracy > 0.8


def test_bf16_keeps_losses_and_statistics_in_float32(tmp_path: Path) -> None:
    solver = write_training(tmp_path, middle=BATCH_NORM)
    net = read_net(nets.read_solver(solver).net)
    feed = Feed(net, pb.TRAIN, 0)
    module = Net(net, pb.TRAIN, feed.shapes)
    with torch.autocast("cpu", torch.bfloat16):
        blobs = module(next(feed.batches()).to(CPU))
    assert blobs["fc"].dtype == blobs["pool"].dtype == torch.bfloat16
    assert blobs["loss"].dtype == blobs["aux_loss"].dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in module.parameters())


def test_tf32_on_a_cpu_is_fp32_and_says_so(tmp_path: Path) -> None:
    write_training(tmp_path)
    exact = final(tmp_path).read_bytes()
    assert final(tmp_path, precision="tf32").read_bytes() == exact
    assert "the CPU computes in fp32" in (tmp_path / "log").read_text()
    with pytest.raises(ConfigError, match="precision is 'fp16'; it can be fp32, tf32, bf16"):
        final(tmp_path, precision="fp16")


def test_switches_are_set_for_the_run_and_put_back(tmp_path: Path) -> None:
    job = TrainJob(tmp_path, precision="tf32", deterministic=True)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with numerics(job, CPU):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    with numerics(replace(job, precision="fp32", deterministic=False), CPU):
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
    assert before == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)


def test_tf32_is_off_wherever_a_device_is_picked() -> None:
    torch.backends.cudnn.allow_tf32 = True  # PyTorch's default
    pick_device("cpu")
    assert not torch.backends.cudnn.allow_tf32


def test_devices_are_what_the_machine_has() -> None:
    assert pick_device("cpu").type == "cpu"
    assert processes(3, "cpu", 6) == 3
    assert processes("auto", "cpu", 6) == 1
    with pytest.raises(ConfigError, match="device is 'gpu'; it can be auto, cpu, cuda"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        assert pick_device("auto").type == "cpu"
        with pytest.raises(TrainError, match="PyTorch sees no GPU"):
            pick_device("cuda:1")
    cuda = torch.device("cuda")
    assert keeps_channels_last("auto", "fp32", CPU)
    assert keeps_channels_last("auto", "bf16", cuda)
    assert not keeps_channels_last("auto", "fp32", cuda)
    assert not keeps_channels_last(False, "bf16", cuda)


def test_what_torch_compile_cannot_do_runs_as_it_is(tmp_path: Path) -> None:
    from torch._dynamo.exc import TorchDynamoException

    net = read_net(nets.read_solver(write_training(tmp_path, drop=0.0)).net)
    feed = Feed(net, pb.TRAIN, 0)
    module = Net(net, pb.TRAIN, feed.shapes)
    replica = Replica(module, losses_of.terms(module.walked, "small"), "fp32")
    inputs, shares, said = next(feed.batches()).to(CPU), [1.0, 1.0], list[str]()
    plain, _ = replica(inputs, shares)
    replica.compile_net(said.append)

    def broken(_: object) -> dict[str, torch.Tensor]:
        raise TorchDynamoException("No working C++ compiler found")

    replica.compiled = broken
    assert torch.equal(replica(inputs, shares)[0], plain)
    assert said == [
        "compile: torch.compile can't do this net here, so it runs as it is "
        "(No working C++ compiler found)"
    ]
