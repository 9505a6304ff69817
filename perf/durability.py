#!/usr/bin/env python3
"""What durability costs: latency beside a snapshot of many keys and of one large collection, time of
snapshots and of starts, throughput and CPU of the append-only file."""

import os
import re
import shutil
import subprocess
import threading
import time

import bench


def benchmark(options, server, requests, *words):
    """Requests a second and CPU seconds of the server per million, of redis-benchmark."""
    before = server.cpu_seconds()
    done = subprocess.run(
        ["redis-benchmark", "-p", str(server.port), "-n", str(requests), "-q", "-t", "set",
         "-r", "1000000", "-d", "64", *words],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {options.load_core}),
    )
    rate = float(re.findall(r"([\d.]+) requests per second", done.stdout)[-1])
    return rate, (server.cpu_seconds() - before) / requests * 1e6


def info(server, name):
    import socket

    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as stream:
        stream.sendall(b"INFO persistence\r\n")
        text = b""
        while b"module_fork_last_cow_size" not in text:
            text += stream.recv(65536)
    return re.search(rb"\b%s:(\S+)" % name.encode(), text).group(1).decode()


def beside_a_snapshot(options, server, look=None):
    """An open loop of SETs while BGSAVE runs: its figures. `look` is called again and again meanwhile."""
    words = bench.load_command("open", server.port, {"rate": 10_000, "seconds": 8, "connections": 50})
    load = subprocess.Popen(words, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {options.load_core}))
    time.sleep(1.5)
    server.command("BGSAVE")
    while load.poll() is None:
        if look:
            look()
        time.sleep(0.2)
    return bench.json.loads(load.stdout.read())


def memory_beside_a_snapshot(options, server):
    """How much memory BGSAVE takes, as a part of what there was. In a run of its own: looking takes
    milliseconds for so large a process, and locks its memory meanwhile."""
    before, seen = server.rss_bytes(), [0]
    beside_a_snapshot(options, server, lambda: seen.append(tree_rss(server.process.pid)))
    return max(seen) / before


def tree_rss(pid):
    """Proportional memory of a process and its children: a fork shares pages until they change."""
    total = 0
    pids = [pid]
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            pids += [int(word) for word in file.read().split()]
        for one in pids:
            with open(f"/proc/{one}/smaps_rollup") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024
    except (OSError, StopIteration):
        pass
    return total


def save_seconds(server):
    began = time.time()
    server.command("SAVE")
    return time.time() - began


def start_seconds(options, server, make):
    """Time from the start of a process until it has loaded the other's snapshot."""
    copy = make()
    copy.process.kill()
    copy.process.wait()
    shutil.copy(os.path.join(server.dir, "dump.rdb"), copy.dir)
    began = time.time()
    process = subprocess.Popen(copy.process.args, cwd=copy.dir, stdout=copy.log, stderr=copy.log,
                               preexec_fn=lambda: os.sched_setaffinity(0, {options.server_core}))
    while True:
        try:
            if info(copy, "loading") == "0":
                break
        except OSError:
            pass
        time.sleep(0.01)
    took = time.time() - began
    process.kill()
    process.wait()
    shutil.rmtree(copy.dir, ignore_errors=True)
    return took


def snapshots(options):
    makers = [lambda: bench.pinion(options), lambda: bench.reference(options)]
    servers = [make() for make in makers]
    rows = []
    try:
        for server in servers:
            words = ("-P", "64", "-r", str(options.keys))
            for _ in range(3):
                benchmark(options, server, options.keys, *words)
        for make, server in zip(makers, servers):
            saves = [save_seconds(server) for _ in range(3)]
            loads = [start_seconds(options, server, make) for _ in range(3)]
            latency = beside_a_snapshot(options, server)
            memory = memory_beside_a_snapshot(options, server)
            rows.append((server.name, bench.median(saves), bench.median(loads), latency, memory))
    finally:
        for server in servers:
            server.stop()
    print(f"{'':16}{'SAVE s':>9}{'load s':>9}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'memory':>9}   (10,000 SET/s beside BGSAVE)")
    for name, save, load, latency, memory in rows:
        print(f"{name:16}{save:9.2f}{load:9.2f}{latency['p50_ms']:9.2f}{latency['p99_ms']:9.2f}{latency['max_ms']:9.2f}{memory:9.2f}")
    return rows


