"""The proxies: how each is configured, started and stopped. One is up at a time, alone on its core."""

import http.client
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import machine
import tls

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ORIGIN_PORTS = [9000, 9001]
PORT = 8100
ENVOY = ROOT / "target" / "peers" / "envoy"
SPLICING = {"HAPROXY_TUNING": "tune.bufsize 131072", "HAPROXY_OPTIONS": "option splice-auto"}

# What watches endpoints, all off and all on.
UNGUARDED = {"TIDEGATE_GUARDS": """
retry = { attempts = 1 }
outlier = { consecutive_failures = 0, error_rate = 0 }
"""}
GUARDED = {"TIDEGATE_GUARDS": """
health = { path = "/small", interval = "1s" }
retry = { attempts = 3, budget = 0.2 }
outlier = { consecutive_failures = 5, error_rate = 0.5 }
breaker = { error_rate = 0.5, max_requests = 100000 }
slow_start = "10s"
"""}
TIDEGATE = ["@TIDEGATE@", "run", "-c", "@FILE@"]

# Name to (configuration file, how it differs, command); the relay needs no file.
PROXIES = {
    "tidegate": ("tidegate.toml", {}, TIDEGATE),
    "tidegate-unguarded": ("tidegate.toml", UNGUARDED, TIDEGATE),
    "tidegate-guarded": ("tidegate.toml", GUARDED, TIDEGATE),
    "tidegate-inspect": ("tidegate.toml", {"TIDEGATE_ROUTE": "websocket = { inspect = true }"}, TIDEGATE),
    "nginx": ("nginx.conf", {}, ["nginx", "-c", "@FILE@"]),
    "nginx-default": ("nginx.conf", {"NGINX_BODY_BUFFER": "16k"}, ["nginx", "-c", "@FILE@"]),
    "haproxy": ("haproxy.cfg", {}, ["haproxy", "-db", "-f", "@FILE@"]),
    "haproxy-splice": ("haproxy.cfg", SPLICING, ["haproxy", "-db", "-f", "@FILE@"]),
    "envoy": ("envoy.json", {}, ["@ENVOY@", "-c", "@FILE@", "--concurrency", "1", "--disable-hot-restart", "-l", "error"]),
    "relay": (None, {}, ["@TOOL@", "relay", "--port", str(PORT), "--to", str(ORIGIN_PORTS[0])]),
}


def target(profile):
    """Where cargo leaves what it builds."""
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return folder / ("debug" if profile == "dev" else profile)


def build(profile):
    command = ["cargo", "build", "--quiet", "--profile", profile, "-p", "tidegate", "-p", "testkit", "--bins"]
    subprocess.run(command, cwd=ROOT, check=True)


def substitutions(run, logged, secure, port):
    servers = [f"127.0.0.1:{port}" for port in (ORIGIN_PORTS if logged else ORIGIN_PORTS[:1])]
    log = run / "access.log"
    limit = machine.open_files()
    tidegate_log = f'access = {{ path = "{log}", format = "combined" }}' if logged else ""
    return {
        **tls.substitutions(run, secure),
        "ENVOY": ENVOY, "ENVOY_SERVERS": ", ".join(map(envoy_server, servers)),
        "RUN": run, "PORT": port, "NOFILE": limit, "CONNECTIONS": limit - 1000,
        # Two descriptors a connection, and half as many again for pipes when it splices.
        "HAPROXY_CONNECTIONS": limit // 3 - 500, "HAPROXY_TUNING": "", "HAPROXY_OPTIONS": "",
        "ACCESS_LOG": f"{log} combined buffer=64k" if logged else "off",
        "NGINX_SERVERS": " ".join(f"server {server};" for server in servers),
        "HAPROXY_SERVERS": "\n  ".join(
            f"server s{n} {server} pool-max-conn -1 pool-purge-delay 300s" for n, server in enumerate(servers)),
        "TIDEGATE_LOG": tidegate_log, "TIDEGATE_GUARDS": "", "TIDEGATE_ROUTE": "", "TIDEGATE_CLUSTER": "",
        "NGINX_BODY_BUFFER": "256k",
        "TIDEGATE_ENDPOINTS": ", ".join(f'{{ address = "{server}" }}' for server in servers),
    }


def envoy_server(address):
    host, port = address.split(":")
    place = {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
    return json.dumps(place)


def fill(text, values):
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    return text


class Origin:
    """The server behind all proxies, on the load's core."""

    def __init__(self, tool):
        ports = [word for port in ORIGIN_PORTS for word in ("--port", str(port))]
        command = ["taskset", "-c", machine.LOAD_CORE, tool, "origin", *ports]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.process.stdout.readline()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Proxy:
    """A running proxy, checked to answer rightly before anything is measured."""

    def __init__(self, name, tidegate, tool, logged=False, before=(), extra=(), secure=False, port=PORT):
        file, differences, command = PROXIES[name]
        self.name, self.secure, self.port = name, secure, port
        self.run = pathlib.Path(tempfile.mkdtemp(prefix=f"peers-{name}-"))
        # nginx gives up root for a user who must get at its files.
        self.run.chmod(0o755)
        values = {**substitutions(self.run, logged, secure, port), **differences, "TIDEGATE": tidegate, "TOOL": tool}
        if file:
            values["FILE"] = self.run / file
            values["FILE"].write_text(fill((HERE / "conf" / file).read_text(), values))
        command = [fill(word, values) for word in command] + list(extra)
        self.output = open(self.run / "output", "wb")
        pinned = ["taskset", "-c", machine.PROXY_CORE, *before, *command]
        self.process = subprocess.Popen(pinned, stdout=self.output, stderr=subprocess.STDOUT, start_new_session=True)

    def __enter__(self):
        try:
            self.wait_until_it_serves()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_until_it_serves(self, patience=20):
        deadline = time.monotonic() + patience
        while True:
            try:
                probe(secure=self.secure, port=self.port)
                return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    said = (self.run / "output").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{self.name} does not serve: {error}\n{said}") from error
                time.sleep(0.05)

    def pids(self):
        return machine.family(self.process.pid)

    def stop(self, patience=10):
        """Ends it so that it writes what it holds; its files stay until the end of the block."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                for pid in reversed(self.pids()):
                    os.kill(pid, 9)
                self.process.wait()

    def log_lines(self):
        with open(self.run / "access.log", "rb") as file:
            return sum(1 for _ in file)

    def __exit__(self, *_):
        self.stop()
        self.output.close()
        shutil.rmtree(self.run, ignore_errors=True)


def probe(path="/small?id=42&page=7", length=128, secure=False, port=PORT):
    """One request; the size of its whole answer. A wrong one ends the run."""
    if secure:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=tls.context())
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": "bench.test"})
        response = connection.getresponse()
        body = response.read()
    except http.client.HTTPException as error:
        raise OSError(f"no answer: {error!r}") from error
    finally:
        connection.close()
    if response.status != 200 or body != b"x" * length:
        raise RuntimeError(f"wrong answer: {response.status}, {len(body)} bytes: {body[:80]}")
    lines = [f"{name}: {value}\r\n" for name, value in response.getheaders()]
    return len("HTTP/1.1 200 OK\r\n") + sum(map(len, lines)) + len("\r\n") + len(body)
