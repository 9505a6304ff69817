#!/usr/bin/env python3
"""What 10,000 idle connections cost: memory of each, and the latency of 100 active ones beside them.

Both servers are measured without and with them in turns: medians of the pairs."""

import os
import subprocess

import bench


def measure_pair(options, server):
    """What one idle connection takes, and p99 of the active ones without and with all of them."""
    active = {"connections": 100, "rate": options.rate, "seconds": options.seconds}
    alone = bench.load(options, "open", server.port, **active)
    before = server.rss_bytes()
    words = bench.load_command("idle", server.port, {"connections": options.connections})
    holder = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: (bench.raise_files(), os.sched_setaffinity(0, {options.load_core})),
    )
    try:
        if not holder.stdout.readline():
            raise SystemExit(f"{server.name}: the connections were refused")
        each = (server.rss_bytes() - before) / options.connections
        crowded = bench.load(options, "open", server.port, **active)
    finally:
        holder.stdin.close()
        holder.wait()
    return {"rss_each": each, "p99_alone": alone["p99_ms"], "p99_crowded": crowded["p99_ms"]}


def main():
    parser = bench.arguments(__doc__.split("\n")[0])
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    clients = options.connections + 1_000
    servers = [bench.pinion(options), bench.reference(options)]
    figures = {server.name: [] for server in servers}
    try:
        for server in servers:
            server.command(f"CONFIG SET maxclients {clients}")
        for _ in range(options.pairs):
            for server in servers:
                figures[server.name].append(measure_pair(options, server))
    finally:
        for server in servers:
            server.stop()
    print(f"{'server':16}{'RSS each':>12}{'p99 alone':>12}{'p99 beside':>12}")
    for name, pairs in figures.items():
        # What the first took stays with the server: later pairs would tell of less.
        each = pairs[0]["rss_each"]
        alone, beside = (
            bench.median(pair[key] for pair in pairs) for key in ("p99_alone", "p99_crowded")
        )
        print(f"{name:16}{each / 1024:9.2f} KB{alone:9.3f} ms{beside:9.3f} ms")
    bench.finish(options, figures)


if __name__ == "__main__":
    main()
