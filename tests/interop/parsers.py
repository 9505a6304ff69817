#!/usr/bin/env python3
"""Whether a parser that shares no line with Pinion or Redis reads Pinion's snapshots.

    python3 -m venv venv && venv/bin/pip install rdb-py==0.4.0
    cargo build --release && venv/bin/python tests/interop/parsers.py target/release/pinion

Keys of every type and encoding, in several databases, with and without deadlines, are written to
Pinion and saved, with one shard and with several, compressed and not. Then rdb-py reads the file:
databases, keys, types, values and deadlines must be what was written, no more and no less.

rdb-py 0.4.0 passes over streams and over the deadlines of a hash's fields: of these it shows only
that they are as long as they say. redis-check-rdb and redis-server read them in `tests/wire`.
rdbtools 0.1.15 and rdbtools3 0.1.2, the other parsers of PyPI, refuse every file newer than Redis 6.
"""

import os
import random
import socket
import subprocess
import sys
import tempfile
import time

import rdb


class Client:
    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.input = self.stream.makefile("rb")

    def __call__(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = [b"*%d\r\n" % len(words)] + [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.stream.sendall(b"".join(parts))
        return self.reply()

    def reply(self):
        line = self.input.readline()[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise ValueError(line.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.input.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def texts(rng):
    """Strings of every way to be written: numbers, short, long, compressible, random bytes."""
    yield b""
    for power in (7, 8, 15, 16, 31, 32, 63):
        yield from (b"%d" % (2**power - 1), b"%d" % -(2**power), b"%d" % (2**power))
    yield from (b"007", b"-0", b"+1", b" 1", b"1.0", b"a\r\n\0b")
    for length in (1, 20, 21, 63, 64, 65, 1_000, 16_383, 16_384, 70_000):
        yield b"x" * length
        yield rng.randbytes(length)


def members(rng, count, length):
    found = set()
    while len(found) < count:
        found.add(b"%d" % rng.randrange(-(10**12), 10**12) if rng.random() < 0.3 else rng.randbytes(length))
    return sorted(found)


def values(rng):
    """Name, type as rdb-py calls it, the commands that make it, and the value."""
    for number, text in enumerate(texts(rng)):
        yield f"string:{number}", "string", [("SET", text)], text
    for count, length in ((1, 3), (100, 20), (128, 64), (129, 3), (513, 10), (50, 65), (2_000, 30), (3, 20_000)):
        name = f"{count}x{length}"
        some = members(rng, count, length)
        yield f"list:{name}", "list", [("RPUSH", item) for item in some], some
        yield f"set:{name}", "set", [("SADD", item) for item in some], sorted(some)
        fields = {field: rng.randbytes(length) for field in some}
        yield f"hash:{name}", "hash", [("HSET", *pair) for pair in fields.items()], fields
        scores = {member: rng.choice((0.0, -1.5, 3.0, 1e300, 0.1, 2.0**53)) for member in some}
        scores[some[0]] = float("-inf")
        adds = [("ZADD", repr(score), member) for member, score in scores.items()]
        yield f"zset:{name}", "sorted_set", adds, scores
    for width in (15, 31, 63):
        numbers = sorted(b"%d" % rng.randrange(-(2**width), 2**width) for _ in range(100))
        yield f"intset:{width}", "set", [("SADD", number) for number in set(numbers)], sorted(set(numbers))


def fill(client, rng, dbs):
    """Returns what is there: (db, key) to type, value and deadline."""
    there = {}
    for db in dbs:
        client("SELECT", db)
        for name, kind, commands, value in values(rng):
            key = f"{name}:{rng.randrange(10**9)}".encode()
            for command, *words in commands:
                client(command, key, *words)
            deadline = None
            if rng.random() < 0.4:
                deadline = int(time.time() * 1000) + rng.randrange(10**6, 10**12)
                client("PEXPIREAT", key, deadline)
            there[db, key] = (kind, value, deadline)
        # Gone, or about to be: not in the file.
        client("SET", "gone", "x", "PX", 1)
        client("SET", "deleted", "x")
        client("DEL", "deleted")
        # Passed over by the parser, with all of their fields.
        for n in range(300):
            client("XADD", "stream", f"{n}-1", "field", rng.randbytes(30), "n", n)
        client("XGROUP", "CREATE", "stream", "group", "0")
        client("XREADGROUP", "GROUP", "group", "consumer", "COUNT", 10, "STREAMS", "stream", ">")
        client("XDEL", "stream", "5-1")
    return there


def parsed(path):
    """What the file holds, its version, and its keys per database as it announces them."""
    decoder = rdb.RdbDecoder(path)
    there, db, announced = {}, 0, {}
    for item in decoder:
        kind = item["type"]
        if kind == "select_db":
            db = item["db"]
        elif kind == "resize_db":
            assert db not in announced, f"database {db} is announced twice"
            announced[db] = (item["db_size"], item["expires_size"])
        elif kind not in ("aux_field", "checksum"):
            value = {
                "string": lambda: item["value"],
                "list": lambda: item["values"],
                "set": lambda: sorted(item["members"]),
                "hash": lambda: item["values"],
                "sorted_set": lambda: {member: score for score, member in item["values"]},
            }[kind]()
            assert (db, item["key"]) not in there, f"{item['key']} is there twice"
            there[db, item["key"]] = (kind, value, item["expiry"])
    return there, decoder.version, announced


def compare(wrote, read):
    assert wrote.keys() == read.keys(), f"only in one of them: {wrote.keys() ^ read.keys()}"
    for name, expected in wrote.items():
        assert read[name] == expected, f"{name}: {str(read[name])[:500]} is not {str(expected)[:500]}"


def run(binary, seed, shards, *options):
    rng = random.Random(seed)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        words = [binary, "--port", str(port), "--dir", folder, "--save", "", "--shards", str(shards), *options]
        with open(os.path.join(folder, "log"), "wb") as log:
            server = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            client = wait_for(port)
            there = fill(client, rng, (0, 3, 15))
            time.sleep(0.01)
            client("SAVE")
            path = os.path.join(folder, "dump.rdb")
            read, version, announced = parsed(path)
            assert version == 10, version
            compare(there, read)
            deadlines = lambda db: sum(1 for key, it in there.items() if key[0] == db and it[2])
            keys = lambda db: sum(1 for key in there if key[0] == db) + 1
            assert announced == {db: (keys(db), deadlines(db)) for db in (0, 3, 15)}, announced
            client("SELECT", 3)
            client("HSET", "fields", "a", "1", "b", "2")
            client("HPEXPIRE", "fields", 10**9, "FIELDS", 1, "a")
            there[3, b"fields"] = ("hash", {b"a": b"1", b"b": b"2"}, None)
            client("SAVE")
            read, version, _ = parsed(path)
            assert version == 12, version
            compare(there, read)
        finally:
            server.kill()
            server.wait()
    print(f"{shards} shards {' '.join(options)}: {len(there)} keys agree (seed {seed})")


def wait_for(port):
    for _ in range(1_000):
        try:
            return Client(port)
        except OSError:
            time.sleep(0.01)
    raise SystemExit("the server does not answer")


def main():
    binary = sys.argv[1]
    for seed, shards in ((1, 1), (2, 2), (3, 4)):
        run(binary, seed, shards)
        run(binary, seed + 10, shards, "--rdbcompression", "no")
    run(binary, 21, 2, "--hash-max-listpack-entries", "0", "--zset-max-listpack-entries", "0", "--set-max-intset-entries", "0")


if __name__ == "__main__":
    main()
