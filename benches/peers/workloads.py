"""The workloads, and the taking of one sample: a fresh proxy, a warm-up, a measured window, checks."""

import dataclasses
import json
import os
import subprocess
import sys
import time

import machine
import tls
from proxies import HERE, PORT, Proxy, probe

SMALL_BODY, LARGE_BODY = 128, 1 << 20
# Foreign work above this share of the machine makes a sample unclean: it is taken again, this often.
FOREIGN_LIMIT, RETRIES = 0.04, 2


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is sent, by what, and what is counted."""

    what: str
    load: str  # wrk, h2load, load (our own), handshakes, idle or idle_tls
    kind: str = "small"
    connections: int = 64
    arguments: tuple = ()
    unit: str = "µs/request"
    proxies: tuple = ("tidegate", "nginx", "haproxy", "relay")
    logged: bool = False
    secure: bool = False
    goal: str = ""


BODIES = ("tidegate", "nginx", "haproxy", "haproxy-splice", "relay")
SECURE = ("tidegate", "nginx", "haproxy", "envoy")
# Envoy is not told to let upgrades through.
SECURE_TUNNELS = ("tidegate", "nginx", "haproxy")
WORKLOADS = {
    "small-64": Workload("830 B request, 128 B answer, 64 kept connections", "wrk", goal="≤ 0.80 × nginx"),
    "small-512": Workload("the same over 512 kept connections", "wrk", connections=512, goal="≤ 0.80 × nginx"),
    "half-rate": Workload("the same at half of nginx's largest rate, 64 connections", "load", arguments=("--rate",),
                          goal="≤ 0.95 × nginx"),
    "new-connection": Workload("a connection per request, 16 at a time", "load", connections=16,
                               arguments=("--new-connections",)),
    "down": Workload("1 MiB answers, 16 connections", "wrk", "down", 16, unit="s/GB", proxies=BODIES,
                     goal="≤ 1.0 × haproxy-splice, or ≤ 0.75 × nginx"),
    "up": Workload("1 MiB uploads, 16 connections", "wrk", "up", 16, unit="s/GB", proxies=BODIES,
                   goal="≤ 1.0 × haproxy-splice, or ≤ 0.75 × nginx"),
    "echo": Workload("64 B echo on 1,000 WebSockets", "load", "echo", 1000, goal="≤ 1.05 × nginx",
                     proxies=("tidegate", "tidegate-inspect", "nginx", "haproxy", "relay")),
    "upgrade": Workload("WebSocket handshake, then the end; 16 at a time", "load", "upgrade", 16, unit="µs/connection",
                        arguments=("--new-connections",)),
    "small-64-logged": Workload("as small-64, with an access log and two upstream servers", "wrk", logged=True,
                                proxies=("tidegate", "nginx"), goal="≤ 0.80 × nginx"),
    "guards": Workload("as small-64: health checks, outlier ejection, retries, breaker and slow start off, as by default "
                       "(ejection and retries on), and all on", "wrk",
                       proxies=("tidegate-unguarded", "tidegate", "tidegate-guarded", "nginx"),
                       goal="all on ≤ 1.03 × all off"),
    "idle-websocket": Workload("idle WebSockets", "idle", "websocket", 5000, unit="KiB/connection", goal="≤ 6 KiB"),
    "idle-keep-alive": Workload("idle kept connections", "idle", "keep-alive", 5000, unit="KiB/connection"),
    "tls-64": Workload("as small-64, over TLS 1.3", "wrk", secure=True, proxies=SECURE, goal="≤ 0.80 × nginx"),
    "handshake-full": Workload("TLS 1.3 handshake (P-256), one request, end; 4 at a time", "handshakes", secure=True,
                               proxies=SECURE, unit="µs/connection", goal="≤ 0.60 × nginx"),
    "handshake-resumed": Workload("the same with a ticket of the connection before", "handshakes", secure=True,
                                  arguments=("--resumed",), proxies=SECURE, unit="µs/connection",
                                  goal="≤ 0.65 × nginx"),
    "h2-16x32": Workload("as small-64, HTTP/2 over TLS 1.3, 16 connections with 32 streams each", "h2load",
                         connections=16, arguments=(32,), secure=True, proxies=SECURE, goal="≤ 0.62 × nginx"),
    "h2-64x1": Workload("the same, 64 connections with one stream each", "h2load", arguments=(1,), secure=True,
                        proxies=SECURE, goal="≤ 0.97 × nginx"),
    "tls-down": Workload("1 MiB answers over TLS 1.3, 16 connections", "wrk", "down", 16, unit="s/GB", secure=True,
                         proxies=SECURE, goal="≤ 0.50 × nginx"),
    "tls-up": Workload("1 MiB uploads over TLS 1.3, 16 connections", "wrk", "up", 16, unit="s/GB", secure=True,
                       proxies=(*SECURE, "nginx-default"), goal="≤ 0.55 × nginx-default"),
    "idle-tls": Workload("idle kept TLS connections", "idle_tls", "keep-alive", 2000, unit="KiB/connection", secure=True,
                         proxies=SECURE, goal="≤ 20 KiB"),
    "idle-websocket-tls": Workload("idle WebSockets over TLS 1.3", "idle_tls", "websocket", 5000, unit="KiB/connection",
                                   secure=True, proxies=SECURE_TUNNELS, goal="≤ 20 KiB"),
}
PATHS = {"small": "/small?id=42&page=7", "down": "/down?id=42&page=7", "up": "/upload?id=42"}


@dataclasses.dataclass
class Bench:
    """What all samples of a run share."""

    tidegate: str
    tool: str
    origin: object
    seconds: int
    requests: dict  # kind to the file with the request's bytes
    half_rate: float = 0.0

    def sample(self, name, proxy):
        """One clean sample, or the last of a few."""
        for _ in range(1 + RETRIES):
            sample = self.take(WORKLOADS[name], proxy)
            if sample.get("failed") or sample["foreign"] <= FOREIGN_LIMIT:
                break
        return {"workload": name, "proxy": proxy, **sample}

    def take(self, workload, name):
        try:
            with Proxy(name, self.tidegate, self.tool, workload.logged, secure=workload.secure) as proxy:
                machine.wait_for_quiet()
                before, begun = self.costs(proxy), time.monotonic()
                sample = getattr(self, workload.load)(workload, proxy)
                after, elapsed = self.costs(proxy), time.monotonic() - begun
                sample["foreign"] = foreign(before, after, elapsed)
                if workload.logged:
                    proxy.stop()
                    check_log(sample, proxy.log_lines())
        except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
            return {"failed": str(error)}
        if "requests" in sample:
            sample["us_per_request"] = sample["cpu_seconds"] * 1e6 / max(1, sample["requests"])
            sample["requests_per_second"] = sample["requests"] / sample["seconds"]
        if workload.unit == "s/GB":
            gigabytes = sample["requests"] * LARGE_BODY / 1e9
            sample["cpu_seconds_per_gb"] = sample["cpu_seconds"] / gigabytes
        return sample

    def costs(self, proxy):
        """CPU of the machine, and of what belongs to the benchmark."""
        spent = os.times()
        mine = spent.user + spent.system + spent.children_user + spent.children_system
        busy, _ = machine.busy_and_all_seconds()
        return busy, mine + machine.cpu_seconds(proxy.pids()) + machine.cpu_seconds([self.origin.process.pid])

    def wrk(self, workload, proxy):
        """wrk for whole seconds. Everything that the proxy spends from before wrk starts until after it is gone is
        counted, so nothing of the work falls outside of the window."""
        self.run_wrk(workload, 1)
        pids = proxy.pids()
        before = machine.cpu_seconds(pids)
        sample = self.run_wrk(workload, self.seconds)
        time.sleep(0.05)
        sample["cpu_seconds"] = machine.cpu_seconds(pids) - before
        length = {"small": 128, "down": LARGE_BODY, "up": 2}[workload.kind]
        sample["bytes_missing"] = missing_bytes(sample, workload, length)
        return sample

    def run_wrk(self, workload, seconds):
        command = ["taskset", "-c", machine.LOAD_CORE, "wrk", "-t1", f"-c{workload.connections}", f"-d{seconds}s",
                   "-s", str(HERE / "wrk.lua"), f"{scheme(workload)}://127.0.0.1:{PORT}{PATHS[workload.kind]}",
                   "--", self.requests[workload.kind]]
        return last_json(subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60))

    def load(self, workload, proxy):
        """Our own load, which reads the proxy's CPU itself."""
        arguments = list(workload.arguments)
        if "--rate" in arguments:
            if not self.half_rate:
                raise ValueError("half-rate needs small-64 of nginx first, or --rate")
            arguments.append(str(self.half_rate))
        return self.run_tool("load", workload, proxy, "--seconds", str(self.seconds), *arguments)

    def idle(self, workload, proxy):
        return self.run_tool("idle", workload, proxy)

    def h2load(self, workload, proxy):
        """h2load for whole seconds; as with wrk, all that the proxy spends meanwhile is counted."""
        streams, request = workload.arguments[0], self.requests[workload.kind]
        run = lambda seconds: tls.h2load(PORT, PATHS[workload.kind], request, workload.connections, streams, seconds)
        return self.counted(run, proxy)

    def handshakes(self, workload, proxy):
        def run(seconds):
            done, elapsed = tls.handshakes(PORT, PATHS[workload.kind], seconds, "--resumed" in workload.arguments)
            return {"requests": done, "errors": 0, "seconds": elapsed}
        return self.counted(run, proxy)

    def counted(self, run, proxy):
        """A warm-up, then the proxy's CPU over a run."""
        run(1)
        pids = proxy.pids()
        before = machine.cpu_seconds(pids)
        sample = run(self.seconds)
        time.sleep(0.05)
        sample["cpu_seconds"] = machine.cpu_seconds(pids) - before
        return sample

    def idle_tls(self, workload, proxy):
        return tls.idle(PORT, proxy.pids(), workload.connections, workload.kind)

    def run_tool(self, mode, workload, proxy, *arguments):
        pids = ",".join(map(str, proxy.pids()))
        command = ["taskset", "-c", machine.LOAD_CORE, self.tool, mode, "--port", str(PORT), "--kind", workload.kind,
                   "--connections", str(workload.connections), "--pids", pids, *arguments]
        return last_json(subprocess.run(command, capture_output=True, text=True, timeout=self.seconds + 120))


