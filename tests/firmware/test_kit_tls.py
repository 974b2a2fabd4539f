"""TLS to a real broker: the right CA is needed, and the right name."""

import shutil
import subprocess

import pytest
from firmware_bench import Broker, Gateway, free_port, wait_for
from test_kit_node import T0, recording, whole

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_ca(folder, name):
    """A CA: its key, certificate, and the certificate as DER, as boards want it."""
    key, cert, der = (folder / f"{name}.{end}" for end in ("key", "pem", "der"))
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    openssl("req", "-x509", "-new", "-key", key, "-days", "3650", "-subj", f"/CN={name}", "-out", cert)
    openssl("x509", "-in", cert, "-outform", "der", "-out", der)
    return key, cert, der


def make_server(folder, ca, name):
    """A server's key and certificate."""
    key, request, cert, more = (folder / f"server.{end}" for end in ("key", "csr", "pem", "ext"))
    more.write_text(f"subjectAltName=IP:{name},DNS:{name}\n")
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
    openssl("x509", "-req", "-in", request, "-CA", ca[1], "-CAkey", ca[0], "-CAcreateserial", "-days", "3650",
            "-extfile", more, "-out", cert)  # fmt: skip
    return key, cert


def tls_broker(mosquitto, folder, name="127.0.0.1"):
    """A broker with a plain listener and one with TLS, whose port comes second, and the DER of its CA."""
    ca = make_ca(folder, "ca")
    key, cert = make_server(folder, ca, name)
    broker = Broker(mosquitto, folder)
    port = free_port()
    with broker.config.open("a") as f:
        f.write(f"listener {port} 127.0.0.1\nkeyfile {key}\ncertfile {cert}\n")
    return broker, port, ca[2]


@pytest.mark.parametrize(("trusted", "name", "arrives"), [
    ("ca", "127.0.0.1", True), ("other", "127.0.0.1", False), ("ca", "192.0.2.1", False),
])  # fmt: skip
def test_the_broker_must_be_the_one_the_ca_vouches_for(bench, mosquitto, tmp_path, trusted, name, arrives):
    if not shutil.which("openssl"):
        pytest.skip("openssl is absent")
    plain, port, ca = tls_broker(mosquitto, tmp_path, name)
    if trusted == "other":
        ca = make_ca(tmp_path, "other")[2]
    plain.start()
    gateway = Gateway(plain.port)
    try:
        recording(bench, 4)
        config = bench.config(end=None, port=port, ca=str(ca))
        process = bench.start(config, T0, real_time=True)
        if arrives:
            wait_for(lambda: ("k1", "status") in gateway.retained, 15, "it connects")
        else:
            with pytest.raises(AssertionError):
                wait_for(lambda: ("k1", "status") in gateway.retained, 5, "it connects")
            assert process.poll() is None
        process.kill()
        whole(bench.ledger())
    finally:
        gateway.close()
        plain.stop()