LARGE = {
    "hash": lambda at: ["HSET", "large", f"field:{at}", f"value:{at}"],
    "set": lambda at: ["SADD", "large", f"member:{at}"],
    "sorted set": lambda at: ["ZADD", "large", str(at * 7 % 1000), f"member:{at}"],
    "list": lambda at: ["RPUSH", "large", f"element:{at}"],
    "stream": lambda at: ["XADD", "large", "*", "field", f"value:{at}"],
}


def deliver(elements):
    """Makes all entries of the stream pending for four consumers."""
    yield ["XGROUP", "CREATE", "large", "group", "0"]
    at_once = 10_000
    for n in range(-(-elements // at_once)):
        yield ["XREADGROUP", "GROUP", "group", f"consumer:{n % 4}", "COUNT", str(at_once), "STREAMS", "large", ">"]


class Changer(threading.Thread):
    """Adds to a collection again and again, and notes the longest time that this took, seconds."""

    def __init__(self, server, command):
        super().__init__()
        self.server, self.make = server, command
        self.ends, self.longest = False, 0.0

    def run(self):
        client = bench.Client(self.server.port)
        at = 0
        while not self.ends:
            at += 1
            began = time.perf_counter()
            client.run([self.make(at)])
            self.longest = max(self.longest, time.perf_counter() - began)
            time.sleep(0.002)


def large_collections(options):
    """Latency beside BGSAVE of one collection of a million, for others and for who changes it. All of the
    stream is pending."""
    servers = [bench.pinion(options), bench.reference(options)]
    rows = []
    try:
        for kind, command in LARGE.items():
            for server in servers:
                server.command("FLUSHALL")
                client = bench.Client(server.port)
                client.run(map(command, range(options.elements)))
                if kind == "stream":
                    client.run(deliver(options.elements))
                changer = Changer(server, command)
                changer.start()
                latency = beside_a_snapshot(options, server)
                changer.ends = True
                changer.join()
                rows.append((kind, server.name, latency, changer.longest * 1e3))
    finally:
        for server in servers:
            server.stop()
    print(f"\n{'BGSAVE of one':14}{'':16}{'p99 ms':>9}{'max ms':>9}{'changes: max ms':>18}")
    for kind, name, latency, longest_ms in rows:
        print(f"{kind:14}{name:16}{latency['p99_ms']:9.2f}{latency['max_ms']:9.2f}{longest_ms:18.2f}")
    return rows


def journals(options):
    cases = [("off", 200), ("everysec", 200), *(("always", clients) for clients in (200, 50, 10, 1))]
    samples = {}
    servers = [bench.pinion(options), bench.reference(options)]
    try:
        for _ in range(options.pairs):
            for policy, clients in cases:
                for server in servers:
                    server.command("CONFIG SET appendonly " + ("no" if policy == "off" else "yes"))
                    if policy != "off":
                        server.command(f"CONFIG SET appendfsync {policy}")
                        while info(server, "aof_rewrite_in_progress") != "0":
                            time.sleep(0.05)
                    # A few clients that wait for the disk each time take long.
                    requests = min(options.requests, clients * 4_000)
                    got = benchmark(options, server, requests, "-c", str(clients))
                    samples.setdefault((policy, clients, server.name), []).append(got)
    finally:
        for server in servers:
            server.stop()
    print(f"\n{'SET, connections':24}{'Pinion/s':>12}{servers[1].name + '/s':>16}{'ratio':>8}{'Pinion CPU':>12}{'CPU':>8}")
    for policy, clients in cases:
        (rate, cpu), (other, other_cpu) = (
            tuple(bench.median(values) for values in zip(*samples[policy, clients, server.name])) for server in servers
        )
        print(f"{f'{policy}, {clients}':24}{rate:12.0f}{other:16.0f}{rate / other:8.2f}{cpu:12.2f}{other_cpu:8.2f}")
    return {f"{policy} {clients} {name}": values for (policy, clients, name), values in samples.items()}


def main():
    parser = bench.arguments(__doc__)
    parser.add_argument("--keys", type=int, default=3_000_000)
    parser.add_argument("--elements", type=int, default=1_000_000, help="of large collections")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    # Not on the server's core, which this script would share.
    os.sched_setaffinity(0, {options.load_core})
    bench.build("--example", "load", "examples/load")
    figures = {"snapshots": snapshots(options), "large": large_collections(options), "journals": journals(options)}
    bench.finish(options, figures)


if __name__ == "__main__":
    main()
