"""Weights by URL and from a mirror, in the workflow as a user runs it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from recaffe.net import blobs, parse
from recaffe.net import weights as caffemodel
from recaffe.net.prepare import walk_train
from recaffe.proto import caffe_pb2 as pb
from recaffe.weights.source import of_url
from tests.file_server import Served, running
from tests.workflow.running import ran, refused, snakemake
from tests.workflow.test_workflow import SMALL_NET, write_config


def old_caffemodel() -> bytes:
    """Weights of the small net in the form of 2014."""
    random = np.random.default_rng(0)
    net = pb.NetParameter(name="small")
    shaped = walk_train(parse.to_net(parse.to_tree(SMALL_NET.encode(), "net")), (3, 28, 28), 1)
    for layer in (x for x in shaped if x.params):
        old = net.layers.add(name=layer.layer.name)
        old.type = getattr(
            pb.V1LayerParameter,
            {"Convolution": "CONVOLUTION"}.get(layer.layer.type, "INNER_PRODUCT"),
        )
        for shape, _ in layer.params:
            old.blobs.append(blobs.to_blob(random.normal(size=shape).astype(np.float32)))
    return net.SerializeToString()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a mirror of this test's own; the mirror's folder."""
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("RECAFFE_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setenv("RECAFFE_MIRRORS", str(tmp_path / "mirror"))
    return tmp_path / "mirror"


def test_old_weights_by_url_are_fetched_upgraded_and_copied(
    class_folders: Path, tmp_path: Path, places: Path
) -> None:
    data = old_caffemodel()
    # No digest of this one was published; a file of its name is all that a mirror can give.
    net = caffemodel.to_net("nin", [("conv1", "Convolution", [np.ones((2, 2), np.float32)])])
    (places / "nin_imagenet.caffemodel").write_bytes(net.SerializeToString())
    with running(small=Served(data, cuts=[1000])) as server:
        config = write_config(tmp_path, str(class_folders))
        changed = yaml.safe_load(config.read_text(encoding="utf-8"))
        digest = hashlib.sha256(data).hexdigest()
        changed["runs"] = {
            "first": {"weights": f"{server.url}/small", "weights_sha256": digest},
            "second": {"net": "nin", "weights": "zoo"},
        }
        config.write_text(yaml.safe_dump(changed), encoding="utf-8")
        zoo = "resources/weights/published/nin.caffemodel"
        said = ran(snakemake(config, "--", "results/own/first/layers.csv", zoo))
    assert server.asked == [("small", ""), ("small", "bytes=1000-")]
    assert "small, upgraded from an older form" in said
    assert "nin_imagenet.caffemodel is unverified; its SHA-256 is" in said
    rows = (tmp_path / "results/own/first/layers.csv").read_text(encoding="utf-8").splitlines()
    assert [r.split(",")[:2] for r in rows[1:]] == [
        ["conv1", "copied"], ["conv2", "copied"], ["ip1", "copied"], ["ip2_own", "new"],
        ["ip2", "ignored"],
    ]  # fmt: skip
    assert (tmp_path / zoo).read_bytes() == net.SerializeToString()
    note = json.loads((tmp_path / zoo).with_suffix(".json").read_text(encoding="utf-8"))
    assert note["url"].startswith("https://www.dropbox.com/")
    assert note["verified"] is False
    assert "Nothing to be done" in ran(snakemake(config, "-n", "--", zoo))


def test_weights_that_cannot_be_fetched_are_one_message(
    class_folders: Path, tmp_path: Path, places: Path
) -> None:
    config = write_config(tmp_path, str(class_folders))
    changed = yaml.safe_load(config.read_text(encoding="utf-8"))
    url = (tmp_path / "nowhere" / "w.caffemodel").as_uri()
    changed["runs"] = {"first": {"weights": url}}
    config.write_text(yaml.safe_dump(changed), encoding="utf-8")
    target = f"resources/weights/published/{of_url(url).slug}.caffemodel"
    words = ("could not be fetched", "there is no such file", f"recaffe weights add '{url}' FILE")
    refused(config, *words, options=["--", target])
