#!/usr/bin/env python3
"""How late a subscriber hears that keys have expired: receipt minus deadline."""

import os
import select
import socket
import subprocess
import threading
import time

import bench

CHANNEL = "__keyevent@0__:expired"


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def connect(server):
    stream = socket.create_connection(("127.0.0.1", server.port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def pipe(stream, commands, replies):
    """Sends encoded commands and waits for so many lines of reply."""
    def read():
        left = replies
        while left > 0:
            left -= stream.recv(1 << 20).count(b"\n")

    reader = threading.Thread(target=read)
    reader.start()
    stream.sendall(commands)
    reader.join()


def set_at(key, at_ms):
    at = str(at_ms).encode()
    return b"*5\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$1\r\nx\r\n$4\r\nPXAT\r\n$%d\r\n%s\r\n" % (
        len(key), key, len(at), at,
    )


class Ear(threading.Thread):
    """Notes when each key was announced. Keys end with their deadline, `...:<ms>`."""

    def __init__(self, server, prefix=b"k"):
        super().__init__(daemon=True)
        self.stream = connect(server)
        self.stream.sendall(b"SUBSCRIBE %s\r\n" % CHANNEL.encode())
        self.stream.recv(4096)
        self.prefix = prefix
        self.lags = []
        self.running = True
        self.start()

    def run(self):
        rest = b""
        while self.running:
            if not select.select([self.stream], [], [], 0.1)[0]:
                continue
            data = self.stream.recv(1 << 20)
            now_ms = time.time() * 1000
            lines = (rest + data).split(b"\r\n")
            rest = lines.pop()
            for line in lines:
                if line.startswith(self.prefix) and b":" in line:
                    self.lags.append(now_ms - int(line.rsplit(b":", 1)[1]))

    def wait(self, count, seconds):
        deadline = time.time() + seconds
        while len(self.lags) < count and time.time() < deadline:
            time.sleep(0.05)
        self.running = False
        self.join()
        return self.lags


def spread(count, over_ms, name=b"k"):
    """`count` keys whose deadlines lie evenly in a stretch of time, beginning in a while."""
    begin = int(time.time() * 1000) + 1500 + count // 150
    return [(b"%s%d:%d" % (name, n, begin + n * over_ms // count), begin + n * over_ms // count)
            for n in range(count)]


def expire(options, server, count, over_ms, load, wait):
    server.command("FLUSHALL")
    ear = Ear(server)
    keys = spread(count, over_ms)
    pipe(connect(server), b"".join(set_at(key, at) for key, at in keys), count)
    background = None
    if load:
        words = bench.load_command("open", server.port, {"rate": 10_000, "seconds": 2 + over_ms // 1000, "connections": 20})
        time.sleep(max(0, keys[0][1] / 1000 - time.time() - 0.3))
        background = subprocess.Popen(words, stdout=subprocess.PIPE)
    lags = ear.wait(count, wait)
    commands = None
    if background:
        commands = bench.json.loads(background.communicate()[0])
    return lags, commands


def probes(options, server, millions, wait):
    """1,000 keys with one deadline among many with deadlines far apart."""
    server.command("FLUSHALL")
    ear = Ear(server, b"probe")
    now_ms = int(time.time() * 1000)
    total = int(millions * 1_000_000)
    stream = connect(server)
    for first in range(0, total, 50_000):
        batch = (set_at(b"k%d" % n, now_ms + 60_000 + n * 3_600_000 // total) for n in range(first, first + 50_000))
        pipe(stream, b"".join(batch), 50_000)
    at = int(time.time() * 1000) + 1000
    pipe(stream, b"".join(set_at(b"probe%d:%d" % (n, at), at) for n in range(1000)), 1000)
    return ear.wait(1000, wait)


def longest_beside_fields(server, fields):
    """Milliseconds that HGET of the one field that stays took at most, in the three seconds in which all others
    of its hash end; None if the server knows no deadlines of fields."""
    server.command("FLUSHALL")
    if b"hpexpireat" not in server.command("COMMAND LIST FILTERBY PATTERN hpexpireat"):
        return None
    stream = connect(server)
    at = int(time.time() * 1000) + 2000 + fields // 100
    pipe(stream, b"HSET h stays 1\r\n", 1)
    for first in range(0, fields, 1000):
        names = [b"field:%d" % n for n in range(first, first + 1000)]
        pairs = b"".join(b"$%d\r\n%s\r\n$1\r\nv\r\n" % (len(name), name) for name in names)
        alone = b"".join(b"$%d\r\n%s\r\n" % (len(name), name) for name in names)
        head = b"*2002\r\n$4\r\nHSET\r\n$1\r\nh\r\n"
        until = b"*1005\r\n$10\r\nHPEXPIREAT\r\n$1\r\nh\r\n$13\r\n%d\r\n$6\r\nFIELDS\r\n$4\r\n1000\r\n" % at
        pipe(stream, head + pairs + until + alone, 1002)
    time.sleep(max(0, at / 1000 - time.time() - 0.01))
    longest, end = 0, time.time() + 3
    while time.time() < end:
        begun = time.perf_counter()
        pipe(stream, b"HGET h stays\r\n", 2)
        longest = max(longest, time.perf_counter() - begun)
    return longest * 1000


def idle_cpu(server):
    """CPU share of a server with a million pending deadlines and nothing to do."""
    before = server.cpu_seconds()
    time.sleep(5)
    return (server.cpu_seconds() - before) / 5


def main():
    parser = bench.arguments(__doc__)
    parser.add_argument("--probe-wait", type=float, default=20, help="seconds to wait for the probes")
    parser.add_argument("--fields", type=int, default=1_000_000, help="fields of a hash that end at once")
    parser.add_argument("--many", type=int, default=500_000, help="keys that expire within a second")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.load_core})
    bench.build("--example", "load", "examples/load")
    servers = [bench.pinion(options), bench.reference(options)]
    figures = {}
    try:
        for server in servers:
            server.command("CONFIG SET notify-keyspace-events Ex")
            table = figures[server.name] = {}
            table["20,000 over 2 s"] = expire(options, server, 20_000, 2000, False, 30)[0], 20_000
            lags, _ = expire(options, server, 20_000, 2000, True, 30)
            table["the same under 10,000 commands/s"] = lags, 20_000
            lags, commands = expire(options, server, options.many, 1000, True, 60)
            table[f"{options.many:,} within 1 s"] = lags, options.many
            print(f"{server.name}: p99 of commands meanwhile {commands['p99_ms']:.2f} ms")
            table["1,000 probes among 1M keys"] = probes(options, server, 1, options.probe_wait), 1000
            print(f"{server.name}: CPU of an idle server with 1M deadlines {100 * idle_cpu(server):.2f} %")
            longest = longest_beside_fields(server, options.fields)
            if longest is not None:
                print(f"{server.name}: longest HGET while {options.fields:,} other fields of its hash end {longest:.1f} ms")
    finally:
        for server in servers:
            server.stop()
    print(f"{'lag in ms':36}{'server':14}{'heard':>9}{'p50':>9}{'p99':>9}{'max':>9}")
    for case in figures["Pinion"]:
        for name, table in figures.items():
            lags, count = table[case]
            cells = "".join(f"{value:9.2f}" for value in (percentile(lags, 0.5), percentile(lags, 0.99), max(lags, default=float("nan"))))
            print(f"{case:36}{name:14}{len(lags):>9}{cells}")
    bench.finish(options, {name: {case: [len(l), percentile(l, 0.5), percentile(l, 0.99), max(l, default=0)] for case, (l, _) in table.items()} for name, table in figures.items()})


if __name__ == "__main__":
    main()
