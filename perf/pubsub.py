#!/usr/bin/env python3
"""What messages cost: CPU of the server per delivered message, per PUBLISH nobody hears, and what
events of keys add to a SET while nobody listens."""

import os
import socket
import subprocess
import threading

import bench


def benchmark(options, server, requests, *words):
    """CPU seconds of the server per million requests of redis-benchmark."""
    before = server.cpu_seconds()
    subprocess.run(
        ["redis-benchmark", "-p", str(server.port), "-n", str(requests), "-q", *words],
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {options.load_core}),
    )
    return (server.cpu_seconds() - before) / requests * 1e6


def fan_out(options, server, subscribers, messages):
    """CPU microseconds of the server per message that a subscriber receives."""
    ears = []
    for _ in range(subscribers):
        ear = socket.create_connection(("127.0.0.1", server.port))
        ear.sendall(b"SUBSCRIBE news\r\n")
        ear.recv(4096)
        ears.append(ear)
    size = len(b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$64\r\n") + 64 + 2

    def drain():
        left = {ear: messages * size for ear in ears}
        import selectors

        selector = selectors.DefaultSelector()
        for ear in ears:
            selector.register(ear, selectors.EVENT_READ)
        while left:
            for key, _ in selector.select():
                left[key.fileobj] -= len(key.fileobj.recv(1 << 16))
                if left[key.fileobj] <= 0:
                    selector.unregister(key.fileobj)
                    del left[key.fileobj]

    reader = threading.Thread(target=drain)
    before = server.cpu_seconds()
    reader.start()
    mouth = socket.create_connection(("127.0.0.1", server.port))
    request = b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n$64\r\n" + b"x" * 64 + b"\r\n"
    for _ in range(messages):
        mouth.sendall(request)
        mouth.recv(64)
    reader.join()
    used = server.cpu_seconds() - before
    for ear in ears:
        ear.close()
    return used / (messages * subscribers) * 1e6


def main():
    parser = bench.arguments(__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    bench.raise_files()
    os.sched_setaffinity(0, {options.load_core})
    servers = [bench.pinion(options), bench.reference(options)]
    samples = {}

    def note(case, server, value):
        samples.setdefault(case, {}).setdefault(server.name, []).append(value)

    try:
        for number in range(options.pairs):
            for server in servers if number % 2 == 0 else servers[::-1]:
                note("us per message delivered", server, fan_out(options, server, options.subscribers, options.messages))
                publish = ("-c", "50", "PUBLISH", "nobody", "x" * 64)
                note("us per PUBLISH nobody hears", server, benchmark(options, server, options.requests, *publish))
                note("the same, pipeline 16", server, benchmark(options, server, 5 * options.requests, "-P", "16", *publish))
                for on in ("", "KEA") if number % 2 == 0 else ("KEA", ""):
                    server.command(f'CONFIG SET notify-keyspace-events "{on}"')
                    name = "us per SET, events " + ("on" if on else "off")
                    words = ("-c", "50", "-P", "16", "-r", "100000", "-d", "64", "-t", "set")
                    note(name, server, benchmark(options, server, 5 * options.requests, *words))
    finally:
        for server in servers:
            server.stop()
    print(f"{'':32}{'Pinion':>10}{servers[1].name:>16}{'ratio':>8}")
    for case, by_server in samples.items():
        ours, theirs = (bench.median(by_server[server.name]) for server in servers)
        print(f"{case:32}{ours:10.3f}{theirs:16.3f}{ours / theirs:8.2f}")
    bench.finish(options, samples)


if __name__ == "__main__":
    main()
