"""Caffe's last words become a message that says what is wrong and what to do.

The lines are those of real Caffe; what only a GPU or a debug build says is in the same form, from its
source.
"""

from __future__ import annotations

import signal

import pytest

from recaffe.engines.caffe import messages

F = "F20261125 04:15:41.239169 17128 "
TRACE = ["*** Check failure stack trace: ***", "    @     0x7f57523cacfe  (unknown)"]
SAID = {
    "shape": (
        "net.cpp:759] Cannot copy param 0 weights from layer 'conv'; shape mismatch.  Source param shape "
        "is 6 3 3 3 (162); target param shape is 7 3 3 3 (189). To learn this layer's parameters from "
        "scratch rather than copying from a saved net, rename the layer.",
        ["layer 'conv'", "another shape", "own weights", "6 3 3 3 (162)"],
    ),
    "lmdb": (
        "db_lmdb.hpp:15] Check failed: mdb_status == 0 (2 vs. 0) No such file or directory",
        ["LMDB can't be opened: No such file or directory", "`source`"],
    ),
    "lmdb lock": (
        "db_lmdb.hpp:15] Check failed: mdb_status == 0 (13 vs. 0) Permission denied",
        ["lock.mdb", "writable"],
    ),
    "lmdb junk": (
        "db_lmdb.hpp:15] Check failed: mdb_status == 0 (-30793 vs. 0) MDB_INVALID: File is not an LMDB "
        "file",
        ["LMDB can't be read: MDB_INVALID", "made again"],
    ),
    "layer type": (
        "layer_factory.hpp:81] Check failed: registry.count(type) == 1 (0 vs. 1) Unknown layer type: "
        "Relu (known types: AbsVal, Accuracy)",
        ["type 'Relu'", "spelling", "CAFFE_HOME"],
    ),
    "file": (
        "io.cpp:54] Check failed: fd != -1 (-1 vs. -1) File not found: nosuch.binaryproto",
        ["nosuch.binaryproto is missing", "path"],
    ),
    "weights": (
        "net.cpp:794] Check failed: file_hid >= 0 (-1 vs. 0) Couldn't open nosuch.caffemodel",
        ["nosuch.caffemodel is missing"],
    ),
    "no weights": (
        "upgrade_proto.cpp:97] Check failed: ReadProtoFromBinaryFile(param_file, param) Failed to parse "
        "NetParameter file: t/junk.caffemodel",
        ["t/junk.caffemodel is no caffemodel"],
    ),
    "state": (
        "sgd_solver.cpp:334] Check failed: state.history_size() == history_.size() (0 vs. 6) Incorrect "
        "length of history blobs.",
        ["another net or solver type", "folder of snapshots"],
    ),
    "no GPU build": (
        "common.cpp:66] Cannot use GPU in CPU-only Caffe: check mode.",
        ["built for CPUs only", "device: cpu", "make caffe-cuda"],
    ),
    "GPU memory": (
        "syncedmem.cpp:71] Check failed: error == cudaSuccess (2 vs. 0)  out of memory",
        ["GPU's memory is too small", "smaller batch_size"],
    ),
    "GPU code": (
        "im2col.cu:61] Check failed: error == cudaSuccess (209 vs. 0)  no kernel image is available for "
        "execution on the device",
        ["no code for this GPU", "make caffe-cuda"],
    ),
    "older GPU code": (
        "math_functions.cu:79] Check failed: error == cudaSuccess (98 vs. 0)  invalid device function",
        ["no code for this GPU"],
    ),
    "no GPU": (
        "common.cpp:152] Check failed: error == cudaSuccess (100 vs. 0)  no CUDA-capable device is "
        "detected",
        ["isn't there", "nvidia-smi", "--gpus all"],
    ),
    "driver": (
        "common.cpp:152] Check failed: error == cudaSuccess (35 vs. 0)  CUDA driver version is "
        "insufficient for CUDA runtime version",
        ["driver is too old", "Update the driver"],
    ),
    "NCCL": (
        "caffe.cpp:245] Multi-GPU execution not available - rebuild with USE_NCCL",
        ["without NCCL", "devices: 1"],
    ),
    "memory": (
        "syncedmem.hpp:33] Check failed: *ptr host allocation of size 1234567 failed",
        ["memory ran out: 1234567 bytes", "smaller batch_size"],
    ),
    "blob": (
        "blob.cpp:34] Check failed: shape[i] <= 0x7fffffff / count_ (10 vs. 1) blob size exceeds INT_MAX",
        ["2,147,483,647", "smaller batch_size"],
    ),
    "crop": (
        "data_transformer.cpp:466] Check failed: datum_height >= crop_size (12 vs. 30) ",
        ["crop of 30 pixels", "records of 12"],
    ),
    "bottom": (
        "insert_splits.cpp:29] Unknown bottom blob 'pol' (layer 'fc', bottom index 0)",
        ["blob 'pol'", "layer 'fc'"],
    ),
    "disk": (
        "solver.cpp:448] Cannot write to snapshot prefix '/tmp/nodir/snap'.  Make sure that the "
        "directory exists and is writable.",
        ["snapshots can't be written"],
    ),
    "labels": (
        "softmax_loss_layer.cpp:105] Check failed: label_value < prob_.shape(softmax_axis_) (7 vs. 3) ",
        ["outside 0…K-1", "num_output"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_a_failed_check_says_the_cause_the_remedy_and_caffes_words(name: str) -> None:
    line, words = SAID[name]
    said = ["I20261125 04:15:41.2 17128 net.cpp:86] Creating Layer", F + line, *TRACE]
    text = str(messages.explain(said, -signal.SIGABRT, "a/train.log"))
    for word in words:
        assert word in text
    assert f"Caffe said: {line.split('] ', 1)[1].strip()[:200]}" in text
    assert text.startswith("Caffe stopped: ")
    assert text.endswith("a/train.log")
    assert "0x7f57523cacfe" not in text


def test_a_net_that_cant_be_parsed_is_named_with_its_line() -> None:
    said = [
        "[libprotobuf ERROR google/protobuf/text_format.cc:337] Error parsing text-format "
        'caffe.NetParameter: 10:47: Message type "caffe.ConvolutionParameter" has no field named '
        '"kernel_sze".',
        f"{F}upgrade_proto.cpp:90] Check failed: ReadProtoFromTextFile(param_file, param) Failed to "
        "parse NetParameter file: /t/n3",
        *TRACE,
    ]
    text = str(messages.explain(said, -signal.SIGABRT, "log"))
    assert '/t/n3 can\'t be parsed (line 10: Message type "caffe.ConvolutionParameter" has' in text


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (-signal.SIGKILL, [], ["killed (SIGKILL)", "lack of memory", "same command again"]),
        (-signal.SIGSEGV, [], ["labels outside 0…K-1", "nan"]),
        (-signal.SIGABRT, ["double free or corruption (out)"], ["labels outside 0…K-1"]),
        (-signal.SIGABRT, ["terminate called after throwing an instance of 'std::bad_alloc'", "  what():  std::bad_alloc"], ["memory ran out", "std::bad_alloc"]),
        (-signal.SIGTERM, [], ["SIGTERM ended it", "same command again"]),
        (127, ["caffe: error while loading shared libraries: libcaffe.so.1: cannot open"], ["exit status was 127", "libcaffe.so.1"]),
        (1, ["ModuleNotFoundError: No module named 'skimage'"], ["import pycaffe", "skimage", "CAFFE_PYTHON"]),
    ],
)  # fmt: skip
def test_an_end_without_a_failed_check_is_told_by_its_status(
    code: int, said: list[str], words: list[str]
) -> None:
    text = str(messages.explain(said, code, "log"))
    for word in words:
        assert word in text
