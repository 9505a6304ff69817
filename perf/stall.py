#!/usr/bin/env python3
"""The longest time another client waits while the dictionary grows, and while it is emptied.

One client sends PING after PING. Beside it the keyspace grows from nothing to --keys keys, then
FLUSHALL ASYNC empties it. A PING during which the generator itself lost its CPU is not counted
(`discarded`); that the server lost its own to some other process cannot be told from a stall, so
run this on a quiet machine and take the best of several runs."""

import bench


def main():
    parser = bench.arguments(__doc__.split("\n")[0])
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=2)
    options = parser.parse_args()
    figures = {}
    print(f"{'server':16}{'phase':10}{'max ms':>10}{'p99.9 ms':>10}{'samples':>10}{'discarded':>11}")
    for number in range(options.runs):
        for start in (bench.pinion, bench.reference):
            server = start(options)
            try:
                got = bench.load(options, "stall", server.port, keys=options.keys)
            finally:
                server.stop()
            figures.setdefault(server.name, []).append(got)
            for phase, figure in got.items():
                print(
                    f"{server.name:16}{phase:10}{figure['max_ms']:10.3f}{figure['p999_ms']:10.3f}"
                    f"{figure['samples']:10}{figure['discarded']:11}",
                    flush=True,
                )
    bench.finish(options, figures)


if __name__ == "__main__":
    main()
