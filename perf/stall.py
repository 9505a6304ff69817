#!/usr/bin/env python3
"""The longest time another client waits while the dictionary grows, and while it is emptied.

One client sends PING after PING. Beside it the keyspace grows from nothing to --keys keys, then
FLUSHALL ASYNC empties it. A PING during which the generator itself lost its CPU is not counted
(`discarded`). That the server lost its own to some other process cannot be told from a stall that way;
so the server also counts the CPU time of its turns (`turns.c`, preloaded): the longest of them, with
what the kernel did for it, is what a client can have waited by the server's own doing."""

import os
import subprocess
import tempfile

import bench


def compile_turns(folder):
    source = os.path.join(bench.ROOT, "perf", "turns.c")
    library = os.path.join(folder, "turns.so")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def measure(options, start, env):
    """What the load saw in each phase, and the server of its turns."""
    server = start(options, env=env)
    try:
        got = bench.load(options, "stall", server.port, keys=options.keys)
    finally:
        server.stop()
    with open(env["TURNS_LOG"]) as log:
        turns, work_ns, call_ns = map(int, log.read().split())
    got["turns"] = {"count": turns, "work_ms": work_ns / 1e6, "kernel_ms": call_ns / 1e6}
    return server.name, got


def main():
    parser = bench.arguments(__doc__.split("\n")[0])
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=2)
    options = parser.parse_args()
    figures = {}
    print(f"{'server':16}{'phase':10}{'max ms':>10}{'p99.9 ms':>10}{'samples':>10}{'discarded':>11}")
    with tempfile.TemporaryDirectory() as folder:
        env = {"LD_PRELOAD": compile_turns(folder), "TURNS_LOG": os.path.join(folder, "log")}
        for start in (bench.pinion, bench.reference) * options.runs:
            name, got = measure(options, start, env)
            figures.setdefault(name, []).append(got)
            for phase in ("growing", "flushing"):
                figure = got[phase]
                print(
                    f"{name:16}{phase:10}{figure['max_ms']:10.3f}{figure['p999_ms']:10.3f}"
                    f"{figure['samples']:10}{figure['discarded']:11}"
                )
            turns = got["turns"]
            print(
                f"{name:16}longest of {turns['count']} turns: {turns['work_ms']:.3f} ms of CPU, "
                f"{turns['kernel_ms']:.3f} ms in the kernel's call",
                flush=True,
            )
    bench.finish(options, figures)


if __name__ == "__main__":
    main()
