"""What Caffe's last words mean: each usual cause as a message with what to do."""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from recaffe.errors import TrainError, is_out_of_memory

_AGAIN = "Run the same command again to go on from the last snapshot."
_LESS_MEMORY = (
    "Use a smaller batch_size with a larger iter_size (or a smaller test_batch_size), or give the job "
    "more memory."
)
# What Caffe or what it stands on says, the cause, and the next step. The first that fits counts.
_CAUSES = (
    (
        r"Cannot copy param \d+ weights from layer '(?P<a>[^']*)'; shape mismatch",
        "the weights' layer {a!r} has another shape than the net's.",
        "Use the net's own weights, or rename the layer so that it is trained from scratch.",
    ),
    (
        r"Incompatible number of blobs for layer (?P<a>\S+)",
        "the weights' layer {a!r} has another number of blobs than the net's.",
        "Use the net's own weights, or rename the layer so that it is trained from scratch.",
    ),
    (
        r"Incorrect length of history blobs|history_size\(\) == history_\.size\(\)",
        "the solverstate belongs to another net or solver type.",
        "Remove the run's folder of snapshots, so that it starts anew.",
    ),
    (
        r"CUDA driver version is insufficient",
        "the NVIDIA driver is too old for the CUDA that this Caffe was built with.",
        "Update the driver, build Caffe with an older CUDA, or set `device: cpu`.",
    ),
    (
        r"invalid device function|no kernel image is available|cudaErrorNoKernelImageForDevice",
        "this Caffe holds no code for this GPU: it was compiled for other compute capabilities.",
        "Build it for this GPU (make caffe-cuda, make images), or set `engine: torch`.",
    ),
    (
        r"no CUDA-capable device|cudaErrorNoDevice|invalid device ordinal|cudaErrorInvalidDevice",
        "the GPU that was asked for isn't there.",
        "Look at nvidia-smi and CUDA_VISIBLE_DEVICES (in a container: --nv or --gpus all), or set "
        "`device: cpu`.",
    ),
    (
        r"Cannot use GPU in CPU-only Caffe",
        "this Caffe was built for CPUs only.",
        "Set `device: cpu`, build it for GPUs (make caffe-cuda), or set `engine: torch`.",
    ),
    (
        r"Multi-GPU execution not available",
        "this Caffe was built without NCCL, so it can't share a batch among GPUs.",
        "Set `devices: 1`, build Caffe with NCCL, or set `engine: torch`.",
    ),
    (
        r"error == cudaSuccess \(2 vs\. 0\)|cudaErrorMemoryAllocation",
        "the GPU's memory is too small for it.",
        _LESS_MEMORY,
    ),
    (
        r"host allocation of size (?P<a>\d+) failed",
        "memory ran out: {a} bytes couldn't be had.",
        _LESS_MEMORY,
    ),
    (
        r"blob size exceeds INT_MAX",
        "a blob would have more than 2,147,483,647 values, the most that Caffe can count.",
        "Use a smaller batch_size with a larger iter_size, or smaller pictures.",
    ),
    (
        r"MDB_MAP_FULL|MDB_INVALID|MDB_CORRUPTED|MDB_PAGE_NOTFOUND|MDB_VERSION_MISMATCH",
        "an LMDB can't be read: {line}",
        "Remove it, so that it is made again.",
    ),
    (
        r"mdb_status == 0 \((?:13|30) vs",
        "an LMDB can't be opened, since Caffe wants to make a lock.mdb beside it.",
        "Make its folder writable, or copy it to where it is.",
    ),
    (
        r"mdb_status == 0",
        "an LMDB can't be opened: {line}",
        "Check the `source` of the net's Data layers.",
    ),
    (
        r"datum_(?:height|width) >= crop_size \((?P<a>\d+) vs\. (?P<b>\d+)\)",
        "a crop of {b} pixels doesn't fit in records of {a}.",
        "Lower crop_size, or raise lmdb.width and lmdb.height.",
    ),
    (
        r"(?:File not found: |Couldn't open )(?P<a>.+)",
        "the file {a} is missing.",
        "Check the path, or make the file again.",
    ),
    (
        r"Failed to parse NetParameter file: (?P<a>.+\.caffemodel)",
        "{a} is no caffemodel, or it is cut short.",
        "Fetch it again, or name another.",
    ),
    (
        r"Failed to parse (?P<b>Net|Solver)Parameter file: (?P<a>.+)",
        "{a} can't be parsed{place}.",
        "Correct that line; the names of fields are those of Caffe 1.0's caffe.proto.",
    ),
    (
        r"Unknown layer type: (?P<a>\S+)",
        "the net has a layer of the type {a!r}, which this Caffe doesn't know.",
        "Check the type's spelling, or name a build of Caffe that has it in CAFFE_HOME.",
    ),
    (
        r"Unknown bottom blob '(?P<a>[^']*)' \(layer '(?P<b>[^']*)'",
        "no layer makes the blob {a!r} that layer {b!r} reads.",
        "Correct the bottom in the net's prototxt.",
    ),
    (
        r"label_value|Check failed: label",
        "a label is outside 0…K-1, where K is the num_output of the classifier.",
        "Check the labels of the LMDB, and num_output.",
    ),
    (
        r"Cannot write to snapshot prefix|No space left",
        "its snapshots can't be written.",
        "Make room on the disk, and the folder of snapshots writable.",
    ),
    (
        r"ModuleNotFoundError: No module named '(?P<a>[^']+)'|ImportError: (?P<b>.+)",
        "Python can't import pycaffe: {line}",
        "Name the Python that it is built for in CAFFE_PYTHON, and install what is missing there.",
    ),
)  # fmt: skip
_FATAL = re.compile(r"F\d{4,8} [0-9:.]+ +\d+ \S+:\d+\] ")
_PARSE_PLACE = re.compile(r"Error parsing text-format \S+: (\d+):(\d+): (.*)")
# Corrupted heaps and addresses from nowhere: Caffe's release builds don't check labels.
_MEMORY_FAULT = re.compile(r"double free|free\(\): invalid|malloc\(\)|corrupted size|corruption")
_LABELS = (
    "it used memory that isn't its own. The usual causes are labels outside 0…K-1, which Caffe doesn't "
    "check, and losses that have become nan."
)


