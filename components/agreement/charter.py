"""The charter: what all sites and the key holder have signed, and what a round may ask of them.

cd = SHA-256 of its canonical JSON names it in every later document. A site acts on no other
charter than the one it has pinned in its policy. A changed charter is a new edition that names the
one before; round numbers, models and receipts go on.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from components.agreement.noise_terms import LEAST_HONEST_SITES, NoiseTerms, read_noise_terms
from components.agreement.protections import SEALED, TRAITS, Traits
from components.agreement.server_steps import SERVER_STEPS
from components.artifacts.documents import canonical_json, digest
from components.errors import SignatureError

COORDINATOR = "coordinator"
KEY_HOLDER = "key-holder"
FORMAT = 1
GRADIENT_SUMS = "fedsgd"
ANALYTIC = "analytic"
LOCAL_PRIVACY = "dp-sgd"
SHARED_NOISE = (GRADIENT_SUMS, ANALYTIC)
"""Algorithms whose sums have a sensitivity to one example: sites share the noise of one mechanism."""
PRIVATE = (*SHARED_NOISE, LOCAL_PRIVACY)
"""Algorithms that have an epsilon; under the last every site's own noise protects what it releases."""
AVERAGE = "average"
"""Server step that adds the mean update, Eq. 6."""
RIDGE = "ridge"
"""Server step of `analytic`: the opened Gram sums are solved."""
_SITE_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LATER = ("projection", "restart")
_RESERVED = {COORDINATOR, KEY_HOLDER, "aggregator"}


@dataclass(frozen=True, kw_only=True)
class SitePublicKeys:
    """A site's public keys, raw and in base64: Ed25519 to sign, X25519 to agree on pair keys."""

    signing: str
    agreement: str


