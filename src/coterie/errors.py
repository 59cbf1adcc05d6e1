"""The exceptions of Coterie, drawn as a tree.

    CoterieError                 anything Coterie raises on purpose
    ├── UserError                a mistake in what was asked: one clear line, exit code 2
    │   ├── ModelError           the model cannot be found, read, or is not of a kind we can cut
    │   ├── TextError            calibration or held-out text that cannot be used
    │   ├── TaskError            a zero-shot task that is unknown or unreadable (evaluation)
    │   ├── SpeedError           a load that cannot be timed (evaluation)
    │   ├── SparsityError        a sparsity that cannot be met (sparsity)
    │   ├── HealError            a checkpoint that cannot be healed so (deploy)
    │   ├── SchemeError          a quantization scheme that cannot be had here (deploy)
    │   ├── PushError            an upload that must not be made (pipeline)
    │   ├── ExportError          a checkpoint that a runtime will not read (pipeline)
    │   ├── DoesNotApply         a published method that is not for this model (rivals)
    │   ├── CutError             a cut that cannot be made: bad index, locked layer, too many layers
    │   └── StudyMismatch        a study resumed under other settings than it was begun with
    ├── LossError                the cut model loses more than --max-loss: exit code 1
    ├── VerificationError        what we wrote is not what we measured: exit code 1
    ├── MachineError             memory, the disk or a file gave out: exit code 1
    └── FaultError               a library, or ours, failed as nobody foresaw: exit code 1

An error names the thing, the value it had, the rule, and the way out.
"""


class CoterieError(Exception):
    """Anything Coterie raises on purpose."""


class UserError(CoterieError):
    """A mistake in what was asked; the command line prints it as one line and exits with 2."""


class ModelError(UserError):
    """The model cannot be found or read, or is not of a kind that can be cut."""


class TextError(UserError):
    """A calibration or held-out text that cannot be used."""


class CutError(UserError):
    """A cut that cannot be made: a bad index, a locked layer, more layers than there are."""


class RepairError(UserError):
    """A cut checkpoint that cannot be repaired so; the message says why and what to do."""


class StudyMismatch(UserError):
    """A study resumed under other settings than it was begun with."""


class LossError(CoterieError):
    """A checkpoint was written, and loses more than was allowed; the command line exits with 1."""


class VerificationError(CoterieError):
    """What was written is not what was measured; the command line exits with 1."""


class MachineError(CoterieError):
    """Memory, the disk or a file gave out; the command line exits with 1."""


class FaultError(CoterieError):
    """A library, or this one, failed where that was not foreseen; the command line exits with 1."""
