"""Who may see what, proved on the bytes that runs have left on the disk."""

from __future__ import annotations

import base64
import functools
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from numpy.typing import NDArray
from safetensors.numpy import load_file

from components.aggregation.secure_aggregation.summing import aggregate_updates
from components.artifacts.documents import canonical_json, digest, sign
from components.encryption.aggregate_opening.opening import open_aggregate
from components.errors import DigestMismatchError, QuorumNotReachedError
from tests.conftest import PATIENTS, WORDS, SmallFederation
from tests.pipelines.conftest import ROWS, FinishedRun, FinishedRuns, RunInProgress, copied

SITES = ("alpha", "beta", "gamma")
OWNERS = (*SITES, "coordinator", "key-holder")
TELLING_WORDS = {word for group in WORDS.values() for word in group if len(word) >= 6}
Words = NDArray[np.uint64]


def files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def outside_the_sites(home: Path) -> list[Path]:
    """All that is not a site's own or a key: pipeline roots, logs, exchange, state."""
    found = [path for path in files(home) if path.relative_to(home).parts[1] not in {"sites", "keys"}]
    assert {path.relative_to(home).parts[1] for path in found} == {"runs", "exchange", "state"}
    assert any(path.name == "log.txt" for path in found)
    return found


def own(home: Path, site: str, part: str = "") -> list[Path]:
    return files(home / "small/sites" / site / "store" / part)


def readable(path: Path) -> bytes:
    """The content, and what it says once it is unpacked if it is Parquet or a warehouse."""
    content = path.read_bytes()
    if content.startswith(b"PAR1"):
        address, query = ":memory:", f"SELECT * FROM read_parquet('{path}')"
    elif content[8:12] == b"DUCK":
        address, query = str(path), "SELECT * FROM visits"
    else:
        return content
    with duckdb.connect(address, read_only=address != ":memory:") as connection:
        return content + json.dumps(connection.execute(query).fetchall()).encode()


def texts_in(paths: Iterable[Path], texts: Iterable[str]) -> set[str]:
    """Those of the texts that some file holds."""
    contents = [readable(path) for path in paths]
    return {text for text in texts if any(text.encode() in content for content in contents)}


