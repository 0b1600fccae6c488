"""Weights from PyTorch: a state dict of torchvision's or timm's → prototxt and caffemodel.

One module a family of nets: which of its modules is which layer, and where its net isn't the published
one. `known` lists them, `rules` moves the values.
"""
