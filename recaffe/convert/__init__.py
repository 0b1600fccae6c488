"""Nets for other programs: a plain PyTorch module, and ONNX made from it."""
