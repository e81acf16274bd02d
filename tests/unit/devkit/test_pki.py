"""Certificates contain the names, users and groups that Kubernetes reads."""

import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from devkit.pki import Authority, KeyPair, api_server_names, signing_key


def certificate(pair: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes())


def test_api_server_certificate_has_every_name(tmp_path: Path) -> None:
    names = api_server_names("10.100.0.1", "10.100.128.1")
    pair = Authority(tmp_path, "ca").server("kube-apiserver", names)
    alternatives = certificate(pair).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in alternatives.get_values_for_type(x509.IPAddress)}
    assert addresses == {"10.100.0.1", "127.0.0.1", "10.100.128.1"}
    assert "kubernetes.default.svc" in alternatives.get_values_for_type(x509.DNSName)
    assert ipaddress.ip_address("10.100.0.1") in alternatives.get_values_for_type(x509.IPAddress)


def test_common_name_is_user_and_organisation_is_group(tmp_path: Path) -> None:
    subject = certificate(Authority(tmp_path, "ca").client("system:node:dev", "system:nodes")).subject
    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:dev"
    assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"


def test_authority_signs_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    certificate(authority.client("admin")).verify_directly_issued_by(certificate(authority.files))


def test_only_the_owner_can_read_keys(tmp_path: Path) -> None:
    keys = [Authority(tmp_path, "ca").client("admin").key, signing_key(tmp_path).key]
    assert [key.stat().st_mode & 0o077 for key in keys] == [0, 0]
