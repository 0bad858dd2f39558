"""The exception tree of Equipoise, drawn once.

    EquipoiseError
    ├── InvariantViolated      a programmer's mistake or corrupted state: the process stops
    ├── ConfigurationError     a setting, flag or environment value is wrong: start-up stops
    ├── DataError              a file or payload is not what it must be: named, nothing is guessed
    │   ├── CorruptFile        a stored file fails its checksum, format or schema
    │   └── BadPayload         an exchange answered something that is not its dialect
    ├── JournalError           the journal cannot be read or written; trading must not go on
    │   └── BrokenChain        a journal entry does not continue the hash chain
    ├── VenueError             the exchange cannot be used (unknown id, geo-block, feature)
    ├── ModelError             a model is missing, corrupt, foreign or does not fit the universe
    └── AlreadyRunning         another process holds the lock of the state folder or account

Operating failures that the engine handles (a lost answer, a late bar) are events, not exceptions.
"""

from __future__ import annotations


class EquipoiseError(Exception):
    """Carry the exit code that the command line returns for this family of failures."""

    exit_code = 1


class InvariantViolated(EquipoiseError):
    """Signal a condition that the program itself promised to keep."""

    exit_code = 70


class ConfigurationError(EquipoiseError):
    """Signal a wrong setting; the message names key, value and what is accepted."""

    exit_code = 78


class DataError(EquipoiseError):
    """Signal data that cannot be trusted; the message names the file or the source."""

    exit_code = 65


class CorruptFile(DataError):
    """Signal a stored file whose content is not what was written."""


class BadPayload(DataError):
    """Signal an exchange answer that cannot be read; never treat it as 'nothing'."""


class JournalError(EquipoiseError):
    """Signal that the journal cannot be read or written."""

    exit_code = 74


class BrokenChain(JournalError):
    """Signal a journal entry that does not continue the hash chain."""


class VenueError(EquipoiseError):
    """Signal that an exchange cannot serve us; the message says why and what to do."""

    exit_code = 69


class ModelError(EquipoiseError):
    """Signal a model that must not be used; the message says which and why."""

    exit_code = 66


class AlreadyRunning(EquipoiseError):
    """Signal that another process owns the state folder or the account."""

    exit_code = 75
