"""Runs nets in real Caffe for whoever asks over a pipe: started by caffe_client.py with the system's
Python, which alone can import pycaffe.

A message is eight bytes of length (little endian), then an .npz: `json`, the message as UTF-8, and
arrays `0`, `1`, … that the message's `arrays` names one by one as [kind, name, index]. Caffe aborts
the whole process when a check fails; the client reads the reason from stderr.
"""

import io
import json
import os
import struct
import sys
import tempfile

import numpy as np


def read(stream):
    """The next message as (header, arrays by (kind, name, index)), or None at the end."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    data = np.load(io.BytesIO(stream.read(struct.unpack("<Q", head)[0])), allow_pickle=False)
    header = json.loads(data["json"].tobytes().decode("utf-8"))
    return header, {tuple(key): data[str(i)] for i, key in enumerate(header.pop("arrays"))}


def write(stream, header, arrays):
    """Send a message."""
    text = json.dumps({**header, "arrays": [list(key) for key in arrays]}).encode("utf-8")
    buffer = io.BytesIO()
    np.savez(
        buffer,
        json=np.frombuffer(text, np.uint8),
        **{str(i): np.asarray(a, order="C") for i, a in enumerate(arrays.values())},
    )
    data = buffer.getvalue()
    stream.write(struct.pack("<Q", len(data)) + data)
    stream.flush()


def run(caffe, header, given):
    """Build the net, set what is given, go forward and (if asked) backward, return everything."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(header["net"])
        file.flush()
        phase = caffe.TRAIN if header["phase"] == "TRAIN" else caffe.TEST
        if header.get("seed") is not None:
            caffe.set_random_seed(header["seed"])
        net = caffe.Net(file.name, phase, level=header["level"], stages=header["stages"])
    for (kind, name, index), array in given.items():
        if kind == "blob":
            net.blobs[name].data[...] = array
        elif kind == "param":
            net.params[name][index].data[...] = array
    last = len(net.layers) - 1
    loss = 0.0
    for _ in range(header["passes"]):
        loss = net._forward(0, last)
    tops = {("blob", name, 0): blob.data.copy() for name, blob in net.blobs.items()}
    if header["backward"]:
        for (kind, name, _), array in given.items():
            if kind == "diff":
                net.blobs[name].diff[...] = array
        net._backward(last, 0)
        tops.update({("diff", name, 0): blob.diff.copy() for name, blob in net.blobs.items()})
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            tops["param", name, i] = blob.data.copy()
            tops["param_diff", name, i] = blob.diff.copy()
    return {"loss": float(loss), "outputs": list(net.outputs)}, tops


def main():
    """Answer until the pipe closes."""
    # What Caffe prints to stdout must not get between the messages.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    import caffe

    caffe.set_mode_cpu()
    while True:
        message = read(sys.stdin.buffer)
        if message is None:
            return
        header, arrays = message
        try:
            answer, results = run(caffe, header, arrays)
        except Exception as error:  # a mistake in the request, told to whoever made it
            answer, results = {"error": f"{type(error).__name__}: {error}"}, {}
        write(out, answer, results)


if __name__ == "__main__":
    main()
