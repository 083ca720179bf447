"""`provider.yaml`: strict, without secrets, and of its owner alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.encryption.key_providers.settings import (
    AwsKmsSettings,
    FileSettings,
    GcpKmsSettings,
    Pkcs11Settings,
    load_settings,
    make_wrapping_key,
    open_provider,
)
from components.errors import UsageError

GCP = "projects/bank/locations/europe-west3/keyRings/crosscloud/cryptoKeys/master"
AWS = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PKCS11 = {"provider": "pkcs11", "module": "/opt/hsm/pkcs11.so", "token": "bank", "key": "master"}


def written(folder: Path, document: Any, mode: int = 0o600) -> Path:
    path = folder / "provider.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    path.chmod(mode)
    return path


def test_where_there_is_none_keys_lie_in_the_clear(tmp_path: Path) -> None:
    settings = load_settings(tmp_path / "provider.yaml")
    assert settings == FileSettings()
    assert open_provider(settings, tmp_path) is None
    assert not make_wrapping_key(settings, tmp_path)


@pytest.mark.parametrize(
    ("document", "kind", "provider", "key"),
    [
        ({"provider": "file", "wrapping_key": "w.key"}, FileSettings, "file", "w.key"),
        (PKCS11, Pkcs11Settings, "pkcs11", "pkcs11:token=bank;object=master"),
        ({"provider": "gcpkms", "key": GCP}, GcpKmsSettings, "gcpkms", GCP),
        ({"provider": "awskms", "key": AWS, "deadline_s": 5}, AwsKmsSettings, "awskms", AWS),
    ],
    ids=["file", "pkcs11", "gcpkms", "awskms"],
)
def test_each_provider_is_opened_without_being_contacted(
    tmp_path: Path, document: dict[str, Any], kind: type, provider: str, key: str
) -> None:
    settings = load_settings(written(tmp_path, document))
    assert isinstance(settings, kind)
    opened = open_provider(settings, tmp_path)
    assert opened is not None
    assert (opened.provider, opened.key) == (provider, key)


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        ({"provider": "vault"}, "vault"),
        ({"key": GCP}, "provider"),
        (PKCS11 | {"pin": "4711-0815"}, "pkcs11.pin: Extra inputs are not permitted"),
        (PKCS11 | {"module": "pkcs11.so"}, "pkcs11.module: .*must be an absolute path"),
        (PKCS11 | {"pin_file": "../pin"}, "pkcs11.pin_file: "),
        (PKCS11 | {"token": "t" * 33}, "pkcs11.token: "),
        ({"provider": "file", "wrapping_key": "/etc/key"}, "file.wrapping_key: "),
        ({"provider": "file", "wrapped_keys_uri": "s3://bucket/keys"}, "wrapped_keys_uri needs wrapping_key"),
        ({"provider": "gcpkms", "key": f"{GCP}/cryptoKeyVersions/1"}, "gcpkms.key: "),
        (
            {"provider": "gcpkms", "key": GCP, "endpoint": "http://kms.example"},
            "gcpkms.endpoint: .*must be https",
        ),
        ({"provider": "gcpkms", "key": GCP, "endpoint": "kms.example"}, "gcpkms.endpoint: .*must be https"),
        ({"provider": "awskms", "key": "alias/master"}, "awskms.key: "),
        ({"provider": "awskms", "key": AWS, "endpoint": "http://localhost:1"}, "awskms.endpoint: "),
        ({"provider": "awskms", "key": AWS, "deadline_s": 0}, "awskms.deadline_s: "),
        ("provider: file\nprovider: pkcs11\n", "provider stands there twice: keep one"),
        ("provider: [", "is not YAML"),
        ("[]", "provider.yaml: "),
    ],
)
def test_what_breaks_a_rule_is_told_without_its_value(tmp_path: Path, document: Any, rule: str) -> None:
    with pytest.raises(UsageError, match=rule) as caught:
        load_settings(written(tmp_path, document))
    assert "4711" not in str(caught.value)


def test_others_may_not_write_it(tmp_path: Path) -> None:
    path = written(tmp_path, {"provider": "file"}, 0o620)
    with pytest.raises(UsageError, match="has mode 0620 and may be written by others"):
        load_settings(path)