@dataclass(frozen=True, kw_only=True)
class Charter:
    """The terms of a federation.

    Attributes:
        federation: its id.
        edition: from 1.
        previous: cd of the edition before, empty in the first.
        sites: public keys by site, two or more.
        coordinator: Ed25519 public key, base64.
        key_holder: Ed25519 public key, base64.
        rotation_rounds: rounds that one encryption key may serve.
        protection: how updates are sealed.
        values_per_slot: under `sealed`: 2 packs two values of 23 bits, 1 leaves 46 bits to each.
        algorithm: how sites train.
        server_optimizer: how the opened sum becomes the next model; `average` is Eq. 6.
        genesis: SHA-256 of the model the first round starts from.
        encoder: SHA-256 of the language model, empty where sites may use what they find.
        colluding_sites: t, sites that may work against the others without breaking the claim.
        min_sum_sites: u_min, fewest sites in a sum that is opened.
        min_sites: fewest sites on a roster.
        clipping_norm: C, largest L2 norm of a site's update, or of one example's gradient under `fedsgd`;
            that of the first round where `privacy.adaptive` lets it follow the gradients.
        largest_value: M, largest magnitude of one coordinate of it, at most C.
        max_examples: most training rows a site may weigh its update with.
        local_epochs: most passes a run may ask for.
        learning_rate: largest step of the local optimiser.
        batch_size: most rows a step.
        max_rounds: number of the last round.
        server_learning_rate: of the server optimiser; of no meaning for `average`.
        proximal: μ of `fedprox`, above 0 under it and 0 otherwise.
        cross_weight: w of `analytic`, above 0 under it and 0 otherwise.
        ridge: λ of `analytic` in units of `ridge_head.default_lam`, above 0 under it and 0 otherwise.
        public_corpus: SHA-256 of the public texts that features are centred on; empty for none.
        projection: SHA-256 of the public projection of features to fewer; empty for none.
        restart: SHA-256 of the committed model, or of the genesis, that the first round under this edition
            starts from: later rounds are taken back. Empty for the last receipt's.
        privacy: the noise of every round's sum; None where updates are not noised.
    """

    federation: str
    edition: int
    previous: str
    sites: Mapping[str, SitePublicKeys]
    coordinator: str
    key_holder: str
    rotation_rounds: int
    protection: str
    values_per_slot: Literal[1, 2]
    algorithm: str
    server_optimizer: str
    genesis: str
    encoder: str
    colluding_sites: int
    min_sum_sites: int
    min_sites: int
    clipping_norm: float
    largest_value: float
    max_examples: int
    local_epochs: int
    learning_rate: float
    batch_size: int
    max_rounds: int
    server_learning_rate: float = 1.0
    proximal: float = 0.0
    cross_weight: float = 0.0
    ridge: float = 0.0
    public_corpus: str = ""
    projection: str = ""
    restart: str = ""
    privacy: NoiseTerms | None = None
    format: int = FORMAT

    @cached_property
    def digest(self) -> str:
        """The charter's digest, cd."""
        return digest(self.to_json())

    @property
    def site_names(self) -> tuple[str, ...]:
        """Names of the sites, sorted."""
        return tuple(sorted(self.sites))

    @property
    def traits(self) -> Traits:
        """What its protection asks of a round."""
        return TRAITS[self.protection]

    @property
    def signers(self) -> tuple[str, ...]:
        """Who must sign before it is in force: every site, and the key holder."""
        return (*self.site_names, KEY_HOLDER)

    def to_json(self) -> bytes:
        """Canonical JSON (RFC 8785): what is signed and stored.

        What was added to the form later stands there only where it says something: charters of before it
        keep their bytes.
        """
        body = asdict(self) | {"privacy": self.privacy.document() if self.privacy else None}
        return canonical_json({name: value for name, value in body.items() if name not in _LATER or value})

    def key(self, owner: str) -> Ed25519PublicKey:
        """The Ed25519 key of a site, of the coordinator or of the key holder.

        Raises:
            SignatureError: the charter names no such party.
        """
        if owner == COORDINATOR:
            text = self.coordinator
        elif owner == KEY_HOLDER:
            text = self.key_holder
        elif owner in self.sites:
            text = self.sites[owner].signing
        else:
            raise SignatureError(f"{owner} has no public key in the charter of {self.federation}")
        return Ed25519PublicKey.from_public_bytes(raw_key(text))

    def agreement_key(self, site: str) -> bytes:
        """The 32 bytes of a site's X25519 public key."""
        return raw_key(self.sites[site].agreement)

    def problems(self) -> list[str]:
        """Every rule it breaks, one a line; empty for a charter that can be signed."""
        return [
            *_text_problems(self),
            *_key_problems(self),
            *_number_problems(self),
            *_quorum_problems(self),
            *_step_problems(self),
            *_privacy_problems(self),
        ]


