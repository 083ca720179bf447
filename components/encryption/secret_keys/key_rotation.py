"""The key holder rotates by itself: the next key is certified before a round needs it."""

from __future__ import annotations

from dataclasses import replace

from components.agreement.attempt import Attempt
from components.agreement.key_certificate import KeyCertificate, certified_keys
from components.encryption.keys import certify_key
from components.errors import CrosscloudError, UsageError
from components.execution import progress

VOID_ROUNDS = 2
"""Rounds in a row that may come to nothing, without reaching the key holder, before its key has ended."""


def rotate_when_due(attempt: Attempt) -> KeyCertificate | None:
    """Certifies the next encryption key once a round is opened after which one is due.

    A key may serve `rotation_rounds` rounds, counted by their numbers, and a void round uses up a number
    without the key holder having a say. So the next key serves from the next round on as soon as the present
    one would end within VOID_ROUNDS rounds after it, as far as `rotation_rounds` leaves room for that.

    What cannot be done now is told in a line and tried again after the next round: this one is opened.
    Repeated, or by several at once, it certifies one key: certificates are numbered and created if absent.

    Returns:
        The certificate that was made; None where no key was due, or none could be made.
    """
    try:
        return _rotated(attempt)
    except (CrosscloudError, OSError) as error:
        told = " ".join(str(error).split())
        progress.tell(f"the encryption key is due for rotation and was not rotated: {told}")
        return None


def _rotated(attempt: Attempt) -> KeyCertificate | None:
    charter, following = attempt.charter, attempt.ticket.round_number + 1
    chain = certified_keys(attempt.keys_uri, charter, charter.protection)
    if not chain:
        return None
    left = chain[-1].certificate.first_round + charter.rotation_rounds - following
    if left > min(VOID_ROUNDS, charter.rotation_rounds - 1):
        return None
    issued = f"{replace(attempt.ticket, round_number=following, attempt=1).folder}/ticket.json"
    if left > 0 and attempt.exchange.exists(issued):
        # Sites may have sealed the next round under the present key already.
        return None
    try:
        return certify_key(charter, keys_uri=attempt.keys_uri, first_round=following)
    except UsageError:
        # Another start may have certified one in the meantime; it serves as well.
        chain = certified_keys(attempt.keys_uri, charter, charter.protection)
        if chain[-1].certificate.first_round >= following:
            return None
        raise
