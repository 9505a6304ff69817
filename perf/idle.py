#!/usr/bin/env python3
"""What 10,000 idle connections cost: memory of each, and the latency of 100 active ones beside them."""

import os
import subprocess

import bench


def measure(options, server):
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
    parser = bench.arguments(__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    clients = options.connections + 1_000
    figures = {}
    print(f"{'server':16}{'RSS each':>12}{'p99 alone':>12}{'p99 beside':>12}")
    for start in (bench.pinion, bench.reference):
        server = start(options)
        try:
            server.command(f"CONFIG SET maxclients {clients}")
            figures[server.name] = measure(options, server)
        finally:
            server.stop()
        got = figures[server.name]
        print(
            f"{server.name:16}{got['rss_each'] / 1024:9.2f} KB{got['p99_alone']:9.3f} ms"
            f"{got['p99_crowded']:9.3f} ms",
            flush=True,
        )
    bench.finish(options, figures)


if __name__ == "__main__":
    main()
