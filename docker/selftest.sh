#!/usr/bin/env bash
# Does what the image promises work in it? Runs inside, by whatever runs the image, as any user.
set -euo pipefail
fail() {
    echo "selftest: $*" >&2
    exit 1
}

[ -s /etc/recaffe-image ] || fail "there is no /etc/recaffe-image: this is no image of recaffe's"
caffe --version >/dev/null 2>&1 || fail "caffe doesn't start: $(caffe --version 2>&1 | tail -n 1)"
GLOG_minloglevel=2 PYTHONPATH=$CAFFE_HOME/python "$CAFFE_PYTHON" -c '
import caffe

assert {"Data", "Convolution", "Python"} <= set(caffe.layer_type_list())' || fail "pycaffe doesn't work"
# -I: nothing that the caller has on a path of his own.
python -I -c '
import importlib
import tomllib
from pathlib import Path

names = {
    "opencv-python-headless": "cv2", "pillow": "PIL", "protobuf": "google.protobuf", "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}
project = tomllib.loads(Path("/opt/recaffe/pyproject.toml").read_text(encoding="utf-8"))["project"]
for package in ("recaffe.cli", *project["dependencies"]):
    importlib.import_module(names.get(package, package.replace("-", "_")))
' || fail "a Python package is missing"
recaffe --version >/dev/null || fail "recaffe doesn't start"
echo "Works: $(python -I -c '
import json

image = json.load(open("/etc/recaffe-image"))
print(image["image"], "of commit", image["commit"], "with", *map(" ".join, image["versions"].items()))')"
