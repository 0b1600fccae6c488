#!/usr/bin/env bash
# The last step of an image: recaffe into its Python environment, and what the image is into
# /etc/recaffe-image, by which a program knows that it runs in one.
#   finish.sh cpu|gpu COMMIT
set -euo pipefail
pip install --quiet --no-cache-dir --disable-pip-version-check --root-user-action ignore \
    --no-index --no-deps --no-build-isolation --editable /opt/recaffe
TARGET=$1 COMMIT=$2 python - >/etc/recaffe-image <<'END'
import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path

caffe = json.loads(Path("/opt/caffe/build.json").read_text(encoding="utf-8"))
names = ("recaffe", "torch", "snakemake", "numpy", "opencv-python-headless", "lmdb", "protobuf")
image = {
    "image": f"recaffe:{os.environ['TARGET']}",
    "target": os.environ["TARGET"],
    "commit": os.environ["COMMIT"],
    "recipe": caffe["recipe"],
    "pins": hashlib.sha256(Path("/opt/recaffe/constraints.txt").read_bytes()).hexdigest(),
    "versions": {"caffe": caffe["version"], **{name: version(name) for name in names}},
}
print(json.dumps(image, indent=1))
END
