"""Every error that recaffe raises for a user's mistake.

    RecaffeError           caught by each script and by the command line: one message, no traceback
    ├── ConfigError        a key, a value or a combination in the config
    ├── DataError          pictures, lists, tables, LMDBs, means
    ├── NetError           prototxt files and the nets they describe
    ├── WeightsError       caffemodels and solverstates
    ├── TrainError         a run that can't go on: nan, divergence, a loss that is missing
    └── MachineError       disk, permissions, downloads

A message says what is wrong, where, and what to do next.
"""


class RecaffeError(Exception):
    """A mistake that the user can mend; its text is all that the user sees."""


class ConfigError(RecaffeError):
    """A config key, value or combination that can't work."""


class DataError(RecaffeError):
    """Pictures, lists, tables, LMDBs or means that can't be used."""


class NetError(RecaffeError):
    """A prototxt that can't be read, or a net that can't be built."""


class WeightsError(RecaffeError):
    """A caffemodel or solverstate that can't be read, or belongs to another net."""


class TrainError(RecaffeError):
    """A training run that can't go on."""


class MachineError(RecaffeError):
    """Something outside the data: disk, permissions, a download."""


class Interrupted(RecaffeError):
    """SIGINT or SIGTERM arrived; what was done so far is saved."""


# OpenCV, PyTorch, oneDNN, C++ and Python's threads have no class of error in common.
_NO_MEMORY = (
    "can't allocate memory", "cannot allocate memory", "out of memory", "insufficient memory",
    "bad_alloc", "could not create a memory", "can't start new thread",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        not isinstance(error, OSError | RecaffeError) and any(words in text for words in _NO_MEMORY)
    )
