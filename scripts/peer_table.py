#!/usr/bin/env python3
"""Runs krul and llama.cpp side by side and prints one table of medians and paired ratios.

Each side is a process that speaks the line protocol of benchmarks/peer/README.md. A round asks every side once, in an
order that rotates; only rounds in which other processes and the hypervisor took no more than 3 % of the processors count.
These are the rules of krul/eval/paired_rounds.hpp. Standard library only.
"""

import argparse
import json
import math
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

MOST_FOREIGN_SHARE = 0.03
LEAST_ROUND_S = 0.5


class Failure(Exception):
    """Something outside went wrong; the text says what to do."""


# ---- the machine's load ----------------------------------------------------------------------------------------------


def processor_times(proc_stat):
    """(busy, stolen, total) in clock ticks from the text of /proc/stat."""
    user, nice, system, idle, iowait, irq, softirq, steal = (int(word) for word in proc_stat.split("\n")[0].split()[1:9])
    busy = user + nice + system + irq + softirq
    return busy, steal, busy + steal + idle + iowait


def process_ticks(proc_pid_stat):
    """User and kernel ticks of a process and of the children that it waited for."""
    return sum(int(word) for word in proc_pid_stat.rsplit(")", 1)[1].split()[11:15])


def foreign_share(before, after):
    """Share of all processor time that others took between two samples (busy, stolen, total, own)."""
    busy, stolen, total, own = (max(0, late - early) for early, late in zip(before, after))
    return min(1.0, (max(0, busy - own) + stolen) / total) if total else 0.0


class MachineLoad:
    """Reads this machine's /proc; own are this process and those named."""

    def __init__(self, processes):
        self.processes = ["self", *map(str, processes)]

    def sample(self):
        try:
            with open("/proc/stat", encoding="ascii") as file:
                machine = processor_times(file.read())
            own = 0
            for process in self.processes:
                with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
                    own += process_ticks(file.read())
        except (OSError, ValueError) as problem:
            raise Failure(f"the machine's load cannot be read ({problem}): measure on Linux") from problem
        return (*machine, own)


