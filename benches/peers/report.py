"""Tables from samples: the best round of each proxy, ratios of best rounds, and the same of medians.

Best, not mean: on a shared machine noise only adds. Where its speed comes and goes, a lucky round decides the best;
the medians beside them then say more.
"""

import statistics

from workloads import FOREIGN_LIMIT, WORKLOADS, bad

KEYS = {"µs/request": "us_per_request", "µs/connection": "us_per_request", "s/GB": "cpu_seconds_per_gb",
        "KiB/connection": "kib_per_connection"}


def tables(samples):
    """Markdown, one table a workload."""
    parts = [table(name, samples) for name in WORKLOADS]
    return "\n".join(part for part in parts if part)


def table(name, samples):
    workload = WORKLOADS[name]
    key = KEYS[workload.unit]
    rows = {}
    for sample in samples:
        if sample["workload"] == name:
            rows.setdefault(sample["proxy"], []).append(sample)
    if not rows:
        return ""
    best = {proxy: best_of(taken, key) for proxy, taken in rows.items()}
    lines = [f"### {name}: {workload.what}", ""]
    if workload.goal:
        lines += [f"Goal: {workload.goal}.", ""]
    latency = any("p50_us" in sample for taken in rows.values() for sample in taken)
    idle = workload.load.startswith("idle")
    titles = ["proxy", workload.unit, "ratio to nginx", "median", "ratio of medians", "clean rounds"]
    titles += ["requests/s", "p50 µs", "p99 µs"] if latency else ["RSS MiB", "kernel KiB"] if idle else ["requests/s"]
    lines += ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    for proxy, taken in rows.items():
        lines.append("| " + " | ".join(cells(proxy, rows, best, key, latency)) + " |")
    return "\n".join(lines) + "\n"


def cells(proxy, rows, best, key, latency):
    taken = rows[proxy]
    good = [sample for sample in taken if not bad(sample)]
    chosen, base = best[proxy], best.get("nginx")
    if not chosen:
        return [proxy, f"failed: {bad(taken[-1]).splitlines()[0]}"]
    clean = sum(sample["foreign"] <= FOREIGN_LIMIT for sample in good)
    ratio = f"{chosen[key] / base[key]:.2f}" if base and base[key] > 0 else "-"
    digits = 3 if key == "cpu_seconds_per_gb" else 2
    middle, base_middle = median(taken, key), median(rows.get("nginx", []), key)
    of_medians = f"{middle / base_middle:.2f}" if base_middle else "-"
    row = [proxy, f"{chosen[key]:.{digits}f}", ratio, f"{middle:.{digits}f}", of_medians, f"{clean}/{len(taken)}"]
    if latency:
        return row + [f"{chosen['requests_per_second']:.0f}", f"{chosen['p50_us']:.0f}", f"{chosen['p99_us']:.0f}"]
    if "rss_after_kib" in chosen:
        return row + [f"{chosen['rss_after_kib'] / 1024:.1f}", f"{chosen['kernel_kib_per_connection']:.1f}"]
    return row + [f"{chosen['requests_per_second']:.1f}"]


def median(taken, key):
    """Of the good samples; 0 without any."""
    good = [sample[key] for sample in taken if not bad(sample)]
    return statistics.median(good) if good else 0


def best_of(taken, key):
    """The cheapest good sample, of the clean ones if there are any."""
    good = [sample for sample in taken if not bad(sample)]
    clean = [sample for sample in good if sample["foreign"] <= FOREIGN_LIMIT]
    return min(clean or good, key=lambda sample: sample[key], default=None)


def one_line(sample):
    if bad(sample):
        return f"FAILED {bad(sample)}"
    unit = WORKLOADS[sample["workload"]].unit
    figure = f"{sample[KEYS[unit]]:.3f} {unit}"
    rate = f", {sample['requests_per_second']:.0f}/s, p50 {sample['p50_us']:.0f} µs" if "p50_us" in sample else ""
    return f"{figure}{rate}, foreign {sample['foreign']:.0%}"
