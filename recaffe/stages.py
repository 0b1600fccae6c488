"""The version of each stage's code, a param of its rule.

Raise a number when a change to the library makes that stage's output differ, and for nothing else:
Snakemake sees neither imported modules nor this file's reasons, only that the number changed.
"""

SCAN = 4
SPLIT = 1
LMDB = 2
MEAN = 1
WEIGHTS = 1
PATCH = 2
SOLVER = 1
LR_RANGE = 1
TRAIN = 4
EVALUATE = 1
LINEAR = 1
HEAT_MAPS = 1
MODEL = 2
REPORT = 2
