"""What can go wrong, as a person would name it.

Every message gives the value, the limit and the way out. The command line prints it as one line and exits 1; an
exception that is not in this tree is a bug and shows a traceback.
"""

from __future__ import annotations


class StreamclusterError(Exception):
    """Base of every error that streamcluster raises on purpose."""


class SettingsError(StreamclusterError, ValueError):
    """A setting has a value that cannot be used, or contradicts another."""


class BudgetError(SettingsError):
    """The work that was asked for does not fit the memory budget."""


class SourceError(StreamclusterError):
    """A source folder cannot be used as it is."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """A source folder does not exist, or was there last time and is empty now."""


class SourceVanishedError(SourceError):
    """So many known pictures are missing at once that an unmounted disk is likelier than a person's wish."""


class NoPicturesError(StreamclusterError, ValueError):
    """There is no readable picture to work on."""


class UnreadablePictureError(StreamclusterError, ValueError):
    """This file's bytes will not become a picture, however often they are read."""


class OversizePictureError(UnreadablePictureError):
    """This picture may be fine, but reading it would pass a limit that a setting can raise."""


class UnknownPictureError(StreamclusterError, LookupError):
    """A path is to be marked that is no picture of the store."""


class ChangedWhileReadError(StreamclusterError, OSError):
    """The file changed under the reader; the next run will see it whole."""


class StoreError(StreamclusterError):
    """Base of what can be wrong with a store."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no store at this path."""


class StoreFormatError(StoreError, ValueError):
    """Something lies at the store's path that this version of streamcluster does not read."""


class StoreWriteError(StoreError, OSError):
    """The store's disk refused a write; what was committed before stands."""


class SettingsConflictError(StoreError, SettingsError):
    """A setting contradicts what the store was made with."""


class StoreBusyError(StoreError, BlockingIOError):
    """Another process writes to the same store or destination."""


class FitNotFoundError(StoreError, LookupError):
    """The store holds no fit yet, or not the one that was named."""


class FindingsNotFoundError(StoreError, LookupError):
    """The store does not hold yet what a job is to go by, such as near-duplicates."""


class ClusterError(StreamclusterError, ConnectionError):
    """The cluster that was named cannot be used."""


class TooFewPicturesError(StreamclusterError, ValueError):
    """Fewer pictures, or fewer different ones, than the clusters or components that were asked for."""


class ModelError(StreamclusterError, ValueError):
    """An embedding model cannot be used."""


class MissingExtraError(StreamclusterError, ImportError):
    """A library that only some installations have is not there."""

    def __init__(self, library: str, extra: str, otherwise: str = "") -> None:
        ways = f"pip install 'streamcluster[{extra}]'" + (f", or {otherwise}" if otherwise else "")
        super().__init__(f"{library} is not installed; install it: {ways}")


class ScratchError(StreamclusterError, OSError):
    """The disk for temporary files refused a write."""


class DestinationError(StreamclusterError, OSError):
    """The export's destination cannot be used as it is."""


class Interrupted(StreamclusterError):
    """The run was asked to stop and stopped at a commit; the same command goes on from there.

    Attributes
    ----------
    signal_number : int
        The signal that asked for it; a shell expects the exit code 128 + signal_number.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__("stopped; run the same command again to go on from here")
        self.signal_number = signal_number
