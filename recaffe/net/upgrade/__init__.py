"""Nets and solvers in Caffe's older forms → today's, as BVLC's upgrade tools do.

    v0.py     2013: `layers { layer { type: "conv" … } }`          → V1
    v1.py     2014: `layers { type: CONVOLUTION … }`               → V2, `layer { type: "…" }`
    nets.py   the order of all steps, for a NetParameter or SolverParameter
    tree.py   the same for a prototxt's tree, comments and unknown fields kept (tree_v0.py, fields.py)
    files.py  one file to another, text or binary, net or solver

Source: BVLC Caffe 1.0, `upgrade_proto.cpp`, by behaviour. What Caffe drops is dropped here too, but
named; where Caffe aborts, a `NetError` is raised.
"""
