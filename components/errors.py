"""Every error crosscloud raises on purpose.

    CrosscloudError                          exit 1: the run failed
    ├── UsageError                           exit 2: a person can mend it
    │   ├── FederationFileError              every problem of a federation file at once
    │   ├── KeyProviderError                 the key holder's HSM or KMS does not wrap or unwrap
    │   └── UnknownSiteError
    ├── StoreError                           exit 2: a store cannot be used as asked
    │   ├── ObjectMissingError
    │   ├── ObjectExistsError                a conditional create lost the race
    │   ├── ConditionalCreateUnsupportedError
    │   └── ObjectTooLargeError              an integrity error too: whoever wrote it wrote too much
    ├── IntegrityError                       something is not what its signature or digest says
    │   ├── SignatureError
    │   ├── DigestMismatchError
    │   └── CiphertextError                  bytes that are not a ciphertext of this federation
    ├── SiteError                            the site is left out of the round, with its reason
    │   ├── SourceUnreachableError           unreachable
    │   ├── BadDataError                     bad_data
    │   ├── RefusedError                     refused
    │   │   └── PrivacyBudgetExceededError   the site's ledger holds no more for this release
    │   ├── EncoderError                     bad_encoder
    │   └── DeadlineExceededError            timeout
    ├── QuorumNotReachedError                too few sites: nothing was committed
    └── RoundAlreadyCommittedError           another run committed this round first

Messages are one line: the value, the rule, the mend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class CrosscloudError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command exits with."""

    exit_code: ClassVar[int] = 1


class UsageError(CrosscloudError):
    """A person asked for something that cannot be done as asked."""

    exit_code: ClassVar[int] = 2


class FederationFileError(UsageError):
    """A federation file breaks one or more rules; all of them are listed, one a line."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


class KeyProviderError(UsageError):
    """What wraps the key holder's secret keys cannot be used, or does not unwrap what is there.

    Messages name places, key names and rules; never a PIN, a key, or what a server answered.
    """


class UnknownSiteError(UsageError):
    """A site was named that the federation does not have."""

    def __init__(self, name: str, sites: Sequence[str]) -> None:
        super().__init__(f"unknown site {name!r}: the federation has {', '.join(sites)}")


class StoreError(CrosscloudError):
    """A store cannot be reached, read or written."""

    exit_code: ClassVar[int] = 2


class ObjectMissingError(StoreError):
    """An object that was asked for is not in its store."""


class ObjectExistsError(StoreError):
    """An object was to be created but is already there."""


class ConditionalCreateUnsupportedError(StoreError):
    """A store does not honour create-if-absent, so rounds could be overwritten in it."""


class IntegrityError(CrosscloudError):
    """Something that was received is not what it claims to be."""


class SignatureError(IntegrityError):
    """A signed document was altered, or signed by somebody else."""


class DigestMismatchError(IntegrityError):
    """Content does not have the digest that its manifest states."""


class CiphertextError(IntegrityError):
    """Bytes are not a ciphertext of this federation's key, parameters and length."""


class ObjectTooLargeError(StoreError, IntegrityError):
    """An object is larger than its reader reads: the fault of who wrote it, not of the store."""


class SiteError(CrosscloudError):
    """A site cannot take part in this round.

    The message is for the site's own people and may hold values of its data: it is written to
    the site's store only. `disclosed` is what the other parties may read: it names nothing but
    what stands in the federation file.
    """

    reason: ClassVar[str] = "failed"

    def __init__(self, message: str, *, disclosed: str = "") -> None:
        self.disclosed = disclosed
        super().__init__(message)


class SourceUnreachableError(SiteError):
    """The site's warehouse, store or encoder cannot be reached."""

    reason: ClassVar[str] = "unreachable"


class BadDataError(SiteError):
    """The site's records do not keep the federation's contract."""

    reason: ClassVar[str] = "bad_data"


class RefusedError(SiteError):
    """The site declines what it was asked to do."""

    reason: ClassVar[str] = "refused"


class PrivacyBudgetExceededError(RefusedError):
    """A release would cost more than the site's privacy budget has left."""


class EncoderError(SiteError):
    """The language model is missing or is not the one the federation names."""

    reason: ClassVar[str] = "bad_encoder"


class DeadlineExceededError(SiteError):
    """The step did not end within the site's deadline."""

    reason: ClassVar[str] = "timeout"


class QuorumNotReachedError(CrosscloudError):
    """Fewer sites than the quorum can take part; nothing is committed."""


class RoundAlreadyCommittedError(CrosscloudError):
    """Another run has committed this round."""