def explain(last: Sequence[str], code: int, log: Path | str) -> TrainError:
    """Why Caffe ended: from the `last` lines that it said, and its exit status (negative: a signal, as
    `subprocess` has it)."""
    said = _fatal(last) or _telling(last)
    cause, todo = _known(said, last) or _by_status(last, code)
    quoted = f"\n  Caffe said: {_short(said)}" if said else ""
    return TrainError(f"Caffe stopped: {cause} {todo}{quoted}\n  The whole log: {log}")


def _known(said: str, last: Sequence[str]) -> tuple[str, str] | None:
    for pattern, cause, todo in _CAUSES:
        if found := re.search(pattern, said):
            place = next(
                (f" (line {m[1]}: {m[3]})" for m in map(_PARSE_PLACE.search, last) if m), ""
            )
            line = _short(said.partition(") ")[2] or said)
            return cause.format(**found.groupdict(), line=line, place=place), todo
    return None


def _by_status(last: Sequence[str], code: int) -> tuple[str, str]:
    if any(is_out_of_memory(RuntimeError(line)) for line in last):
        return "memory ran out.", f"{_LESS_MEMORY} {_AGAIN}"
    if code == -signal.SIGKILL:
        return (
            "it was killed (SIGKILL): by somebody, or by the system for lack of memory.",
            f"{_AGAIN} If it happens again: {_LESS_MEMORY[0].lower()}{_LESS_MEMORY[1:]}",
        )
    if code in (-signal.SIGSEGV, -signal.SIGBUS) or any(map(_MEMORY_FAULT.search, last)):
        return _LABELS, "Look at the last losses in the log, and check the labels."
    if code < 0:
        return f"{signal.Signals(-code).name} ended it.", _AGAIN
    return f"its exit status was {code}.", f"Look at the end of its log. {_AGAIN}"


def _fatal(last: Sequence[str]) -> str:
    """glog's fatal message, which may have several lines, up to the trace of the stack."""
    start = next((i for i, line in enumerate(last) if _FATAL.match(line)), None)
    if start is None:
        return ""
    text = itertools.takewhile(
        lambda line: not line.startswith("***"), itertools.islice(last, start, None)
    )
    return _FATAL.sub("", " ".join(text)).strip()


def _telling(last: Sequence[str]) -> str:
    """The line that tells most where there is no fatal one."""
    words = (
        "terminate called",
        "what():",
        "error while loading",
        "Error:",
        "malloc",
        "double free",
    )
    return next((x.strip() for x in reversed(last) if any(w in x for w in words)), "")


def _short(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
