#!/usr/bin/env python3
"""Resident memory per key: 1M keys of 16 bytes with 64-byte values, unless told otherwise."""

import bench


def main():
    parser = bench.arguments(__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--value-bytes", type=int, default=64)
    options = parser.parse_args()
    figures = {}
    for start in (bench.pinion, bench.reference):
        server = start(options)
        try:
            before = server.rss_bytes()
            bench.load(options, "fill", server.port, keys=options.keys, value_bytes=options.value_bytes)
            per_key = (server.rss_bytes() - before) / options.keys
        finally:
            server.stop()
        figures[server.name] = {"rss_per_key": per_key}
        print(f"{server.name:16}{per_key:8.1f} bytes of RSS per key")
    bench.finish(options, figures)


if __name__ == "__main__":
    main()
