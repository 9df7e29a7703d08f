#!/usr/bin/env python3
"""Runs the test executables that `cargo test --no-run --message-format=json` names on its standard
input, several at once, for most tests of brokers wait; arguments go to each of them.

Cargo runs them one after the other and stops at the first that fails. Here all run, what each says is
printed when it ends, and those that failed are named at the end. JOBS says how many run at
once, of those that use brokers and of the others.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

JOBS = int(os.environ.get("JOBS") or 2)
# Packages that use the brokers which scripts/test.sh has started.
BROKERS = ("runtime/crates/broker-", "examples/demo", "tests.")
# Those that stop and kill the broker of their package go before and after all others that use one; the members
# of one have sessions of 1.5 s, too short for the crowd between.
STAGES = {"conformance": 0, "processes": 2, "restart": 2}
# Lines of the reasons of a failure that are said again at the end.
SAID = 40
# Longest first, of those that use no broker.
LONG = ("languages", "reach", "host")
# These compile dozens of components and have no time limits: whoever has some gets the processor before them.
PATIENT = ("languages", "reach")

# Their tests use the processor more than they wait, and each is a runtime with a broker: more than so many at once
# starve the brokers, which then answer too late.
FEW_AT_ONCE = {"demo": "2"}

printing = threading.Lock()


class Test:
    def __init__(self, message):
        self.folder = Path(message["manifest_path"]).parent
        self.executable = message["executable"]
        name = message["target"]["name"]
        package = str(self.folder.relative_to(Path.cwd()))
        self.title = f"{package} {name}"
        uses_broker = f"{package}.".startswith(BROKERS)
        self.stage = STAGES.get(name, 1) if uses_broker else None
        self.is_long = name in LONG
        self.is_patient = name in PATIENT
        self.environment = {"CARGO_MANIFEST_DIR": str(self.folder)}
        if name in FEW_AT_ONCE:
            self.environment["RUST_TEST_THREADS"] = FEW_AT_ONCE[name]

    def run(self, alone):
        """None where it passed; otherwise what to say of it at the end."""
        began = time.monotonic()
        output = None if alone else subprocess.PIPE
        nice = ["nice", "-n", "10"] if self.is_patient and not alone else []
        process = subprocess.Popen(
            [*nice, self.executable, *sys.argv[1:]],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output and subprocess.STDOUT,
        )
        said = process.stdout.read() if output else b""
        # Python's own waiting does not tell what was used, by it and by the processes that it waited for
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        took = f"{time.monotonic() - began:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of processor"
        with printing:
            print(f"\n== {self.title}: {took}", flush=True)
            sys.stdout.buffer.write(said)
            sys.stdout.buffer.flush()
        return None if process.returncode == 0 else Failure(self.title, said)


class Failure:
    def __init__(self, title, output):
        self.title = title
        backtrace = re.compile(r"\s+(\d+: |at )|stack backtrace|note: |\s*$")
        lines = output.decode(errors="replace").splitlines()
        lines = [line for line in lines if not backtrace.match(line)]
        self.tests = [line for line in lines if re.match(r"test .*FAILED", line)]
        # the message lies below `panicked at`; what a test returned, behind `Error:`
        says = [n for n, line in enumerate(lines) if re.search(r"panicked at|^Error:", line)]
        self.reasons = [line for n in says for line in lines[n : n + 4]]

    def __str__(self):
        return "\n".join([f"== {self.title}", *self.tests, *self.reasons[:SAID]])


def selected(messages):
    for line in messages:
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message["profile"]["test"]:
            yield Test(message)


def main():
    tests = sorted(selected(sys.stdin), key=lambda test: not test.is_long)
    if not tests:
        sys.exit("no test executables: cargo has said why")
    # executables of procedural macros are linked with the compiler's own libraries
    libraries = subprocess.check_output(["rustc", "--print", "target-libdir"], text=True).strip()
    paths = [libraries, os.environ.get("LD_LIBRARY_PATH")]
    os.environ["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))

    alone = len(tests) == 1
    ends = []
    with ThreadPoolExecutor(JOBS) as free:
        ends += [free.submit(t.run, alone) for t in tests if t.stage is None]
        for stage in (0, 1, 2):
            with ThreadPoolExecutor(JOBS) as pool:
                ends += [pool.submit(t.run, alone) for t in tests if t.stage == stage]
    failed = [failure for failure in (end.result() for end in ends) if failure]
    if failed:
        print("\nfailures again, in short:\n", *failed, sep="\n")
    print(f"\n{len(tests) - len(failed)} of {len(tests)} test executables passed", flush=True)
    if failed:
        sys.exit("FAILED: " + ", ".join(failure.title for failure in failed))


main()