def scheme(workload):
    return "https" if workload.secure else "http"


def last_json(done):
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"the load failed: {(done.stderr or done.stdout)[-500:]}")
    return json.loads(lines[-1])


def missing_bytes(sample, workload, length):
    """How far the bytes that wrk read are from answers of the right size. Those of the answers that were cut at the
    end of the window are allowed for. 0 is right."""
    if workload.kind == "up":
        return 0  # its size can't be probed with a GET; wrk has checked status and framing
    size = probe(PATHS[workload.kind], length, workload.secure)
    least, most = sample["requests"] * size, (sample["requests"] + workload.connections) * size
    return max(0, least - sample["bytes"], sample["bytes"] - most)


def check_log(sample, lines):
    """Equal work: every request must have left its line."""
    sample["log_lines"] = lines
    if lines < sample["requests"]:
        sample["failed"] = f"{sample['requests']} requests, {lines} log lines"


def foreign(before, after, elapsed):
    """Share of the machine that something else used meanwhile."""
    others = (after[0] - before[0]) - (after[1] - before[1])
    return round(max(0.0, others) / (elapsed * os.cpu_count()), 4)


def bad(sample):
    """Why this sample must not count, or nothing."""
    if sample.get("failed"):
        return sample["failed"]
    if sample["errors"]:
        return f"{sample['errors']} errors"
    if sample.get("bytes_missing"):
        return f"{sample['bytes_missing']} bytes missing"
    return ""


def write_requests(tool, folder):
    """The bytes that wrk sends: the same that our own load does."""
    files = {}
    for kind in PATHS:
        files[kind] = str(folder / f"request-{kind}")
        with open(files[kind], "wb") as file:
            subprocess.run([tool, "request", "--kind", kind], stdout=file, check=True)
    return files


def fail(message):
    sys.exit(f"peers: {message}")
