#!/usr/bin/env python3
"""CPU time per command with two shards on two cores against one shard on one: random keys, no pipeline.

With two shards half of the commands cross to the other core, and the generator shares one of the
cores; what counts is CPU time, not throughput."""

import os
import subprocess

import bench


# MSET sets ten keys; MGET reads as many, which redis-benchmark has no test of.
TESTS = {
    "set": ["-t", "set"],
    "get": ["-t", "get"],
    "mset": ["-t", "mset"],
    "mget": ["mget"] + ["key:__rand_int__"] * 10,
}


def sample(options, server, test):
    words = ["redis-benchmark", "-q", "-p", str(server.port), "-c", "50", "-d", "64"]
    words += ["-r", "100000", "-n", str(options.requests)] + TESTS[test]
    before = server.cpu_seconds()
    subprocess.run(
        words,
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {options.load_core}),
    )
    return (server.cpu_seconds() - before) * 1e6 / options.requests


def main():
    parser = bench.arguments(__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=500_000)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    both = {options.server_core, options.load_core}
    one, two = bench.pinion(options, 1), bench.pinion(options, 2, both)
    figures = {}
    try:
        for test in TESTS:
            pairs = [
                (sample(options, one, test), sample(options, two, test))
                for _ in range(options.pairs)
            ]
            ratio = bench.median(b / a for a, b in pairs)
            figures[test] = {"pairs": pairs, "ratio": ratio}
            a, b = (bench.median(pair[index] for pair in pairs) for index in (0, 1))
            print(f"{test:6}one shard {a:6.2f}   two shards {b:6.2f} CPU-s/M   ratio {ratio:.2f}")
    finally:
        one.stop()
        two.stop()
    bench.finish(options, figures)


if __name__ == "__main__":
    main()
