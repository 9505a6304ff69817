#!/usr/bin/env python3
"""CPU time of a hundred different commands, side by side with a reference server.

Collections have 10, 100, 1,000 (keys that end in s, m, l) or 20,000 elements (xl). Commands are sent by
redis-benchmark, pipelined by 16, as often as takes the reference a third of a second; servers alternate.
The list ends with where Pinion is worst."""

import random
import re
import sys

import bench

SIZES = {"s": 10, "m": 100, "l": 1_000, "xl": 20_000}
ANY = "__rand_int__"
COMMANDS = f"""
PING
GET key:{ANY}
SETEX other:{ANY} 1000 value
SET key:{ANY} value GET
APPEND appended:{ANY} x
GETRANGE long:1 100 200
SETRANGE long:3 5000 hello
INCRBYFLOAT float:{ANY} 1.5
MGET {" ".join([f"key:{ANY}"] * 10)}
EXISTS key:{ANY}
DEL key:{ANY}
EXPIRE key:{ANY} 1000
TTL key:{ANY}
COPY key:{ANY} copy:{ANY} REPLACE
SCAN 0 MATCH nothing* COUNT 100
DUMP list:m:1
OBJECT ENCODING key:{ANY}
MEMORY USAGE set:l:0
BITCOUNT long:1
BITPOS long:1 0 50000
SETBIT bits 100007 1
BITFIELD bits INCRBY u8 1000 1
BITOP AND target long:1 long:2
LCS text:1 text:2
LRANGE list:s:0 0 -1
LRANGE list:l:0 0 -1
LINDEX list:xl:0 10000
LSET list:l:0 500 value
LINSERT list:l:1 BEFORE element:500 x
LPOS list:l:0 none
LREM list:l:0 0 none
LMOVE list:l:0 list:l:2 LEFT RIGHT
SISMEMBER set:xl:0 element:{ANY}
SMISMEMBER set:xl:0 element:1 element:2 element:3 element:4
SMEMBERS set:m:0
SMEMBERS set:l:0
SINTER set:m:0 set:m:1
SINTER set:l:0 set:l:1
SINTER ints:l:0 ints:l:3
SINTERCARD 2 set:l:0 set:l:1
SUNION set:l:0 set:l:1
SDIFF set:l:0 set:l:1
SUNIONSTORE target set:l:0 set:l:1
SRANDMEMBER set:xl:0 10
SSCAN set:xl:0 0 COUNT 100
HGET hash:xl:0 field:{ANY}
HMGET hash:xl:0 field:1 field:2 field:3 field:4
HGETALL hash:s:0
HGETALL hash:l:0
HINCRBY counts field:{ANY} 1
HRANDFIELD hash:xl:0 10 WITHVALUES
HSCAN hash:xl:0 0 COUNT 100
HSET hash:s:1 field:5 value
ZADD zset:s:1 5 element:5
ZADD zset:xl:0 500 element:{ANY}
ZINCRBY zset:xl:0 1 element:{ANY}
ZSCORE zset:xl:0 element:{ANY}
ZRANK zset:xl:0 element:{ANY}
ZRANGE zset:xl:0 500 510
ZRANGE zset:l:0 0 100 WITHSCORES
ZREVRANGE zset:l:0 0 100
ZRANGEBYSCORE zset:xl:0 500 501 LIMIT 0 10
ZCOUNT zset:xl:0 100 900
ZUNION 2 zset:l:0 zset:l:1
ZINTER 2 zset:l:0 zset:l:1
ZUNIONSTORE target 2 zset:l:0 zset:l:1
ZRANGESTORE target zset:l:0 0 100
ZDIFF 2 zset:l:0 zset:l:1
ZRANDMEMBER zset:xl:0 10
ZSCAN zset:xl:0 0 COUNT 100
XADD events * field value
XADD bounded MAXLEN ~ 1000 * field value
XRANGE stream:l:0 - + COUNT 100
XREAD COUNT 10 STREAMS stream:l:0 500-1
XREADGROUP GROUP group consumer COUNT 1 STREAMS stream:l:0 0
XPENDING stream:l:0 group
XINFO STREAM stream:l:0
GEOSEARCH places FROMLONLAT 10 10 BYRADIUS 1000 km COUNT 10 ASC
GEOADD places 10 10 place:{ANY}
GEOPOS places place:1 place:2
PFADD hll:0 element:{ANY}
PFCOUNT hll:1
PFCOUNT hll:1 hll:2
PFMERGE merged hll:1 hll:2
SORT list:l:1 ALPHA
EVALSHA {{get}} 1 key:{ANY}
EVALSHA {{sets}} 1 key:1
PUBLISH nobody message
CLIENT LIST
CONFIG GET maxmemory
INFO
"""
SCRIPTS = {
    "get": "return redis.call('get', KEYS[1])",
    "sets": "for i = 1, 20 do redis.call('set', KEYS[1], i) end",
}