def in_eights(content: bytes) -> Words:
    """Every eight bytes in a row, wherever they begin: one float64, or two float32."""
    parts = [content[start : start + (len(content) - start) // 8 * 8] for start in range(8)]
    return np.unique(np.concatenate([np.frombuffer(part, "<u8") for part in parts]))


@functools.cache
def eights_of(path: Path) -> Words:
    """Of a file that no test changes."""
    return in_eights(path.read_bytes())


def holding(paths: Iterable[Path], needles: Words) -> list[Path]:
    return [path for path in paths if np.isin(needles, eights_of(path)).any()]


def seven_decimals(text: bytes) -> set[bytes]:
    return set(re.findall(rb"(?<![\d.])\d+\.\d{7}", text))


def written_out(values: NDArray[np.float32] | NDArray[np.float64]) -> set[bytes]:
    """Numbers as text, as float32 and float64 print them, to their seventh decimal."""
    magnitudes = np.abs(values).ravel()
    printed = [
        str(number) for kind in (np.float32, np.float64) for number in magnitudes.astype(kind).tolist()
    ]
    printed += [str(number) for number in magnitudes.astype(np.float32)]
    return seven_decimals(" ".join(printed).encode())


def notes(home: Path, site: str) -> set[str]:
    with duckdb.connect(str(home / f"small/sites/{site}/warehouse.duckdb"), read_only=True) as connection:
        return {row[0] for row in connection.execute("SELECT note FROM visits").fetchall()}


def features(home: Path, site: str) -> NDArray[np.float32]:
    (path,) = own(home, site, "features")
    found: NDArray[np.float32] = load_file(path)["features"]
    return found


def updates(home: Path, site: str) -> list[tuple[NDArray[np.float64], int]]:
    kept = [load_file(path) for path in own(home, site, "updates")]
    return [(each["update"], int(each["num_examples"][0])) for each in kept]


def forms(update: NDArray[np.float64], num_examples: int) -> Words:
    """An update, plain and weighted, in the bytes of float64 and float32; zeros tell nothing."""
    vectors = [update, update * num_examples]
    doubles = [np.frombuffer(vector[vector != 0].astype("<f8").tobytes(), "<u8") for vector in vectors]
    return np.concatenate([*doubles, *(pairs(vector.astype("<f4")) for vector in vectors)])


def pairs(values: NDArray[np.float32]) -> Words:
    """Neighbours of float32 as eight bytes, at both alignments, without those that hold a zero."""
    found = [values[start : start + (len(values) - start) // 2 * 2].reshape(-1, 2) for start in (0, 1)]
    kept = [np.ascontiguousarray(each[(each != 0).all(axis=1)], "<f4") for each in found]
    return np.concatenate([np.frombuffer(each.tobytes(), "<u8") for each in kept])


@pytest.fixture
def home(one_round: FinishedRun) -> Path:
    return one_round.federation.home


@pytest.mark.parametrize("site", SITES)
def test_no_record_leaves_its_site(one_round: FinishedRun, home: Path, site: str) -> None:
    records = notes(home, site)
    needles = records | TELLING_WORDS | set(PATIENTS) | {name.split()[1] for name in PATIENTS}
    assert texts_in(outside_the_sites(home), needles) == set()
    assert not any(text in one_round.command.stdout + one_round.command.stderr for text in needles)
    others = [path for other in SITES if other != site for path in own(home, other)]
    elsewhere = "\n".join(note for other in SITES if other != site for note in notes(home, other))
    private = {note for note in records if note not in elsewhere}
    assert len(private) > 20
    assert texts_in(others, private) == set()
    # The same search finds them where they may be: notes in the site's store, names in its warehouse only.
    assert texts_in(own(home, site), records) == records
    assert texts_in([home / f"small/sites/{site}/warehouse.duckdb"], PATIENTS) == set(PATIENTS)
    assert texts_in(own(home, site), PATIENTS) == set()


@pytest.mark.parametrize("site", SITES)
def test_no_feature_leaves_its_site(home: Path, site: str) -> None:
    found = features(home, site)
    needles = np.concatenate([pairs(row) for row in found])
    assert len(needles) > 400
    others = [path for other in SITES if other != site for path in own(home, other)]
    assert holding(outside_the_sites(home), needles) == []
    unshared = ~np.isin(
        needles, np.concatenate([in_eights(features(home, s).tobytes()) for s in SITES if s != site])
    )
    assert holding(others, needles[unshared]) == []
    assert holding(own(home, site), needles) == own(home, site, "features")
    decimals = written_out(found)
    assert len(decimals) > 400
    assert [path for path in outside_the_sites(home) if decimals & seven_decimals(path.read_bytes())] == []
    printed = json.dumps(np.abs(found).astype(float).tolist()).encode()
    assert len(decimals & seven_decimals(printed)) > 400, "the search knows a feature that is printed"


@pytest.mark.parametrize("site", SITES)
def test_under_he_no_update_leaves_its_site_in_clear(home: Path, site: str) -> None:
    ((update, num_examples),) = updates(home, site)
    needles = forms(update, num_examples)
    assert len(needles) > 150
    others = [path for other in SITES if other != site for path in own(home, other)]
    assert holding([*outside_the_sites(home), *others, *files(home / "small/keys")], needles) == []
    assert holding(own(home, site), needles) == own(home, site, "updates")
    decimals = written_out(update) | written_out(update * num_examples)
    assert [path for path in outside_the_sites(home) if decimals & seven_decimals(path.read_bytes())] == []


@pytest.mark.parametrize("site", SITES)
def test_without_a_seal_the_same_search_does_find_the_update(three_rounds: FinishedRun, site: str) -> None:
    """The control: what `he` is there to prevent."""
    home = three_rounds.federation.home
    found = {
        str(path.relative_to(home / "small/exchange/rounds"))
        for update, num_examples in updates(home, site)
        for path in holding(outside_the_sites(home), forms(update, num_examples))
    }
    assert found == {f"0000{number}-1/sealed/{site}.bin" for number in (2, 3)}


def test_how_many_examples_a_site_has_is_not_published(home: Path) -> None:
    counts = {num_examples for site in SITES for _, num_examples in updates(home, site)} | {*ROWS.values()}
    assert len(counts) == 6
    documents = [
        path
        for path in outside_the_sites(home)
        if path.suffix == ".json" or path.name == "manifest"
        # Confusion counts of test rows, which the sites have released.
        if not path.parent.name.startswith("evaluate") and path.parent.name != "figures"
    ]
    assert len(documents) > 60
    published = {number for path in documents for number in numbers(json_of(path))}
    assert counts.isdisjoint(published)
    assert {52, 131_152} <= published, "the search sees numbers: the length and the size of a sealed update"


def json_of(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def numbers(value: Any) -> Iterator[float]:
    """All numbers in a document, evaluations aside: a site may publish how many rows it was tested on."""
    if isinstance(value, dict):
        yield from (n for key, each in value.items() if key != "evaluation" for n in numbers(each))
    elif isinstance(value, list):
        yield from (n for each in value for n in numbers(each))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_the_coordinator_holds_references_and_no_listing_of_a_site(home: Path) -> None:
    (root,) = (home / "small/runs").glob("*/run-1/*")
    assert {path.name for path in files(root)} == {"executor_output.json", "manifest", "page"}
    assert all(path.stat().st_size < 4096 for path in files(root) if path.name != "page")
    coordinator = b"".join(path.read_bytes() for path in files(home / "small/runs"))
    for site in SITES:
        store = home / f"small/sites/{site}/store"
        keys = {str(path.relative_to(store)) for path in own(home, site)}
        named = {
            key.partition("/")[0] for key in keys if f"small/sites/{site}/store/{key}".encode() in coordinator
        }
        assert named == {"rows", "features", "adaptations"}
        assert {key.partition("/")[0] for key in keys} > named


def test_a_private_key_is_in_its_owners_folder_and_nowhere_else(home: Path) -> None:
    keys = home / "small/keys"
    for owner in OWNERS:
        pem = (keys / owner / "signing.key").read_bytes()
        key = load_pem_private_key(pem, None)
        assert isinstance(key, Ed25519PrivateKey)
        raw = key.private_bytes_raw()
        body = b"".join(pem.splitlines()[1:-1])
        forms = [body, raw, raw.hex().encode(), base64.b64encode(raw), base64.urlsafe_b64encode(raw)[:43]]
        holders = [path for path in files(home) if any(form in path.read_bytes() for form in forms)]
        assert holders == [keys / owner / "signing.key"]
        assert not any(path.stat().st_mode & 0o077 for path in (keys / owner).iterdir())
    marked = [path for path in files(home) if b"PRIVATE KEY" in path.read_bytes()]
    assert marked == sorted(keys / owner / "signing.key" for owner in OWNERS)


def test_the_decryption_key_is_in_the_key_holders_folder_and_nowhere_else(home: Path) -> None:
    secret = home / "small/keys/key-holder/he.secret"
    public = in_eights((home / "small/keys/contexts/he.public").read_bytes())
    needles = np.setdiff1d(in_eights(secret.read_bytes()), public)
    # The header of a serialised object is the same everywhere; what is drawn at random is not.
    needles = needles[needles > 2**56]
    assert len(needles) > 8192
    assert holding(files(home), needles) == [secret]


@pytest.fixture
def attacked(one_round: FinishedRun, finished_runs: FinishedRuns) -> FinishedRun:
    """A second round in which the first sealed update was altered in the exchange before it was added."""
    if "attacked" not in finished_runs.found:
        federation = copied(one_round.federation, finished_runs.folder / "attacked")
        with RunInProgress(federation) as run:
            first = run.await_start("seal", nth=3)[0].partition(" · ")[2]
            with run.paused():
                blob = round_folder(federation, 2) / f"sealed/{first}.bin"
                shutil.copy(blob, federation.home.parent / f"{first}.bin")
                blob.write_bytes(flipped(blob.read_bytes()))
            out, err = run.process.communicate()
        command = subprocess.CompletedProcess("run", run.process.returncode, out, err)
        finished_runs.found["attacked"] = FinishedRun(federation=federation, command=command)
    return finished_runs.found["attacked"]


def round_folder(federation: SmallFederation, number: int) -> Path:
    return federation.home / f"small/exchange/rounds/{number:05d}-1"


def flipped(content: bytes) -> bytes:
    """One bit in the middle is another one."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.slow
def test_an_update_altered_on_its_way_is_left_out_and_the_round_goes_on(attacked: FinishedRun) -> None:
    home, command = attacked.federation.home, attacked.command
    (original,) = home.parent.glob("*.bin")
    site = original.stem
    assert command.returncode == 0, command.stderr
    reason = f"refused: the sealed update of {site} is not the one its manifest signs"
    assert f"round 2: {site} left out: {reason}" in command.stdout.splitlines()
    report = json.loads((home / "small/state/rounds/00002/report.json").read_text())
    assert {each["name"]: each["reason"] for each in report["sites"] if each["reason"]} == {site: reason}
    body = json.loads((home / "small/state/rounds/00002/round.json").read_text())["body"]
    assert body["members"] == [each for each in SITES if each != site]


@pytest.fixture
def sealed(attacked: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallFederation:
    """The second round as it is when all sites have sealed and nobody has added, to be changed."""
    federation = copied(attacked.federation, tmp_path / "sealed")
    monkeypatch.setenv("CROSSCLOUD_HOME", str(federation.home))
    folder = round_folder(federation, 2)
    for original in attacked.federation.home.parent.glob("*.bin"):
        shutil.copy(original, folder / "sealed" / original.name)
    for name in ("cutoff.json", "sum.bin", "receipt.json", "aggregate.safetensors", "committed.json"):
        (folder / name).unlink()
    return federation


Attack = Callable[[Path, Path, SmallFederation], None]


def alter(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    blob.write_bytes(flipped(blob.read_bytes()))


def cut_short(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    blob.write_bytes(blob.read_bytes()[:-1])


def alter_the_manifest(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    """The altered update's own digest, under the signature of another."""
    alter(blob, manifest, federation)
    document = json.loads(manifest.read_text())
    document["body"]["blob"] = digest(blob.read_bytes())
    manifest.write_bytes(canonical_json(document))


def take_the_signature_off(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    document = json.loads(manifest.read_text())
    del document["signature"]
    manifest.write_bytes(canonical_json(document))


def replay(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    for path in (blob, manifest):
        shutil.copy(round_folder(federation, 1) / "sealed" / path.name, path)


def put_anothers_in_its_place(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    shutil.copy(blob.with_stem("beta"), blob)
    shutil.copy(manifest.with_stem("beta"), manifest)


def sign_as_another(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    body = json.loads(manifest.read_text())["body"]
    manifest.write_bytes(sign(key_of(federation, "beta"), domain="sealed update", signer="alpha", body=body))


def take_away(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    blob.unlink()
    manifest.unlink()


def garbage_in_its_place(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    blob.write_bytes(b"\xff" * blob.stat().st_size)


def sign_garbage(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    """What only the site itself can do."""
    garbage_in_its_place(blob, manifest, federation)
    body = json.loads(manifest.read_text())["body"] | {"blob": digest(blob.read_bytes())}
    manifest.write_bytes(sign(key_of(federation, "alpha"), domain="sealed update", signer="alpha", body=body))


def key_of(federation: SmallFederation, owner: str) -> Ed25519PrivateKey:
    content = (federation.home / f"small/keys/{owner}/signing.key").read_bytes()
    key = load_pem_private_key(content, None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


NOT_SIGNED_FOR = "is not the one its manifest signs"
NO_SIGNATURE = "the signature of alpha on a sealed update document does not verify"


def add(sites: Sequence[str] = SITES) -> Path:
    """What the `aggregate` step does; the reference of the sum."""
    folder = "small/exchange/rounds/00002-1"
    outcome = aggregate_updates(
        {site: f"{folder}/sealed/{site}.json" for site in sites},
        {},
        ticket=f"{folder}/ticket.json",
        min_sites=2,
        exchange_uri="small/exchange",
        keys_uri="small/keys",
    )
    return Path(outcome.reference)


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (alter, NOT_SIGNED_FOR),
        (cut_short, NOT_SIGNED_FOR),
        (garbage_in_its_place, NOT_SIGNED_FOR),
        (alter_the_manifest, NO_SIGNATURE),
        (sign_as_another, NO_SIGNATURE),
        (take_the_signature_off, "is not a signed document"),
        (replay, "was made for another ticket"),
        (put_anothers_in_its_place, "names another signer"),
        (take_away, "unreachable: a store (ObjectMissingError)"),
        (sign_garbage, "not a sealed update of format 1"),
    ],
)
def test_the_aggregator_leaves_out_what_a_site_did_not_sign_for_this_round(
    sealed: SmallFederation, attack: Attack, reason: str
) -> None:
    """Only what the site has signed itself is judged as a ciphertext, as the last case shows."""
    folder = round_folder(sealed, 2)
    attack(folder / "sealed/alpha.bin", folder / "sealed/alpha.json", sealed)
    add()
    cutoff = json.loads((folder / "cutoff.json").read_text())
    assert cutoff["members"] == ["beta", "gamma"]
    assert reason in cutoff["left_out"]["alpha"]


def test_untouched_updates_are_all_added(sealed: SmallFederation) -> None:
    add()
    assert json.loads((round_folder(sealed, 2) / "cutoff.json").read_text())["members"] == list(SITES)


def test_too_few_honest_updates_void_the_attempt_and_open_nothing(sealed: SmallFederation) -> None:
    folder = round_folder(sealed, 2)
    for site in ("alpha", "beta"):
        alter(folder / f"sealed/{site}.bin", folder / f"sealed/{site}.json", sealed)
    with pytest.raises(QuorumNotReachedError, match="1 of 3 sites on the roster sealed, the quorum is 2"):
        add()
    assert (folder / "shortfall.json").exists()
    assert not any((folder / name).exists() for name in ("cutoff.json", "sum.bin"))


def test_the_key_holder_opens_no_sum_but_the_one_he_adds_himself(sealed: SmallFederation) -> None:
    folder = round_folder(sealed, 2)
    total = sealed.home / add()
    honest = total.read_bytes()
    total.write_bytes((folder / "sealed/alpha.bin").read_bytes())

    def open_it() -> None:
        open_aggregate(
            str(total.relative_to(sealed.home)),
            ticket="small/exchange/rounds/00002-1/ticket.json",
            min_sites=2,
            exchange_uri="small/exchange",
            keys_uri="small/keys",
        )

    with pytest.raises(DigestMismatchError, match="is not the sum of its members"):
        open_it()
    assert not any((folder / name).exists() for name in ("receipt.json", "aggregate.safetensors"))
    total.write_bytes(honest)
    open_it()
    assert (folder / "receipt.json").exists()
