"""The names under which the solvers stood when there was one."""

from recaffe.engines.torch.solvers import SGD, current_step, learning_rate

__all__ = ["SGD", "current_step", "learning_rate"]