def fillers():
    rng = random.Random(1)
    yield from (("SET", f"key:{n:012}", "x" * 64) for n in range(100_000))
    for text, long in (("text", 40), ("long", 11_000)):
        yield from (("SET", f"{text}:{n}", f"abcdefg{n}" * long) for n in (1, 2, 3))
    for size, count in SIZES.items():
        for key in (f"{size}:{n}" for n in range(4)):
            first = int(key.split(":")[1]) * count // 4
            for n in range(count):
                name = f"element:{n + first}"
                yield ("RPUSH", f"list:{key}", f"element:{n}")
                yield ("SADD", f"set:{key}", name)
                yield ("SADD", f"ints:{key}", str(3 * n + first))
                yield ("HSET", f"hash:{key}", f"field:{n}", f"value:{n}")
                yield ("ZADD", f"zset:{key}", repr(rng.random() * 1000), name)
                yield ("XADD", f"stream:{key}", f"{n + 1}-1", "field", "value")
    yield ("XGROUP", "CREATE", "stream:l:0", "group", "0")
    for n in range(10_000):
        yield ("GEOADD", "places", repr(rng.uniform(-180, 180)), repr(rng.uniform(-80, 80)), f"place:{n}")
        yield ("PFADD", f"hll:{n % 3}", f"element:{n}")


def start(options):
    servers = [bench.pinion(options), bench.reference(options)]
    for server in servers:
        bench.Client(server.port).run(fillers())
    return servers


def send(options, server, words, requests):
    """CPU seconds that so many requests take."""
    command = ["redis-benchmark", "-q", "-p", str(server.port), "-c", "20", "-P", "16"]
    command += ["-r", "100000", "-n", str(requests)] + words
    before = server.cpu_seconds()
    said = bench.run(options, command)
    if error := re.search(r"Error from server.*", said):
        sys.exit(f"{server.name} said to {' '.join(words)}: {error.group()}")
    return server.cpu_seconds() - before


def measure(options, servers, words):
    """Microseconds of both servers, and the median of their ratios."""
    wanted, requests = 0.3, 500
    while (took := send(options, servers[1], words, requests)) < wanted:
        requests = int(requests * min(20, 1.3 * wanted / max(took, 0.01))) + 1
    samples = [[], []]
    for number in range(options.pairs):
        for at in (0, 1) if number % 2 == 0 else (1, 0):
            samples[at].append(send(options, servers[at], words, requests) * 1e6 / requests)
    ratio = bench.median([ours / theirs for ours, theirs in zip(*samples)])
    return [bench.median(of) for of in samples] + [ratio]


def main():
    parser = bench.arguments(__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", default="", help="how the commands begin, separated by commas")
    options = parser.parse_args()
    only = [begin.lower() for begin in options.only.split(",") if begin]
    servers = start(options)
    try:
        loaded = {}
        for name, script in SCRIPTS.items():
            quoted = script.replace('"', '\\"')
            replies = [server.command(f'SCRIPT LOAD "{quoted}"') for server in servers]
            loaded[name] = replies[0].split()[1].decode()
        figures = {}
        print(f"{'microseconds of CPU':44}{'Pinion':>10}{'reference':>12}{'ratio':>8}")
        for line in COMMANDS.strip().splitlines():
            if only and not any(line.lower().startswith(begin) for begin in only):
                continue
            ours, theirs, ratio = measure(options, servers, line.format(**loaded).split())
            figures[line] = {"Pinion": ours, "reference": theirs, "ratio": ratio}
            print(f"{line[:43]:44}{ours:10.2f}{theirs:12.2f}{ratio:8.2f}", flush=True)
    finally:
        for server in servers:
            server.stop()
    order = sorted(figures, key=lambda line: -figures[line]["ratio"])
    ratios = [figures[line]["ratio"] for line in order]
    print(f"\nmedian of {len(order)} ratios {bench.median(ratios):.2f}; highest:")
    for line in order[:10]:
        print(f"  {figures[line]['ratio']:.2f} {line}")
    bench.finish(options, figures)


if __name__ == "__main__":
    main()
