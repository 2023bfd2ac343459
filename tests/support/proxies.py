"""nginx, HAProxy and Caddy with the configurations of examples/proxies/, in front of a gateway.

What differs from a real place is replaced by name: ports, the certificate's files. Direct children,
on loopback.
"""

import datetime
import os
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

EXAMPLES = Path(__file__).parents[2] / "examples" / "proxies"
NAME = "live.example"
READY_SECONDS = 60


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed one of NAME, with its key in both files, as HAProxy wants it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain, own = folder / "live.example.pem", folder / "live.example.key"
    chain.write_bytes(pem + secret)
    own.write_bytes(secret)
    return chain, own


def address_elsewhere() -> str | None:
    """An address of this machine that is not loopback: connections from it count as a client's."""
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family is socket.AF_INET and not one.address.startswith("127."):
                return str(one.address)
    return None


@dataclass
class Proxy:
    """One running proxy; `context` trusts its certificate."""

    port: int
    context: ssl.SSLContext
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(READY_SECONDS)


def start(kind: str, folder: Path, gateway: int) -> Proxy:
    """Start the proxy of this name before a gateway on that port."""
    port = free_port()
    chain, key = make_certificate(folder)
    changes = {
        "nginx": {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/ssl/live.example.pem": str(chain),
            "/etc/ssl/live.example.key": str(key),
            "127.0.0.1:8000": f"127.0.0.1:{gateway}",
        },
        "haproxy": {
            "bind :443": f"bind 127.0.0.1:{port}",
            "/etc/ssl/live.example.pem": str(chain),
            "127.0.0.1:8000": f"127.0.0.1:{gateway}",
            "maxconn 50000": "maxconn 500",
        },
        "caddy": {
            "live.example {": f"https://live.example:{port} {{\n\tbind 127.0.0.1\n"
            f"\ttls {chain} {key}",
            "127.0.0.1:8000": f"127.0.0.1:{gateway}",
        },
    }[kind]
    files = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "caddy": "Caddyfile"}
    text = (EXAMPLES / files[kind]).read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    command = _COMMANDS[kind](folder, text)
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    log = (folder / "log").open("ab")
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
    log.close()
    context = ssl.create_default_context(cafile=str(chain))
    found = Proxy(port, context, process)
    _wait_ready(found, folder)
    return found


def _nginx(folder: Path, text: str) -> list[str]:
    (folder / "live.conf").write_text(text)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"""daemon off;
user {"root" if os.getuid() == 0 else "nobody"};
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 500; }}
http {{
access_log off;
{temporary}
include {folder}/live.conf;
}}
"""
    (folder / "nginx.conf").write_text(main)
    return [_binary("nginx"), "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", "stderr"]


def _haproxy(folder: Path, text: str) -> list[str]:
    (folder / "haproxy.cfg").write_text(text)
    return [_binary("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]


def _caddy(folder: Path, text: str) -> list[str]:
    own = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
    (folder / "Caddyfile").write_text(own + text)
    return [
        _binary("caddy"),
        "run",
        "--adapter",
        "caddyfile",
        "--config",
        str(folder / "Caddyfile"),
    ]


_COMMANDS = {"nginx": _nginx, "haproxy": _haproxy, "caddy": _caddy}


def find(kind: str) -> str | None:
    """The program of this name, or None."""
    return shutil.which(kind) or shutil.which(kind, path="/usr/sbin:/usr/local/sbin")


def _binary(kind: str) -> str:
    found = find(kind)
    assert found is not None
    return found


def _wait_ready(proxy: Proxy, folder: Path) -> None:
    """Until it takes connections and, where it asks first, has found the gateway."""
    deadline = time.monotonic() + READY_SECONDS
    request = f"GET /healthz HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode()
    while time.monotonic() < deadline and proxy.process.poll() is None:
        try:
            with (
                socket.create_connection(("127.0.0.1", proxy.port), timeout=2) as plain,
                proxy.context.wrap_socket(plain, server_hostname=NAME) as secure,
            ):
                secure.sendall(request)
                if b" 200 " in secure.recv(64):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    proxy.process.kill()
    proxy.process.wait(READY_SECONDS)
    raise RuntimeError(f"the proxy does not serve: {(folder / 'log').read_text()[-2000:]}")
