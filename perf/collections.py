#!/usr/bin/env python3
"""One large collection of each type: resident memory per element, and CPU time of commands on it.

Elements are `element:` and seven digits, scores random. Memory is what the server's resident set grew
by while the collection was filled through one pipelined connection; CPU is the server's own time per
million commands."""

import random

import bench

def name(n):
    return f"element:{n:07}"


def fillers(count):
    """Per type, the commands that fill it."""
    rng = random.Random(1)
    order = list(range(count))
    rng.shuffle(order)
    return {
        "sorted set": (("ZADD", "z", repr(rng.random() * 1e6), name(n)) for n in order),
        "hash": (("HSET", "h", name(n), f"value:{n}") for n in order),
        "set": (("SADD", "s", name(n)) for n in order),
        "stream": (("XADD", "x", "*", "sensor", str(n % 100), "value", str(n)) for n in range(count)),
        "list": (("RPUSH", "l", name(n)) for n in range(count)),
    }


def readers(count, commands):
    """Commands on the filled sorted set."""
    rng = random.Random(2)
    pick = lambda: name(rng.randrange(count))
    scores = lambda: rng.random() * 1e6
    def near():
        low = scores()
        return ("ZRANGEBYSCORE", "z", repr(low), repr(low + 10), "LIMIT", "0", "10")
    return {
        "ZADD, new scores": (("ZADD", "z", repr(scores()), pick()) for _ in range(commands)),
        "ZRANK": (("ZRANK", "z", pick()) for _ in range(commands)),
        "ZRANGEBYSCORE of ten": (near() for _ in range(commands)),
    }


def measure(options, start, only):
    figures = {}
    server = start(options)
    try:
        client = bench.Client(server.port)
        for kind, commands in fillers(options.elements).items():
            if only and kind not in only:
                continue
            before, cpu = server.rss_bytes(), server.cpu_seconds()
            client.run(commands)
            figures[f"{kind}: bytes per element"] = (server.rss_bytes() - before) / options.elements
            figures[f"{kind}: CPU-s/M to fill"] = (server.cpu_seconds() - cpu) * 1e6 / options.elements
        if only and "sorted set" not in only:
            return figures
        for what, commands in readers(options.elements, options.commands).items():
            cpu = server.cpu_seconds()
            client.run(commands)
            figures[f"{what}: CPU-s/M"] = (server.cpu_seconds() - cpu) * 1e6 / options.commands
    finally:
        server.stop()
    return figures


def main():
    parser = bench.arguments(__doc__.split("\n")[0])
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--commands", type=int, default=200_000)
    parser.add_argument("--only", default="", help="types, separated by commas")
    options = parser.parse_args()
    only = [kind for kind in options.only.split(",") if kind]
    ours, theirs = (measure(options, start, only) for start in (bench.pinion, bench.reference))
    print(f"{'what':36}{'Pinion':>10}{'reference':>12}{'ratio':>8}")
    for what, figure in ours.items():
        print(f"{what:36}{figure:10.2f}{theirs[what]:12.2f}{figure / theirs[what]:8.2f}")
    bench.finish(options, {"Pinion": ours, "reference": theirs})


if __name__ == "__main__":
    main()
