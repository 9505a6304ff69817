#!/usr/bin/env python3
"""Latency at a fixed rate of requests, counted from the moment each was due (open loop)."""

import bench


def main():
    parser = bench.arguments(__doc__)
    parser.add_argument("--rate", type=int, default=10_000, help="requests a second")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    servers = [bench.pinion(options), bench.reference(options)]
    samples = {server.name: [] for server in servers}
    try:
        for number in range(options.pairs):
            for server in servers if number % 2 == 0 else servers[::-1]:
                got = bench.load(
                    options,
                    "open",
                    server.port,
                    rate=options.rate,
                    seconds=options.seconds,
                    connections=options.connections,
                )
                samples[server.name].append(got)
    finally:
        for server in servers:
            server.stop()
    print(f"{'server':16}{'p50 ms':>10}{'p99 ms':>10}{'p99.9 ms':>10}{'max ms':>10}{'discarded':>11}")
    figures = {}
    for name, runs in samples.items():
        middle = {key: bench.median(run[key] for run in runs) for key in runs[0]}
        figures[name] = {"median": middle, "runs": runs}
        cells = "".join(f"{middle[key]:10.3f}" for key in ("p50_ms", "p99_ms", "p999_ms", "max_ms"))
        print(f"{name:16}{cells}{middle['discarded']:11.0f}")
    bench.finish(options, figures)


if __name__ == "__main__":
    main()
