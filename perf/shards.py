#!/usr/bin/env python3
"""CPU time per command with two shards on two cores against one shard on one: random keys, with and
without pipeline.

With two shards half of the commands cross to the other core, and the generator shares one of the
cores; what counts is CPU time, not throughput. Two cores that need `ratio` times the CPU for a command
carry `2 / ratio` times as many of them. Throughput is told as well: the more a command is work for the
server and not for the generator (`sort`, `sort-1000`), the nearer it is to that."""

import itertools
import re
import sys

import bench


# MSET sets ten keys; MGET reads as many, which redis-benchmark has no test of.
TESTS = {
    "set": ["-t", "set"],
    "get": ["-t", "get"],
    "mset": ["-t", "mset"],
    "mget": ["mget"] + ["key:__rand_int__"] * 10,
    # A script that names no keys: everything stops for it.
    "eval": ["eval", "for i = 1, 20 do redis.call('set', 'k' .. i, i) end", "0"],
    # Work for the server: each of a thousand lists has some two hundred elements, of others a thousand.
    "lrange": ["lrange", "list:__rand_int__", "0", "99"],
    "sort": ["sort_ro", "list:__rand_int__", "ALPHA", "LIMIT", "0", "1"],
    "sort-1000": ["sort_ro", "long:__rand_int__", "ALPHA", "LIMIT", "0", "1"],
}
# How many of a test's requests cost as much as forty of the others.
FEWER = {"eval": 2, "sort": 4, "sort-1000": 1, "lrange": 20}
LISTS = ["-r", "1000"]
FILLS = [
    LISTS + ["-P", "16", "-n", requests, "rpush", key, "element-abcdefgh"]
    for requests, key in [("200000", "list:__rand_int__"), ("1000000", "long:__rand_int__")]
]


def send(options, server, words):
    """Requests a second of redis-benchmark."""
    clients = str(options.clients)
    command = ["redis-benchmark", "-q", "-p", str(server.port), "-c", clients, *words]
    text = bench.run(options, command)
    rates = re.findall(r"([\d.]+) requests per second", text)
    if not rates:
        sys.exit(f"{server.name}: redis-benchmark said:\n{text[-2000:]}")
    return float(rates[-1])


def sample(options, server, test, depth):
    """CPU seconds per million of a test's requests, and how many are answered a second."""
    requests = options.requests * min(depth, 4) * FEWER.get(test, 40) // 40
    words = LISTS if test in ("lrange", "sort", "sort-1000") else ["-r", "100000"]
    words = words + ["-d", "64", "-P", str(depth), "-n", str(requests)] + TESTS[test]
    before = server.cpu_seconds()
    rate = send(options, server, words)
    return (server.cpu_seconds() - before) * 1e6 / requests, rate


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
            for fill in FILLS:
                send(options, server, fill)
        for test, depth in itertools.product(options.tests.split(","), options.depths):
            pairs = [
                (sample(options, one, test, depth), sample(options, two, test, depth))
                for _ in range(options.pairs)
            ]
            ratio = bench.median(b / a for (a, _), (b, _) in pairs)
            speed = bench.median(b / a for (_, a), (_, b) in pairs)
            figures[f"{test} {depth}"] = {"pairs": pairs, "ratio": ratio, "throughput": speed}
            a, b = (bench.median(pair[index][0] for pair in pairs) for index in (0, 1))
            print(
                f"{test:9} pipeline {depth:3}   one shard {a:6.2f}   two shards {b:6.2f} CPU-s/M"
                f"   ratio {ratio:.2f}   throughput {speed:.2f}"
            )
    finally:
        one.stop()
        two.stop()
    bench.finish(options, figures)


if __name__ == "__main__":
    main()