def least_sum_sites(sites: int, colluding: int) -> int:
    """Smallest u_min the release rule allows: max(t + 2, ⌊(K + t) / 2⌋ + 1)."""
    return max(colluding + 2, (sites + colluding) // 2 + 1)


@lru_cache(maxsize=256)
def read_charter(content: bytes) -> Charter:
    """Reads a charter and checks its rules; whose signatures it has is another question.

    The same bytes are read once in a process: every document of a round leads back to them.

    Raises:
        SignatureError: not in this form, or it breaks a rule of `Charter.problems`.
    """
    try:
        body: dict[str, Any] = json.loads(content)
        sites = {name: SitePublicKeys(**keys) for name, keys in body["sites"].items()}
        charter = Charter(**(body | {"sites": sites, "privacy": read_noise_terms(body["privacy"])}))
        same = charter.to_json() == content
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureError("a charter is not in the form this version knows") from error
    if not same or type(charter.format) is not int or charter.format != FORMAT:
        raise SignatureError("a charter is not in the form this version knows")
    problems = charter.problems()
    if problems:
        raise SignatureError(f"the charter of {charter.federation} breaks a rule: {problems[0]}")
    return charter


def raw_key(text: str) -> bytes:
    """32 bytes from base64.

    Raises:
        SignatureError: it is anything else.
    """
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        key = b""
    if len(key) != 32:
        raise SignatureError("a public key must be 32 bytes in base64")
    return key


def _text_problems(charter: Charter) -> list[str]:
    problems = [
        f"{name} must be text, got {value!r}"
        for name in ("federation", "protection", "algorithm", "server_optimizer")
        if not isinstance(value := getattr(charter, name), str) or not value
    ]
    if not problems and charter.protection not in TRAITS:
        problems.append(f"protection must be one of {', '.join(TRAITS)}, got {charter.protection!r}")
    for name in ("genesis", "encoder", "previous", "public_corpus", "projection", "restart"):
        value = getattr(charter, name)
        if value != "" and not (isinstance(value, str) and _DIGEST.fullmatch(value)):
            problems.append(f"{name} must be a SHA-256 in 64 hexadecimal digits, got {value!r}")
    if charter.genesis == "":
        problems.append("genesis must name the model that the first round starts from")
    if charter.restart and charter.edition == 1:
        problems.append("restart must be empty in the first edition: there is no round to take back")
    if (charter.previous == "") != (charter.edition == 1):
        problems.append(
            "previous must be the digest of the edition before, and empty in the first, "
            f"got {charter.previous!r} in edition {charter.edition!r}"
        )
    return problems


def _key_problems(charter: Charter) -> list[str]:
    problems = [
        f"{site!r} is not a name of a site"
        for site in charter.sites
        if not _SITE_NAME.fullmatch(site) or site in _RESERVED
    ]
    texts = {f"{site} (signing)": keys.signing for site, keys in charter.sites.items()}
    texts |= {f"{site} (agreement)": keys.agreement for site, keys in charter.sites.items()}
    texts |= {COORDINATOR: charter.coordinator, KEY_HOLDER: charter.key_holder}
    owners: dict[bytes, str] = {}
    for owner, text in texts.items():
        try:
            key = raw_key(text)
        except SignatureError:
            problems.append(f"the key of {owner} is not 32 bytes in base64")
            continue
        if key in owners:
            problems.append(f"{owners[key]} and {owner} have the same public key, keys must be distinct")
        owners.setdefault(key, owner)
    return problems


def _number_problems(charter: Charter) -> list[str]:
    whole = {
        "edition": 1,
        "rotation_rounds": 1,
        "colluding_sites": 0,
        "min_sum_sites": 2,
        "min_sites": 2,
        "max_examples": 1,
        "local_epochs": 1,
        "batch_size": 1,
        "max_rounds": 1,
    }
    problems = [
        f"{name} must be a whole number of at least {least}, got {value!r}"
        for name, least in whole.items()
        if type(value := getattr(charter, name)) is not int or value < least
    ]
    for name in ("clipping_norm", "largest_value", "learning_rate", "server_learning_rate"):
        value = getattr(charter, name)
        if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
            problems.append(f"{name} must be a finite number above 0, got {value!r}")
    owners = {"proximal": "fedprox", "cross_weight": ANALYTIC, "ridge": ANALYTIC}
    for name, owner in owners.items():
        value = getattr(charter, name)
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            problems.append(f"{name} must be a finite number from 0, got {value!r}")
        elif (value > 0) != (charter.algorithm == owner):
            problems.append(f"{name} belongs to {owner} alone, got {value:g} with {charter.algorithm!r}")
    if not problems and charter.largest_value > charter.clipping_norm:
        problems.append(
            f"largest_value must be at most clipping_norm, {charter.clipping_norm:g}, "
            f"got {charter.largest_value:g}"
        )
    packed: object = charter.values_per_slot
    if type(packed) is not int or packed not in (1, 2):
        problems.append(f"values_per_slot must be 1 or 2, got {charter.values_per_slot!r}")
    return problems


def _privacy_problems(charter: Charter) -> list[str]:
    """Noise prices something for sums of clipped contributions, or where each site trains privately."""
    terms = charter.privacy
    if (terms is not None) != (charter.algorithm in PRIVATE):
        return [
            f"privacy belongs to algorithms {', '.join(PRIVATE)} and to no other: a sum of weighted updates "
            f"has no sensitivity to one example, got {charter.algorithm!r} "
            f"{'with' if terms else 'without'} it"
        ]
    if terms is None:
        return []
    problems = terms.problems()
    if (terms.local is not None) != (charter.algorithm == LOCAL_PRIVACY):
        problems.append(f"privacy.local belongs to {LOCAL_PRIVACY} alone, got it with {charter.algorithm!r}")
    if terms.class_sum_start and charter.algorithm != GRADIENT_SUMS:
        problems.append(f"privacy.class_sum_start belongs to {GRADIENT_SUMS}, got {charter.algorithm!r}")
    if terms.has_unit_column and charter.algorithm != GRADIENT_SUMS:
        problems.append(
            f"privacy.unit must be row under {charter.algorithm}, whose contributions are of single rows, "
            f"got {terms.unit!r}: choose {GRADIENT_SUMS} to clip by {terms.unit}"
        )
    if terms.adaptive is not None and charter.algorithm != GRADIENT_SUMS:
        problems.append(f"privacy.adaptive belongs to {GRADIENT_SUMS}, got {charter.algorithm!r}")
    if charter.algorithm not in SHARED_NOISE:
        return problems
    if charter.protection != SEALED or charter.values_per_slot != 1:
        problems.append(
            "noise that sites share needs protection sealed with one value a slot, got "
            f"{charter.protection} with {charter.values_per_slot}"
        )
    if charter.min_sum_sites - charter.colluding_sites < LEAST_HONEST_SITES:
        problems.append(
            f"min_sum_sites less colluding_sites must be at least {LEAST_HONEST_SITES}, got "
            f"{charter.min_sum_sites} - {charter.colluding_sites}: noise of one site would protect alone"
        )
    return problems


def _step_problems(charter: Charter) -> list[str]:
    fitting: tuple[str, ...] = (AVERAGE, *SERVER_STEPS)
    for algorithm, steps in (
        (GRADIENT_SUMS, SERVER_STEPS),
        (ANALYTIC, (RIDGE,)),
        (LOCAL_PRIVACY, (AVERAGE,)),
    ):
        fitting = steps if charter.algorithm == algorithm else fitting
    if not isinstance(charter.server_optimizer, str) or charter.server_optimizer in fitting:
        return []
    return [
        f"server_optimizer must be one of {', '.join(fitting)} under {charter.algorithm}, "
        f"got {charter.server_optimizer!r}"
    ]


def _quorum_problems(charter: Charter) -> list[str]:
    sites = len(charter.sites)
    if sites < 2:
        return [f"a federation has at least 2 sites, got {sites}"]
    counts = (charter.colluding_sites, charter.min_sum_sites, charter.min_sites)
    if any(type(count) is not int for count in counts):
        return []
    problems: list[str] = []
    least_sum, least_roster = charter.min_sum_sites, charter.min_sum_sites
    if charter.protection in list(TRAITS) and charter.traits.masked:
        least_sum = least_sum_sites(sites, charter.colluding_sites)
        least_roster = max(3, charter.min_sum_sites)
    if charter.min_sum_sites < least_sum:
        problems.append(
            f"min_sum_sites must be at least {least_sum} for {sites} sites of which "
            f"{charter.colluding_sites} may collude, got {charter.min_sum_sites}"
        )
    if charter.min_sites < least_roster:
        problems.append(f"min_sites must be at least {least_roster}, got {charter.min_sites}")
    if charter.min_sites > sites or least_roster > sites:
        problems.append(
            f"min_sites must be at most the number of sites, {sites}, "
            f"got {max(charter.min_sites, least_roster)}"
        )
    return problems
