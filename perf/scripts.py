#!/usr/bin/env python3
"""CPU time per script or function, side by side with a reference server.

As in compare.py both servers are pinned to one core, live through the whole run and take turns.
redis-benchmark sends one line again and again: EVAL with the whole text, EVALSHA with its digest,
FCALL with a name. `empty` is what a script costs by itself, `get` and `set` add a command, `ten` adds
ten of them, `loop` is Lua alone."""

import hashlib
import re
import socket
import sys

import bench
from compare import pairs

BODIES = {
    "empty": "return 1",
    "get": "return redis.call('get', KEYS[1])",
    "set": "return redis.call('set', KEYS[1], ARGV[1])",
    "ten": "for i = 1, 10 do redis.call('incr', KEYS[1]) end return 1",
    "loop": "local n = 0 for i = 1, 1000 do n = n + i % 7 end return n",
}
FUNCTION = "redis.register_function('%s', function(KEYS, ARGV) %s end)\n"


def call(server, *words):
    """Sends one command and returns the first bytes of its reply."""
    request = b"*%d\r\n" % len(words)
    for word in words:
        word = word.encode()
        request += b"$%d\r\n%s\r\n" % (len(word), word)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as stream:
        stream.sendall(request)
        reply = stream.recv(65536)
    if reply.startswith(b"-"):
        sys.exit(f"{server.name}: {words[0]}: {reply!r}")
    return reply


def prepare(server):
    """Makes all scripts and functions known."""
    for body in BODIES.values():
        call(server, "SCRIPT", "LOAD", body)
    library = "#!lua name=bench\n" + "".join(FUNCTION % item for item in BODIES.items())
    call(server, "FUNCTION", "LOAD", "REPLACE", library)


def line(command, name):
    """What redis-benchmark sends; its `__rand_int__` is a number below `--keys`."""
    key = "n:__rand_int__" if name == "ten" else "key:__rand_int__"
    what = {
        "eval": BODIES[name],
        "evalsha": hashlib.sha1(BODIES[name].encode()).hexdigest(),
        "fcall": name,
    }[command]
    return [command, what, "1", key, "x" * 64]


def measure(options, server, command, name, depth):
    words = ["redis-benchmark", "-p", str(server.port), "-c", "50", "-P", str(depth)]
    words += ["-r", str(options.keys), "-n", str(options.requests), *line(command, name)]
    before = server.cpu_seconds()
    text = bench.run(options, words)
    cpu = server.cpu_seconds() - before
    rate = re.search(r"throughput summary: ([\d.]+)", text)
    if not rate:
        sys.exit(f"{server.name}: redis-benchmark said:\n{text[-2000:]}")
    return {"rate": float(rate.group(1)), "cpu_per_m": cpu * 1e6 / options.requests}


def main():
    parser = bench.arguments(__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--requests", type=int, default=200_000, help="per run")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--commands", default="eval,evalsha,fcall")
    parser.add_argument("--bodies", default=",".join(BODIES))
    parser.add_argument("--depths", default="1,16", help="pipeline depths")
    options = parser.parse_args()
    servers = [bench.pinion(options), bench.reference(options)]
    figures = {}
    print(f"{'test':22}{'server':16}{'req/s':>10}{'CPU-s/M':>10}")
    try:
        for server in servers:
            prepare(server)
        for depth in map(int, options.depths.split(",")):
            for command in options.commands.split(","):
                for body in options.bodies.split(","):
                    name = f"{command} {body} -P {depth}"
                    figures[name] = pairs(
                        options, servers, lambda server: measure(options, server, command, body, depth)
                    )
                    for who, found in figures[name].items():
                        rate = f"{found['rate']:10.2f}" if who == "ratio" else f"{found['rate']:10.0f}"
                        print(f"{name:22}{who:16}{rate}{found['cpu_per_m']:10.2f}", flush=True)
                        name = ""
    finally:
        for server in servers:
            server.stop()
    bench.finish(options, figures)


if __name__ == "__main__":
    main()
