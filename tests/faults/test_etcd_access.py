"""etcd behind TLS client certificates, or behind a login whose token expires."""

import asyncio
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from localmesh.components import TOOLS, BookClient, BookServer, EtcdServer
from meshkit.etcd import EtcdClient, EtcdLogin
from meshkit.tls.pem import PemFiles
from tests.faults.sampling import SERVER, TTL, failures, items, last_missing, wait_calls, wait_keys

Figure = Callable[[str], None]
CALLS = ("--calls", "0", "--interval", "20ms")


def write_certificates(folder: Path, authority: trustme.CA, *names: str, expired: bool = False) -> None:
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name in names:
        until = datetime(2021, 1, 1, tzinfo=UTC) if expired else None
        since = datetime(2020, 1, 1, tzinfo=UTC) if expired else None
        leaf = authority.issue_cert("127.0.0.1", not_before=since, not_after=until)
        (folder / f"{name}.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(folder / f"{name}.key")


def tls_flags(folder: Path, name: str) -> tuple[str, ...]:
    return tuple(f"--etcd-{flag}={folder / file}" for flag, file in _files(name).items())


def _files(name: str) -> dict[str, str]:
    return {"ca": "ca.pem", "cert": f"{name}.pem", "key": f"{name}.key"}


def etcd_with_tls(run_dir: Path, folder: Path) -> EtcdServer:
    flags = (
        *("--cert-file", str(folder / "etcd.pem"), "--key-file", str(folder / "etcd.key")),
        *("--trusted-ca-file", str(folder / "ca.pem"), "--client-cert-auth"),
    )
    return EtcdServer(run_dir, *flags, scheme="https")


async def test_with_client_certificates_it_reconnects_and_takes_up_changed_files(run_dir: Path, figure: Figure) -> None:
    folder = run_dir / "tls"
    folder.mkdir()
    write_certificates(folder, trustme.CA(), "etcd", "program")
    flags = tls_flags(folder, "program")
    files = PemFiles(folder / "ca.pem", folder / "program.pem", folder / "program.key")
    async with (
        etcd_with_tls(run_dir, folder) as etcd,
        BookServer(run_dir, *SERVER, *flags, etcd=etcd.address) as server,
        BookClient(run_dir, *CALLS, *flags, etcd=etcd.address) as client,
        EtcdClient([etcd.address], tls=files) as etcd_client,
    ):
        await wait_calls(client, 10)
        await etcd.process.kill()
        await client.wait_event("instances may be stale")
        await etcd.start()
        await client.wait_event("instances are up to date again")
        assert await last_missing(etcd_client, {server.address}, during=2 * TTL) < 1
        # Another authority: whoever goes on with the old files is refused.
        await etcd.process.kill()
        write_certificates(folder, trustme.CA(), "etcd", "program")
        await etcd.start()
        await asyncio.gather(*(program.wait_event("certificates read again") for program in (client, server)))
        missing = await last_missing(etcd_client, {server.address}, during=2 * TTL)
        await wait_calls(client, 10)
        assert missing < 3
        assert failures(client) == []
        figure(f"files of a new authority taken up by both, key missing {missing:.2f} s after that, 0 calls failed")


@pytest.mark.parametrize("wrong", ["expired", "missing", "another's key"])
def test_certificates_of_no_use_are_one_line_and_exit_code_2(run_dir: Path, wrong: str) -> None:
    write_certificates(run_dir, trustme.CA(), "program", expired=wrong == "expired")
    if wrong == "missing":
        (run_dir / "program.pem").unlink()
    if wrong == "another's key":
        trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(run_dir / "program.key")
    server = BookServer(run_dir, *tls_flags(run_dir, "program"), etcd="127.0.0.1:1")
    done = subprocess.run(server.command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(run_dir / "program.") in done.stderr
    assert {"expired": "expired", "missing": "No such file", "another's key": "not that of"}[wrong] in done.stderr


def enable_login(etcd: EtcdServer) -> None:
    for command in (
        "user add root:admin",
        "user grant-role root root",
        "role add book",
        "role grant-permission book --prefix=true readwrite /services/book/",
        "user add book:secret",
        "user grant-role book book",
        "auth enable",
    ):
        etcdctl = [str(TOOLS / "bin/etcdctl"), "--endpoints", etcd.address, *command.split()]
        subprocess.run(etcdctl, capture_output=True, timeout=20, check=True)


def token_flags(folder: Path, kind: str) -> tuple[str, ...]:
    if kind == "simple":
        return ("--auth-token-ttl", "1", "--bcrypt-cost", "4")
    key = rsa.generate_private_key(65537, 2048)
    private, public = folder / "jwt.key", folder / "jwt.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    token = f"jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=2s"
    return ("--auth-token", token, "--bcrypt-cost", "4")


@pytest.mark.parametrize("kind", ["simple", "jwt"])
async def test_with_a_login_whose_token_expires_it_logs_in_again(run_dir: Path, figure: Figure, kind: str) -> None:
    password = run_dir / "password"
    password.write_text("secret\n")
    flags = ("--etcd-user", "book", "--etcd-password-file", str(password))
    async with EtcdServer(run_dir, *token_flags(run_dir, kind)) as etcd:
        enable_login(etcd)
        async with (
            BookServer(run_dir, *SERVER, *flags, etcd=etcd.address) as server,
            BookClient(run_dir, *CALLS, *flags, etcd=etcd.address) as client,
            EtcdClient([etcd.address], login=EtcdLogin("book", password)) as etcd_client,
        ):
            await wait_calls(client, 10)
            assert await last_missing(etcd_client, {server.address}, during=2 * TTL) == 0
            # Its token is of yesterday by now, and putting the key again needs one.
            (item,) = (await items(etcd_client)).values()
            await etcd_client.revoke(item.lease)
            there = await wait_keys(etcd_client, {server.address}, within=TTL)
            await etcd.process.kill()
            await client.wait_event("instances may be stale")
            await etcd.start()
            await client.wait_event("instances are up to date again")
            missing = await last_missing(etcd_client, {server.address}, during=2 * TTL)
            await wait_calls(client, 10)
            assert missing < 3
            assert failures(client) == []
            figure(f"{kind}: revoked key back after {there:.2f} s, missing {missing:.2f} s after an etcd restart")


async def test_a_wrong_password_is_said_and_a_corrected_one_taken_up(run_dir: Path, figure: Figure) -> None:
    password = run_dir / "password"
    password.write_text("wrong")
    flags = ("--etcd-user", "book", "--etcd-password-file", str(password))
    async with EtcdServer(run_dir, "--bcrypt-cost", "4") as etcd:
        enable_login(etcd)
        server = BookServer(run_dir, *SERVER, *flags, etcd=etcd.address)
        server.spawn()
        try:
            failed = await server.wait_event("registration failed")
            assert "authentication failed" in failed["reason"]
            password.write_text("secret")
            start = asyncio.get_running_loop().time()
            await server.wait_event("ready", within=5)
            figure(f"ready {asyncio.get_running_loop().time() - start:.2f} s after the password was corrected")
        finally:
            await server.stop()
