"""The files of a converted net, written only if they compute what the engine computes."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from recaffe.convert import run
from recaffe.convert.check import Blobs, Difference, compare, samples
from recaffe.convert.module import Module, convert, deploy_layers
from recaffe.errors import NetError
from recaffe.extras import ONNX, need
from recaffe.files import sha256, write_aside
from recaffe.net import shapes
from recaffe.net.weights import Weights, of_net
from recaffe.proto import caffe_pb2 as pb


def files(net: pb.NetParameter, where: str, caffemodel: str, out: Path) -> dict[str, Difference]:
    """Write OUT.onnx, or OUT.py and its state, from a deploy net and its weights' file.

    `where` is the net's file. Returns the differences by kind of input; raises as `pytorch` does,
    and `NetError` for another ending of OUT.
    """
    writers = {".onnx": onnx, ".py": pytorch}
    if out.suffix not in writers:
        raise NetError(f"{out}: the name must end in .onnx or .py.")
    if out.suffix == ".py" and not out.stem.isidentifier():
        raise NetError(f"{out}: {out.stem!r} can't be imported; use letters, digits and _.")
    about = (
        f"{net.name or 'A net'}, made by `recaffe convert` from {Path(where).name} and "
        f"{Path(caffemodel).name}\n(sha256 {sha256(caffemodel)})."
    )
    weights = of_net(shapes.walk(deploy_layers(net, where), {}), caffemodel)
    return writers[out.suffix](net, weights, out, where, about)


def pytorch(
    net: pb.NetParameter, weights: Weights, out: Path, where: str, about: str
) -> dict[str, Difference]:
    """Write OUT.py and OUT.safetensors beside it; returns the differences by kind of input.

    The check imports both in a process of its own. Raises `NetError` if a layer has no counterpart
    or a number differs, `MachineError` if the `convert` extra is missing.
    """
    safetensors = need("safetensors.torch")
    state_file = out.with_suffix(".safetensors")
    usage = (
        f"Use it with\n\n    net = {{name}}()\n"
        f"    net.load_state_dict(safetensors.torch.load_file({state_file.name!r}))\n    net.eval()"
    )
    module = convert(net, weights, where, f"{about}\n\n{usage}")
    with write_aside(out) as source, write_aside(state_file) as state:
        source.write_text(module.source.replace("{name}", module.class_name), encoding="utf-8")
        state.write_bytes(safetensors.save(_tensors(module)))
        return compare(
            net, weights, module, where, lambda given: _in_process(source, module, state, given)
        )


def _in_process(
    source: Path, module: Module, state: Path, given: list[Blobs]
) -> list[Sequence[np.ndarray]]:
    with tempfile.TemporaryDirectory() as folder:
        for i, inputs in enumerate(given):
            np.savez(Path(folder, f"in{i}.npz"), *inputs.values())
        command = [sys.executable, "-IB", str(run.__file__), str(source), module.class_name]
        done = subprocess.run(
            [*command, str(state), folder], capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise NetError(
                f"The converted module can't be run ({last[0]}). Nothing was written; please report "
                "this net."
            )
        out: list[Sequence[np.ndarray]] = []
        for i in range(len(given)):
            with np.load(Path(folder, f"out{i}.npz")) as arrays:
                out.append([arrays[f"arr_{j}"] for j in range(len(arrays.files))])
        return out


def onnx(net: pb.NetParameter, weights: Weights, out: Path, where: str, about: str) -> dict[str, Difference]:  # fmt: skip
    """Write OUT.onnx, of any batch where the net allows it; returns the differences.

    Inputs and outputs are named after the blobs. Raises as `pytorch` does.
    """
    library, runtime, _ = map(need, ONNX)
    module = convert(net, weights, where, about)
    with write_aside(out) as aside:
        with warnings.catch_warnings(action="ignore"):
            _export(module, aside)
        proto = library.load(aside)
        proto.doc_string = about
        proto.producer_name = "recaffe"
        library.save(proto, aside)
        try:
            library.checker.check_model(aside, full_check=True)
        except (library.checker.ValidationError, library.shape_inference.InferenceError) as error:
            raise NetError(
                f"The converted net isn't valid ONNX: {error}. Nothing was written; please report "
                "this net."
            ) from error
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        session = runtime.InferenceSession(aside, options, providers=["CPUExecutionProvider"])
        return compare(
            net,
            weights,
            module,
            where,
            lambda given: [session.run(module.outputs, x) for x in given],
        )


def _export(module: Module, path: Path) -> None:
    namespace: dict[str, type[torch.nn.Module]] = {}
    exec(compile(module.source, "converted", "exec"), namespace)
    built = namespace[module.class_name]()
    built.load_state_dict(_tensors(module))
    built.eval()
    example = samples(module)[0][1]
    first = next(iter(example.values())).shape[0]
    batch = torch.export.Dim("batch")
    dynamic = tuple(
        {0: batch} if module.batch is None and x.shape[:1] == (first,) else None
        for x in example.values()
    )
    # The exporter speaks of what it lacks for other nets, and of its own future.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        torch.onnx.export(
            built,
            tuple(torch.from_numpy(x) for x in example.values()),
            path,
            input_names=list(module.inputs),
            output_names=module.outputs,
            dynamic_shapes=dynamic,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise NetError(f"PyTorch can't export this net to ONNX: {reason}") from error


def _tensors(module: Module) -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(np.array(v, order="C")) for k, v in module.state.items()}