def machine_description():
    """What every table names: ratios taken on different machines do not compare."""
    entries = {}
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            key, colon, value = line.partition(":")
            if colon:
                entries.setdefault(key.strip(), value.strip())
    return {
        "processor": entries.get("model name", "unknown"),
        "family": int(entries.get("cpu family", 0)),
        "model": int(entries.get("model", 0)),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


# ---- statistics ------------------------------------------------------------------------------------------------------


def median_interval(values, coverage=0.95):
    """(low, high, coverage reached) of the median by the sign test: no assumption, exact for few rounds."""
    ordered = sorted(values)
    count = len(ordered)
    missed = 0.0
    found = None
    for left_out in range((count + 1) // 2):
        missed += 2 * math.comb(count, left_out) / 2**count
        if found and 1 - missed < coverage:
            break
        found = (ordered[left_out], ordered[count - 1 - left_out], 1 - missed)
    return found


def paired_ratio(values, baseline):
    """Median and interval of values / baseline, round by round."""
    ratios = [value / base for value, base in zip(values, baseline)]
    low, high, coverage = median_interval(ratios)
    return {"median": statistics.median(ratios), "low": low, "high": high, "coverage": coverage}


# ---- the two sides ---------------------------------------------------------------------------------------------------


class Side:
    """A process that answers one JSON line to each command line, and is idle in between."""

    def __init__(self, name, command, is_krul):
        self.name = name
        self.is_krul = is_krul
        words = shlex.split(command)
        if not words or not shutil.which(words[0]):
            raise Failure(f"{name}: there is no program {words[0] if words else ''!r}")
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.hello = self._reply("starting")

    def ask(self, command):
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the reply below says how it ended
        return self._reply(command)

    def _reply(self, command):
        line = self.process.stdout.readline()
        if not line:
            raise Failure(f"{self.name}: ended with status {self.process.wait()} at '{command}'")
        try:
            reply = json.loads(line)
        except ValueError as problem:
            self.stop()
            raise Failure(f"{self.name}: answered '{command}' with something else than JSON: {line.strip()}") from problem
        if not reply.get("ok"):
            raise Failure(f"{self.name}: '{command}': {reply.get('error', 'refused')}")
        return reply

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@dataclass
class Case:
    """One row group: what to ask each side. {state} in a command is the side's own state file."""

    name: str
    command: str
    tokens: int  # that the tokens a second refer to; 0 where they say nothing
    prepare: str = ""


@dataclass
class Rounds:
    """The replies of the rounds that count."""

    replies: list = field(default_factory=list)  # [round][side][pass]
    foreign_shares: list = field(default_factory=list)
    discarded: int = 0
    noisy: bool = False

    def values(self, side, key="seconds"):
        return [statistics.median(reply[key] for reply in round_[side]) for round_ in self.replies]


def run_rounds(sides, ask, load, clean_rounds=7, most_rounds=40, now=time.monotonic):
    """Asks all sides in rotating order until enough rounds were quiet; ask(side) gives one reply."""
    for side in sides:
        ask(side)  # warm-up
    finished = []
    clean = 0
    while clean < clean_rounds and len(finished) < most_rounds:
        replies = {side.name: [] for side in sides}
        before, start = load.sample(), now()
        while True:
            for turn in range(len(sides)):
                side = sides[(clean + turn) % len(sides)]
                replies[side.name].append(ask(side))
            if now() - start >= LEAST_ROUND_S:
                break
        share = foreign_share(before, load.sample())
        clean += share <= MOST_FOREIGN_SHARE
        finished.append((share, replies))
    # Clean ones first, in the order they were run; then the quietest of the others.
    counted = sorted(finished, key=lambda item: max(item[0], MOST_FOREIGN_SHARE))[:clean_rounds]
    return Rounds(
        replies=[replies for _, replies in counted],
        foreign_shares=[share for share, _ in counted],
        discarded=len(finished) - len(counted),
        noisy=clean < clean_rounds,
    )


# ---- the table -------------------------------------------------------------------------------------------------------


def cases_from(options):
    cases = [Case(f"prefill {count}", f"prefill {count}", count) for count in options.prefill]
    for pair in options.decode:
        history, count = (int(part) for part in pair.split(":"))
        cases.append(Case(f"decode {count} after {history}", f"decode {history} {count}", count))
    history, prompt = options.history, options.prompt
    if history:
        save = f"save {history} {{state}}"
        cases.append(Case(f"save {history}", save, 0))
        cases.append(Case(f"restore {history} + {prompt}", f"restore {history} {prompt} {{state}}", 0, prepare=save))
    return cases


def result_of(case, sides, rounds):
    """One case as it goes into the JSON."""
    medians = {side.name: statistics.median(rounds.values(side.name)) for side in sides}
    peers = [side.name for side in sides if not side.is_krul]
    best = min(peers, key=medians.get) if peers else None
    rows = []
    for side in sides:
        row = {"side": side.name, "krul": side.is_krul, "seconds": medians[side.name]}
        if case.tokens:
            row["tokens_per_s"] = case.tokens / medians[side.name]
        first = rounds.replies[0][side.name][0]
        for key in ("restore_s", "prompt_s"):
            if key in first:
                row[key] = statistics.median(rounds.values(side.name, key))
        if "bytes" in first:
            row["bytes"] = first["bytes"]
        if best:
            row["ratio_to_best_peer"] = paired_ratio(rounds.values(side.name), rounds.values(best))
        row["rounds_s"] = rounds.values(side.name)
        rows.append(row)
    return {
        "case": case.name,
        "best_peer": best,
        "clean_rounds": sum(share <= MOST_FOREIGN_SHARE for share in rounds.foreign_shares),
        "discarded_rounds": rounds.discarded,
        "noisy": rounds.noisy,
        "foreign_shares": rounds.foreign_shares,
        "sides": rows,
    }


def table(cells):
    """Lines of a table whose first two columns are names and the rest figures."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = []
    for number, row in enumerate(cells):
        padded = [cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))]
        lines.append("  ".join(padded).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return lines


def rows_for_people(results):
    cells = [("case", "side", "median ms", "tokens/s", "bytes", "time / best peer", "rounds")]
    for result in results:
        for row in result["sides"]:
            ratio = row.get("ratio_to_best_peer")
            cells.append(
                (
                    result["case"],
                    row["side"],
                    f"{1000 * row['seconds']:.1f}",
                    f"{row['tokens_per_s']:.0f}" if "tokens_per_s" in row else "-",
                    str(row.get("bytes", "-")),
                    f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else "-",
                    f"{result['clean_rounds']} clean, {result['discarded_rounds']} discarded"
                    + (", NOISY" if result["noisy"] else ""),
                )
            )
    return cells


def start_sides(options):
    sides = []
    try:
        for is_krul, named in ((False, options.llama), (True, options.krul)):
            for item in named:
                name, equals, command = item.partition("=")
                if not equals:
                    raise Failure(f"'{item}': write NAME=COMMAND")
                try:
                    sides.append(Side(name, command, is_krul))
                except Failure as failure:
                    if not is_krul:
                        raise
                    print(f"{failure}; krul's side '{name}' is left out", file=sys.stderr)
        if not sides:
            raise Failure("no side to measure: give --llama or --krul NAME=COMMAND")
        if len({side.name for side in sides}) < len(sides):
            raise Failure("two sides have the same name")
    except Failure:
        for side in sides:
            side.stop()
        raise
    return sides


def measure(options, sides, folder):
    load = MachineLoad([side.process.pid for side in sides])
    state = {side.name: os.path.join(folder, f"{number}.state") for number, side in enumerate(sides)}
    results = []
    for case in cases_from(options):
        if case.prepare:
            for side in sides:
                side.ask(case.prepare.format(state=state[side.name]))
        rounds = run_rounds(
            sides,
            lambda side, case=case: side.ask(case.command.format(state=state[side.name])),
            load,
            options.clean_rounds,
            options.most_rounds,
        )
        results.append(result_of(case, sides, rounds))
        if sys.stderr.isatty():
            print(f"{case.name}: {rounds.discarded} rounds discarded", file=sys.stderr)
    return results


def counts(text):
    return [int(part) for part in text.split(",") if part]


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", action="append", default=[], metavar="NAME=COMMAND", help="a llama_peer serve process")
    parser.add_argument("--krul", action="append", default=[], metavar="NAME=COMMAND", help="a krul bench serve process")
    parser.add_argument("--prefill", type=counts, default=[128, 512, 1024], metavar="N,N,...")
    parser.add_argument("--decode", type=lambda text: [p for p in text.split(",") if p], default=["512:64"],
                        metavar="HISTORY:COUNT,...")
    parser.add_argument("--history", type=int, default=1024, help="tokens that are saved and restored; 0 for no restore")
    parser.add_argument("--prompt", type=int, default=32, help="new tokens after the history")
    parser.add_argument("--clean-rounds", type=int, default=7)
    parser.add_argument("--most-rounds", type=int, default=40, help="after so many, clean or not, a case ends as noisy")
    parser.add_argument("--state-dir", default=None, help="where state files go: a real disk, not memory")
    parser.add_argument("--json", metavar="FILE", help="also write everything that was measured, '-' for standard output")
    return parser.parse_args(arguments)


def main(arguments):
    options = parse(arguments)
    try:
        sides = start_sides(options)
        try:
            with tempfile.TemporaryDirectory(prefix="krul-peer-", dir=options.state_dir) as folder:
                results = measure(options, sides, folder)
        finally:
            for side in sides:
                side.stop()
    except Failure as failure:
        print(f"peer_table: {failure}", file=sys.stderr)
        return 1
    machine = machine_description()
    everything = {
        "machine": machine,
        "rules": {
            "clean_rounds": options.clean_rounds,
            "most_rounds": options.most_rounds,
            "most_foreign_share": MOST_FOREIGN_SHARE,
            "least_round_s": LEAST_ROUND_S,
        },
        "sides": [{"side": side.name, "krul": side.is_krul, **side.hello} for side in sides],
        "results": results,
    }
    if options.json == "-":
        print(json.dumps(everything))
        return 0
    print(
        f"{machine['processor']} (family {machine['family']}, model {machine['model']}), {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.1f} GiB"
    )
    print("\n".join(table(rows_for_people(results))))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(everything, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
