"""The way out: where connections may lead, and whom they believe. Method: real sockets and TLS."""

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from live.domain.outgoing.receivers import address_fault
from live.outgoing import client as client_module
from live.outgoing import guard
from live.outgoing.client import WebhookClient
from live.outgoing.guard import name_fault
from tests.support.receiver import receiving

DAY = timedelta(days=1)


def answers(*hosts: str) -> list[ResolveResult]:
    return [
        ResolveResult(
            hostname="shop.example",
            host=host,
            port=443,
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            proto=0,
            flags=0,
        )
        for host in hosts
    ]


@pytest.fixture
async def client() -> WebhookClient:
    return WebhookClient(development=False, timeout_seconds=5)


async def test_literal_is_judged_where_the_connection_is_made(client: WebhookClient) -> None:
    """Although no resolver is asked for it, and whoever let the URL in."""
    async with receiving() as shop:
        receipt = await client.post(shop.url, {}, b"{}")

        assert receipt.status is None
        assert receipt.answer == "refused: 127.0.0.1 is not a public address"
        assert shop.got == []
    await client.close()


async def test_name_that_becomes_private_is_refused(
    client: WebhookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Public when the endpoint was made, this machine when it is used."""
    async with receiving() as shop:
        port = shop.url.split(":")[2].split("/")[0]
        url = f"http://shop.example:{port}/hooks"
        found = iter([answers("8.8.8.8"), answers("127.0.0.1")])
        monkeypatch.setattr(guard, "_look_up", lambda *_: next(found))
        assert await name_fault(url, development=False) is None

        receipt = await client.post(url, {}, b"{}")

        assert receipt.answer == "refused: shop.example has an address that is not public"
        assert shop.got == []
    await client.close()


async def test_name_of_a_public_and_a_private_address_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "_look_up", lambda *_: answers("8.8.8.8", "fd00::1"))

    fault = await name_fault("https://shop.example/", development=False)

    assert fault == "shop.example has an address that is not public"


class Lying(AbstractResolver):
    """Says what nobody looked at."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [one | {"port": port} for one in answers("127.0.0.1")]

    async def close(self) -> None:
        pass


async def test_address_is_judged_behind_the_resolver_too(
    client: WebhookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "GuardedResolver", lambda **_: Lying())
    async with receiving() as shop:
        receipt = await client.post(shop.url.replace("127.0.0.1", "shop.example"), {}, b"{}")

        assert receipt.answer == "refused: 127.0.0.1 is not a public address"
        assert shop.got == []
    await client.close()


async def test_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would connect where we may not."""
    client = WebhookClient(development=True, timeout_seconds=5)
    async with receiving() as proxy, receiving() as shop:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)

        receipt = await client.post(shop.url, {}, b"{}")

        assert (receipt.status, len(shop.got), proxy.got) == (200, 1, [])
    await client.close()


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0", "10.1.2.3", "127.0.0.1", "127.255.255.254", "169.254.169.254"),
        *("172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255"),
        *("192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
        *("192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fdff::1", "fec0::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1"),
        *("64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "3fff::1", "100::1"),
        *("", "shop.example", "8.8.8.8.8"),
    ],
)
def test_no_other_than_a_public_address_is_good(text: str) -> None:
    assert address_fault(text) is not None


@pytest.mark.parametrize("text", ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111"])
def test_public_address_is_good(text: str) -> None:
    assert address_fault(text) is None


def test_development_lets_loopback_in_and_nothing_else() -> None:
    assert address_fault("127.0.0.1", development=True) is None
    assert address_fault("::1", development=True) is None
    assert address_fault("10.0.0.1", development=True) is not None
    assert address_fault("169.254.169.254", development=True) is not None


# Certificates.


def certificate(
    directory: Path, *, host: str = "127.0.0.1", ends: timedelta = DAY
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """One that speaks for itself: the server's side of it, and that of who believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 30 * DAY)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "shop.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=str(path))


async def test_certificate_that_is_good_is_believed(tmp_path: Path) -> None:
    server, trust = certificate(tmp_path)
    client = WebhookClient(development=True, trust=trust, timeout_seconds=5)
    async with receiving(tls=server) as shop:
        assert (await client.post(shop.url, {}, b"{}")).status == 200
    await client.close()


@pytest.mark.parametrize(
    ("host", "ends", "trusted", "words"),
    [
        ("127.0.0.1", -DAY, True, "expired"),
        ("127.0.0.2", DAY, True, "not valid for"),
        ("127.0.0.1", DAY, False, "self-signed"),
    ],
)
async def test_certificate_that_is_not_good_is_a_failure_and_says_why(
    tmp_path: Path, host: str, ends: timedelta, trusted: bool, words: str
) -> None:
    server, trust = certificate(tmp_path, host=host, ends=ends)
    client = WebhookClient(development=True, trust=trust if trusted else None, timeout_seconds=5)
    async with receiving(tls=server) as shop:
        receipt = await client.post(shop.url, {}, b"{}")

        assert receipt.status is None and shop.got == []
        assert words in receipt.answer.replace("self signed", "self-signed"), receipt.answer
    await client.close()


@pytest.mark.parametrize(
    "flood",
    [
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x=y;" * 100,
    ],
)
async def test_answer_without_end_is_cut_off(flood: bytes) -> None:
    """What an HTTP parser may be kept busy with: interim answers, empty lines, extensions."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(flood)
            more = flood if b"200" not in flood else b"x=y;" * 100
            while True:
                writer.write(more * 100)
                await writer.drain()
        except OSError:
            ended.set()
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = WebhookClient(development=True, timeout_seconds=600)
        async with asyncio.timeout(60):
            receipt = await client.post(f"http://127.0.0.1:{port}/", {}, b"{}")
            await ended.wait()
        await client.close()

    assert receipt.status in (None, 200)
    assert "600 s" not in receipt.answer
