"""What the TLS and HTTP/2 rows need: a certificate, how each proxy is told of it, and the loads that speak TLS."""

import pathlib
import re
import socket
import ssl
import subprocess
import time

import machine

# One policy for all: TLS 1.3 with a P-256 certificate, both protocols offered, tickets as each has them by default.
PROTOCOLS = "h2,http/1.1"
# openssl s_time makes one connection after another; so many run side by side.
SHAKERS = 4


def substitutions(run, on):
    """How each configuration file says that the listener speaks TLS, or that it does not."""
    if not on:
        return {"SCHEME": "http", "TIDEGATE_TLS": "", "NGINX_TLS": "", "NGINX_LISTEN": "", "HAPROXY_TLS": "", "ENVOY_TLS": ""}
    both, cert, key = certificate(run)
    return {
        "SCHEME": "https",
        "TIDEGATE_TLS": f'[listeners.web.tls]\ncertificates = [{{ cert = "{cert}", key = "{key}" }}]\ndefault = "first"',
        "NGINX_LISTEN": "ssl http2",
        "NGINX_TLS": f"ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;",
        "HAPROXY_TLS": f"ssl crt {both} alpn {PROTOCOLS} ssl-min-ver TLSv1.3",
        "ENVOY_TLS": f""",
            "transport_socket": {{"name": "envoy.transport_sockets.tls", "typed_config": {{
              "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
              "common_tls_context": {{
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}},
                "tls_certificates": [
                  {{"certificate_chain": {{"filename": "{cert}"}}, "private_key": {{"filename": "{key}"}}}}]}}}}}}""",
    }


def certificate(run):
    """A fresh self-signed P-256 certificate: both in one file, certificate, key."""
    both, cert, key = (run / name for name in ("both.pem", "cert.pem", "key.pem"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=bench.test", "-addext", "subjectAltName=DNS:bench.test,IP:127.0.0.1",
                    "-keyout", key, "-out", cert], check=True, capture_output=True)
    key.chmod(0o600)
    both.write_text(cert.read_text() + key.read_text())
    both.chmod(0o600)
    return both, cert, key


def context(protocol="http/1.1"):
    """Verifies nothing: the certificate is self-signed and the measured side is the other one."""
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.set_alpn_protocols([protocol])
    return made


def handshakes(port, path, seconds, resumed):
    """A connection, one request, and the end of it, as often as possible: how many in how many seconds."""
    command = ["taskset", "-c", machine.LOAD_CORE, "openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-www", path,
               "-time", str(seconds), "-reuse" if resumed else "-new"]
    begun = time.monotonic()
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(SHAKERS)]
    said = [process.communicate(timeout=seconds + 60)[0] for process in running]
    elapsed = time.monotonic() - begun
    counted = [re.search(r"(\d+) connections in (\d+) real seconds", text) for text in said]
    if not all(counted):
        raise RuntimeError(f"openssl s_time failed: {said[0][-300:]}")
    return sum(int(found.group(1)) for found in counted), elapsed


def h2load(port, path, request, connections, streams, seconds=None, requests=None):
    """Requests over HTTP/2 with the same fields as over HTTP/1.1: for so long, or so many."""
    length = [f"-D{seconds}"] if requests is None else [f"-n{requests}"]
    fields = [line.split(": ", 1) for line in pathlib.Path(request).read_text().split("\r\n")[1:] if ": " in line]
    headers = [word for name, value in fields if name != "Host" for word in ("-H", f"{name.lower()}: {value}")]
    command = ["taskset", "-c", machine.LOAD_CORE, "h2load", "-t1", f"-c{connections}", f"-m{streams}", *length,
               "--header-table-size=4096", *headers, f"https://127.0.0.1:{port}{path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=(seconds or 600) + 60)
    counts = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", done.stdout)
    statuses = re.search(r"status codes: (\d+) 2xx", done.stdout)
    took = re.search(r"finished in ([\d.]+)(ms|s)", done.stdout)
    if done.returncode or not (counts and took and statuses):
        raise RuntimeError(f"h2load failed: {(done.stderr + done.stdout)[-500:]}")
    succeeded = int(counts.group(3))
    errors = int(counts.group(4)) + int(counts.group(5)) + max(0, succeeded - int(statuses.group(1)))
    return {"requests": succeeded, "errors": errors, "seconds": float(took.group(1)) / (1000 if took.group(2) == "ms" else 1)}


def idle(port, pids, connections, kind, settle=1.0):
    """TLS connections that have carried one exchange and then say nothing: how much memory each is to the proxy."""
    say = {"keep-alive": request_once, "websocket": upgrade}[kind]
    held, made = [], context()
    before, kernel_before = machine.resident_kib(pids), machine.sockets_kib()
    try:
        for _ in range(connections):
            stream = made.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname="bench.test")
            say(stream)
            held.append(stream)
        time.sleep(settle)
        after, kernel_after = machine.resident_kib(pids), machine.sockets_kib()
    finally:
        for stream in held:
            stream.close()
    return {"errors": 0, "connections": connections, "rss_before_kib": before, "rss_after_kib": after,
            "kib_per_connection": (after - before) / connections,
            "kernel_kib_per_connection": (kernel_after - kernel_before) / connections}


def request_once(stream):
    stream.sendall(b"GET /small?id=42&page=7 HTTP/1.1\r\nHost: bench.test\r\n\r\n")
    if not stream.recv(4096).startswith(b"HTTP/1.1 200"):
        raise RuntimeError("an idle connection was not served")


def upgrade(stream):
    """A WebSocket that has echoed one message."""
    stream.sendall(b"GET /ws HTTP/1.1\r\nHost: bench.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    head = stream.recv(4096)
    if not head.startswith(b"HTTP/1.1 101") or not head.endswith(b"\r\n\r\n"):
        raise RuntimeError("an upgrade was refused")
    # The one message that the origin echoes.
    payload, mask = b"q" * 64, (0x12, 0x34, 0x56, 0x78)
    stream.sendall(bytes([0x82, 0x80 | len(payload), *mask]) + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)))
    if stream.recv(4096) != bytes([0x82, len(payload)]) + payload:
        raise RuntimeError("a message was not echoed")
