from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import tenseal
from numpy.typing import NDArray

from components.encryption import protection
from components.encryption.ckks import roles as ckks
from components.encryption.ckks.context import VectorEncryptor
from components.encryption.ckks.words import MODULUS, SCALE, WORDS, serialised_ciphertext
from components.errors import BadDataError, CiphertextError, UsageError
from tests.contracts.protection import HEADER_BYTES, RegisteredContract, add, check, opened, vectors, whole


def words_of(blob: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(blob[HEADER_BYTES:], "<u8").reshape(-1, WORDS)


class TestHe(RegisteredContract):
    name = "he"
    header_name = "he"
    absolute_error = 1e-4
    largest_value = 4e6
    outside = (np.nan, np.inf, -np.inf, 4.0001e6)
    values_per_part = 4_096
    long_length = 200_000

    def test_sealing_twice_gives_different_ciphertexts(self) -> None:
        sealer, values = self.roles(1).sealers[0], vectors(1, 5_000)[0]
        first, second = (words_of(whole(sealer.seal(values))) for _ in range(2))
        # Two independent uniform words are equal with probability 2^-60.
        assert not (first == second).any()

    def test_equal_ciphertexts_of_one_blob_differ_too(self) -> None:
        words = words_of(self.seal(np.zeros(8_192)))
        assert not (words[0] == words[1]).any()

    def test_no_plaintext_byte_pattern_is_in_a_blob(self) -> None:
        values = vectors(1, 500)[0]
        sealed, plain = self.seal(values), whole(protection.sealer("none", b"").seal(values))
        assert all(v.tobytes() in plain for v in values)
        assert not any(v.tobytes() in sealed for v in values)
        floats = values.astype(np.float32)
        assert not any(floats[i : i + 2].tobytes() in sealed for i in range(499))

    def test_the_words_of_a_blob_look_uniform(self) -> None:
        words = words_of(self.seal(np.full(40_960, 1e6)))
        counts = np.histogram(words / MODULUS, bins=64, range=(0, 1))[0]
        expected = words.size / 64
        # Chi-square with 63 degrees of freedom: mean 63, deviation 11.2; 160 is beyond eight and a half.
        assert ((counts - expected) ** 2 / expected).sum() < 160

    def test_the_aggregators_context_decrypts_nothing(self) -> None:
        public = tenseal.context_from(self.contexts[0], n_threads=1)
        assert not public.is_private()
        vector = tenseal.ckks_vector_from(public, serialised_ciphertext(words_of(self.seal(np.ones(9)))[0]))
        with pytest.raises(ValueError, match="secret_key"):
            vector.decrypt()

    def test_seals_nothing_that_could_be_opened_where_it_was_sealed(self) -> None:
        # The sealer's constructor refuses this context; the check after sealing must not rely on that.
        encryptor = VectorEncryptor(tenseal.context_from(self.contexts[1], n_threads=1))
        with pytest.raises(CiphertextError, match="could be decrypted where it was sealed"):
            encryptor.encrypt(np.ones(4096))

    def test_adds_as_seal_does(self) -> None:
        public = tenseal.context_from(self.contexts[0], n_threads=1)
        blobs = [self.seal(v) for v in vectors(5, 4_096)]
        first, *others = (
            tenseal.ckks_vector_from(public, serialised_ciphertext(words_of(blob)[0])) for blob in blobs
        )
        for other in others:
            first += other
        ours = words_of(add(self.roles(5).summer, blobs, 4_096))[0]
        assert first.serialize() == serialised_ciphertext(ours)

    def test_adds_in_any_order_to_the_same_bytes(self) -> None:
        blobs = [self.seal(v) for v in vectors(4, 100)]
        summer = self.roles(4).summer
        assert add(summer, blobs, 100) == add(summer, blobs[::-1], 100)

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_does_not_wrap_with_every_site_at_the_bound(self, sign: float) -> None:
        # A constant vector puts all its weight on one coefficient of the polynomial: the worst case.
        roles, value = self.roles(64), np.full(4_096, sign * 4e6)
        blobs = [whole(sealer.seal(value)) for sealer in roles.sealers]
        total = opened(roles.opener, add(roles.summer, blobs, 4_096), 4_096)
        assert np.abs(total - sign * 64 * 4e6).max() <= 1e-4 + 1e-14 * 64 * 4e6

    def test_the_bounds_leave_room_below_half_the_modulus(self) -> None:
        # 4.6 % of room; the noise of 64 ciphertexts needs 1e-14 of it.
        assert ckks.MAX_SITES * ckks.LARGEST_VALUE * SCALE < 0.96 * MODULUS / 2

    def test_seals_nothing_beyond_the_bound(self) -> None:
        with pytest.raises(BadDataError, match=r"value 1 .* beyond 4e\+06") as caught:
            self.roles(1).sealers[0].seal(np.array([4e6, np.nextafter(-4e6, -np.inf)]))
        assert caught.value.disclosed == "the update is outside the range of he"

    def test_adds_no_more_sites_than_fit(self) -> None:
        blob = self.seal(np.ones(1))
        summer = self.roles(1).summer
        add(summer, [blob] * 64, 1)
        with pytest.raises(UsageError, match="at most 64 sites without wrapping, got 65"):
            summer.add([io.BytesIO(blob)] * 65, 1)

    def test_decryption_noise_is_what_theory_says_and_hidden_by_rounding(self) -> None:
        values = vectors(1, 4_096)[0]
        blob = self.seal(values)
        secret = tenseal.context_from(self.contexts[1], n_threads=1)
        raw = np.array(tenseal.ckks_vector_from(secret, serialised_ciphertext(words_of(blob)[0])).decrypt())
        # SEAL's switch down from the second prime rounds both polynomials: with a ternary key variance
        # (1 + 2N/3)/12 a coefficient, N/2 times that in the real part of a slot. Six deviations of an
        # estimate from 4096 values; the weight of a key moves it by 0.4 %, a third of one.
        deviation = np.sqrt((1 + 2 * 8192 / 3) / 12 * 8192 / 2) / SCALE
        assert np.std(raw - values) == pytest.approx(deviation, rel=6 / np.sqrt(2 * 4_096))
        rounded = opened(self.roles(1).opener, blob, 4_096)
        np.testing.assert_array_equal(rounded, np.rint(rounded * 2**14) / 2**14)
        # It differs from the rounded exact value only next to a boundary: 0.8 * deviation * 2^14 = 0.8 %.
        assert np.mean(rounded != np.rint(values * 2**14) / 2**14) < 0.02

    def test_a_word_that_is_no_residue_is_refused(self) -> None:
        blob = self.seal(np.ones(5_000))
        for position in (0, 8_192, 2 * WORDS - 1):
            for word in (MODULUS, 2**64 - 1):
                start = HEADER_BYTES + 8 * position
                self.assert_refused(blob[:start] + word.to_bytes(8, "little") + blob[start + 8 :], 5_000)

    def test_words_that_nobody_encrypted_do_not_open(self) -> None:
        blob = self.seal(np.ones(4_096))
        noise = np.random.default_rng(0).integers(0, MODULUS, WORDS, dtype=np.uint64)
        with pytest.raises(CiphertextError, match="does not open to a sum of updates: refused"):
            opened(self.roles(1).opener, blob[:HEADER_BYTES] + noise.astype("<u8").tobytes(), 4_096)

    def test_a_longer_vector_does_not_open_as_a_shorter_one(self) -> None:
        short, long = (self.seal(np.ones(length)) for length in (100, 101))
        with pytest.raises(CiphertextError, match="does not open to a sum of updates: refused"):
            opened(self.roles(1).opener, short[:HEADER_BYTES] + long[HEADER_BYTES:], 100)

    def test_another_key_opens_nothing(self) -> None:
        public, secret = protection.generate_contexts("he")
        blob = self.seal(np.ones(100))
        with pytest.raises(CiphertextError, match="sealed for context"):
            check(protection.summer("he", public), blob, 100)
        with pytest.raises(CiphertextError, match="sealed for context"):
            opened(protection.opener("he", secret), blob, 100)
        header = next(protection.sealer("he", public).seal(np.ones(100)))
        with pytest.raises(CiphertextError, match="does not open to a sum of updates: refused"):
            opened(protection.opener("he", secret), header + blob[HEADER_BYTES:], 100)

    def test_prints_nothing(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.opened_sum(vectors(2, 10_000))
        assert capfd.readouterr() == ("", "")

    def test_gives_the_model_that_none_gives(self) -> None:
        generator = np.random.default_rng(5)
        sites = [np.append(5 * generator.normal(0, 0.5, 20_000), 5.0) for _ in range(4)]
        he = self.opened_sum(sites)
        none = np.sum(sites, axis=0)
        assert he[-1] == none[-1] == 20.0
        assert np.abs(he[:-1] / he[-1] - none[:-1] / none[-1]).max() < 1e-5

    def test_checking_and_adding_load_no_native_code(self) -> None:
        public = self.contexts[0]
        blob = self.seal(np.ones(5))
        program = (
            "import io, sys; from components.encryption import protection; read = sys.stdin.buffer.read;"
            f"public = read({len(public)}); blob = read({len(blob)});"
            "summer = protection.summer('he', public); summer.check(io.BytesIO(blob), 5);"
            "list(summer.add([io.BytesIO(blob), io.BytesIO(blob)], 5)); print('tenseal' in sys.modules)"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program], input=public + blob, capture_output=True, check=True
        )
        assert ran.stdout.split() == [b"False"]
