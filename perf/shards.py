#!/usr/bin/env python3
"""CPU time per command with two shards on two cores against one shard on one: random keys, with and
without pipeline.

With two shards half of the commands cross to the other core, and the generator shares one of the
cores; what counts is CPU time, not throughput. Two cores that need `ratio` times the CPU for a command
carry `2 / ratio` times as many of them. Throughput is told as well: where a command is work for the
server and none for the generator (`sort`), it is near that."""

import itertools
import time

import bench


# MSET sets ten keys; MGET reads as many, which redis-benchmark has no test of.
TESTS = {
    "set": ["-t", "set"],
    "get": ["-t", "get"],
    "mset": ["-t", "mset"],
    "mget": ["mget"] + ["key:__rand_int__"] * 10,
    # A script that names no keys: everything stops for it.
    "eval": ["eval", "for i = 1, 20 do redis.call('set', 'k' .. i, i) end", "0"],
    # Work for the server: each of a thousand lists has some two hundred elements.
    "lrange": ["lrange", "list:__rand_int__", "0", "99"],
    "sort": ["sort_ro", "list:__rand_int__", "ALPHA", "LIMIT", "0", "1"],
}
# How many of a test's requests cost as much as twenty of the others.
FEWER = {"eval": 1, "sort": 2, "lrange": 10}
LISTS = ["-r", "1000"]
FILL = LISTS + ["-P", "16", "-n", "200000", "rpush", "list:__rand_int__", "element-abcdefgh"]


def send(options, server, words):
    clients = str(options.clients)
    bench.run(options, ["redis-benchmark", "-q", "-p", str(server.port), "-c", clients] + words)


def sample(options, server, test, depth):
    """CPU seconds and seconds per million of a test's requests."""
    requests = options.requests * min(depth, 4) * FEWER.get(test, 20) // 20
    words = LISTS if test in ("lrange", "sort") else ["-r", "100000"]
    words = words + ["-d", "64", "-P", str(depth), "-n", str(requests)] + TESTS[test]
    before, begun = server.cpu_seconds(), time.monotonic()
    send(options, server, words)
    wall = time.monotonic() - begun
    return (server.cpu_seconds() - before) * 1e6 / requests, wall * 1e6 / requests


def main():
    parser = bench.arguments(__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=500_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--order", default="exact", help="pipeline-order of the two shards")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--tests", default=",".join(TESTS))
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 16])
    options = parser.parse_args()
    both = {options.server_core, options.load_core}
    order = f"--pipeline-order {options.order}"
    one, two = bench.pinion(options, 1), bench.pinion(options, 2, both, order)
    figures = {}
    try:
        for server in (one, two):
            send(options, server, FILL)
        for test, depth in itertools.product(options.tests.split(","), options.depths):
            pairs = [
                (sample(options, one, test, depth), sample(options, two, test, depth))
                for _ in range(options.pairs)
            ]
            ratio = bench.median(b / a for (a, _), (b, _) in pairs)
            speed = bench.median(a / b for (_, a), (_, b) in pairs)
            figures[f"{test} {depth}"] = {"pairs": pairs, "ratio": ratio, "throughput": speed}
            a, b = (bench.median(pair[index][0] for pair in pairs) for index in (0, 1))
            print(
                f"{test:6} pipeline {depth:3}   one shard {a:6.2f}   two shards {b:6.2f} CPU-s/M"
                f"   ratio {ratio:.2f}   throughput {speed:.2f}"
            )
    finally:
        one.stop()
        two.stop()
    bench.finish(options, figures)


if __name__ == "__main__":
    main()
