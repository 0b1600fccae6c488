"""A shipped model's net and weights as ONNX, kept only if it computes what the engine computes."""

from pathlib import Path

from recaffe.convert import write
from recaffe.net.parse import read_net
from recaffe.script import script

with script(snakemake.log[0]):
    deploy, out = snakemake.input.deploy, Path(snakemake.output[0])
    found = write.files(read_net(deploy), deploy, snakemake.input.weights, out)
    for what, d in found.items():
        print(f"{out}: on {what} the largest difference is {d.absolute:.3g} of {d.largest:.3g}")
