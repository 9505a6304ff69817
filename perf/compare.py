#!/usr/bin/env python3
"""Throughput, latency and CPU time per command, side by side with a reference server.

Both servers are pinned to one core and live through the whole run; the load generator has another
core. Each test runs on one server, then on the other, and again (`--pairs`), so that a slow minute
of the machine hits both. Figures are medians; ratios are medians of the pairs' ratios. CPU seconds
per million commands is the figure that repeats: throughput on a shared machine does not."""

import re
import shutil
import sys

import bench

TESTS = ["ping_mbulk", "set", "get", "incr", "mset"]


def redis_benchmark(options, server, test, depth):
    requests = options.requests * (1 if depth == 1 else 4)
    if test == "mset":
        requests //= 5
    words = ["redis-benchmark", "-p", str(server.port), "-c", "50", "-d", "64"]
    words += ["-r", str(options.keys), "-P", str(depth), "-n", str(requests), "-t", test]
    before = server.cpu_seconds()
    text = bench.run(options, words)
    cpu = server.cpu_seconds() - before
    table = re.search(r"latency summary.*?\n.*?p99\s+max\n\s*([\d. ]+)", text, re.S)
    rate = re.search(r"throughput summary: ([\d.]+)", text)
    if not table or not rate:
        sys.exit(f"{server.name}: redis-benchmark said:\n{text[-2000:]}")
    _, _, p50, _, p99, _ = map(float, table.group(1).split())
    tail = re.findall(r"([\d.]+)% <= ([\d.]+) milliseconds \(cum", text)
    p999 = next((float(ms) for share, ms in tail if float(share) >= 99.9), p99)
    return {
        "rate": float(rate.group(1)),
        "p50": p50,
        "p99": p99,
        "p999": p999,
        "cpu_per_m": cpu * 1e6 / requests,
    }


def memtier(options, server, depth):
    words = ["memtier_benchmark", "-p", str(server.port), "--hide-histogram", "-t", "1", "-c", "50"]
    words += ["-d", "64", "--key-maximum", str(options.keys), "--pipeline", str(depth)]
    words += ["-n", str(options.requests // 50)]
    before = server.cpu_seconds()
    text = bench.run(options, words)
    cpu = server.cpu_seconds() - before
    totals = re.search(r"^Totals\s+([\d.]+)\s+\S+\s+\S+\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)", text, re.M)
    if not totals:
        sys.exit(f"{server.name}: memtier_benchmark said:\n{text[-2000:]}")
    rate, _, p50, p99, p999 = map(float, totals.groups())
    commands = options.requests // 50 * 50
    return {"rate": rate, "p50": p50, "p99": p99, "p999": p999, "cpu_per_m": cpu * 1e6 / commands}


def pairs(options, servers, measure):
    """Samples of both servers, alternating, and the medians of them and of their ratios."""
    samples = [[], []]
    for number in range(options.pairs):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        for index in order:
            samples[index].append(measure(servers[index]))
    keys = samples[0][0].keys()
    result = {
        server.name: {key: bench.median(s[key] for s in samples[index]) for key in keys}
        for index, server in enumerate(servers)
    }
    result["ratio"] = {
        key: bench.median(a[key] / b[key] if b[key] else 0 for a, b in zip(*samples)) for key in keys
    }
    return result


def show(name, result):
    for who, figures in result.items():
        if who == "ratio":
            cells = [f"{figures[key]:10.2f}" for key in ("rate", "p50", "p99", "p999", "cpu_per_m")]
        else:
            cells = [f"{figures['rate']:10.0f}"]
            cells += [f"{figures[key]:10.3f}" for key in ("p50", "p99", "p999")]
            cells += [f"{figures['cpu_per_m']:10.2f}"]
        print(f"{name:22}{who:16}{''.join(cells)}", flush=True)
        name = ""


def main():
    parser = bench.arguments(__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--requests", type=int, default=500_000, help="per run without pipeline")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--tests", default=",".join(TESTS))
    parser.add_argument("--depths", default="1,16", help="pipeline depths")
    parser.add_argument("--no-memtier", action="store_true")
    options = parser.parse_args()
    servers = [bench.pinion(options), bench.reference(options)]
    figures = {}
    print(f"{'test':22}{'server':16}{'req/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'p99.9 ms':>10}{'CPU-s/M':>10}")
    try:
        for depth in map(int, options.depths.split(",")):
            for test in options.tests.split(","):
                name = f"{test} -P {depth}"
                figures[name] = pairs(
                    options, servers, lambda server: redis_benchmark(options, server, test, depth)
                )
                show(name, figures[name])
            if shutil.which("memtier_benchmark") and not options.no_memtier:
                name = f"memtier 1:10 -P {depth}"
                figures[name] = pairs(options, servers, lambda server: memtier(options, server, depth))
                show(name, figures[name])
    finally:
        for server in servers:
            server.stop()
    bench.finish(options, figures)


if __name__ == "__main__":
    main()
