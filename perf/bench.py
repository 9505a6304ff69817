"""What the scripts of this folder share: servers on a core, their CPU time and memory, the load
generator, and the facts of the machine. Python's standard library only."""

import argparse
import functools
import json
import os
import platform
import resource
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TICKS = os.sysconf("SC_CLK_TCK")
# Commands that a client sends before it reads replies.
BATCH = 500


def arguments(about):
    """The options every script has."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--reference",
        default="redis-server",
        help="command line of the server to compare with (any RESP server; {port} is replaced, "
        "and without it `--port N --save '' --appendonly no` is added)",
    )
    parser.add_argument("--pinion", help="the binary (default: build target/release/pinion)")
    parser.add_argument("--server-core", type=int, default=1)
    parser.add_argument("--load-core", type=int, default=0)
    parser.add_argument("--json", help="write the figures to this file")
    return parser


class Server:
    """One server process, pinned, keeping nothing on disk."""

    def __init__(self, name, command, cores, env=None):
        self.name = name
        self.dir = tempfile.mkdtemp(prefix="pinion-perf-")
        self.port = free_port()
        words = shlex.split(command)
        if any("{port}" in word for word in words):
            words = [word.replace("{port}", str(self.port)) for word in words]
        else:
            words += ["--port", str(self.port), "--save", "", "--appendonly", "no"]
        self.log = open(os.path.join(self.dir, "log"), "w+")
        self.process = subprocess.Popen(
            words,
            cwd=self.dir,
            env=os.environ | (env or {}),
            stdout=self.log,
            stderr=self.log,
            preexec_fn=lambda: (raise_files(), os.sched_setaffinity(0, cores)),
        )
        self.wait()

    def wait(self):
        deadline = time.time() + 20
        while time.time() < deadline:
            try:
                if self.command("PING").startswith(b"+"):
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.log.seek(0)
        sys.exit(f"{self.name} does not start:\n{self.log.read()}")

    def command(self, line):
        """Sends one inline command and returns the first bytes of the reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as stream:
            stream.sendall(line.encode() + b"\r\n")
            return stream.recv(65536)

    def cpu_seconds(self):
        """User and system time of all threads so far."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def encode(words):
    parts = [f"*{len(words)}\r\n"]
    parts += [f"${len(word)}\r\n{word}\r\n" for word in words]
    return "".join(parts).encode()


class Client:
    """A connection that sends batches and counts replies."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")

    def run(self, commands):
        batch = []
        for command in commands:
            batch.append(encode(command))
            if len(batch) == BATCH:
                self.flush(batch)
        self.flush(batch)

    def flush(self, batch):
        self.socket.sendall(b"".join(batch))
        for _ in batch:
            self.reply()
        batch.clear()

    def reply(self):
        line = self.file.readline()
        if line[:1] == b"-":
            raise SystemExit(f"the server said {line!r}")
        if line[:1] == b"$" and line != b"$-1\r\n":
            self.file.read(int(line[1:]) + 2)
        elif line[:1] == b"*":
            for _ in range(max(0, int(line[1:]))):
                self.reply()


def pinion(options, shards=1, cores=None, settings="", env=None):
    binary = options.pinion or build("--bin", "pinion", "pinion")
    cores = cores or {options.server_core}
    words = f"{shlex.quote(os.path.abspath(binary))} --shards {shards} {settings}"
    return Server("Pinion", words, cores, env)


def reference(options, cores=None, env=None):
    name = os.path.basename(shlex.split(options.reference)[0])
    return Server(name, options.reference, cores or {options.server_core}, env)


@functools.cache
def build(kind, target, path):
    """Builds one release target and returns its path."""
    subprocess.run(["cargo", "build", "-q", "--release", kind, target], cwd=ROOT, check=True)
    return os.path.join(ROOT, "target", "release", path)


def run(options, words):
    """Runs a load generator on its core; returns all that it says."""
    done = subprocess.run(
        words,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: os.sched_setaffinity(0, {options.load_core}),
    )
    return done.stdout.replace("\r", "\n")


def load(options, mode, port, **parameters):
    """Runs the load generator on its core and returns its figures."""
    words = load_command(mode, port, parameters)
    done = subprocess.run(
        words,
        check=True,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: (raise_files(), os.sched_setaffinity(0, {options.load_core})),
    )
    return json.loads(done.stdout)


def load_command(mode, port, parameters):
    words = [build("--example", "load", "examples/load"), mode, "--port", str(port)]
    for name, value in parameters.items():
        words += ["--" + name.replace("_", "-"), str(value)]
    return words


def raise_files():
    """As many open files as the machine lets us have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def machine():
    model = "unknown"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def finish(options, figures):
    """Prints where the figures come from and keeps them if asked to."""
    facts = machine()
    print(
        f"\n{facts['cpu']}, {facts['cpus']} CPUs, Linux {facts['kernel']}, {facts['date']}, "
        f"load average {facts['load_average']:.2f}"
    )
    if facts["load_average"] > 2.5:
        print("The machine was busy with something else: repeat before quoting.")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": facts, "figures": figures}, file, indent=1)


def median(values):
    return statistics.median(values)
