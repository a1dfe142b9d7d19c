"""What llvm-cov export says, as a Markdown table: llvm-cov export ... | coverage_table.py ROOT FILE FOLDER...

One row for each folder below ROOT: lines and branches of its source, and how many of them ran. A branch of a template
is one branch and ran if it did in any instantiation, as is so for lines. FILE gets what did not run: a line for each
branch, "path:line:column true|false", and "path:line" for a line.
"""

import collections
import json
import pathlib
import sys


def branches_of(found):
    """{path: {(line, column, line, column): [times true, times false]}}"""
    branches = collections.defaultdict(dict)
    for function in found["functions"]:
        for branch in function["branches"]:
            place, counts = tuple(branch[:4]), branch[4:6]
            ways = branches[function["filenames"][branch[6]]].setdefault(place, [0, 0])
            for way in (0, 1):
                ways[way] += counts[way]
    return branches


def idle_lines(segments):
    """Lines on which code begins that did not run. A segment is [line, column, count, counted, entry, gap]."""
    ran = collections.defaultdict(int)
    for line, _, count, counted, entry, gap in segments:
        if counted and entry and not gap:
            ran[line] = max(ran[line], count)
    return sorted(line for line, count in ran.items() if count == 0)


def main():
    root, listed, folders = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
    found = json.load(sys.stdin)["data"][0]
    branches = branches_of(found)
    rows = {folder: [0, 0, 0, 0] for folder in folders}
    idle = []
    for file in found["files"]:
        path = pathlib.Path(file["filename"]).relative_to(root)
        folder = next(name for name in folders if path.is_relative_to(name))
        row = rows[folder]
        row[0] += file["summary"]["lines"]["count"]
        row[1] += file["summary"]["lines"]["covered"]
        idle += [f"{path}:{line}" for line in idle_lines(file["segments"])]
        for place, ways in sorted(branches[file["filename"]].items()):
            row[2] += len(ways)
            row[3] += sum(count > 0 for count in ways)
            idle += [f"{path}:{place[0]}:{place[1]} {way}" for way, count in zip(("true", "false"), ways) if not count]
    rows["all"] = [sum(column) for column in zip(*rows.values())]
    print("| folder | lines | branches |\n|---|---|---|")
    for folder, (lines, run, ways, taken) in rows.items():
        name = folder if folder == "all" else f"`{folder}`"
        print(f"| {name} | {run / lines:.1%} of {lines:,} | {taken / ways:.1%} of {ways:,} |".replace("%", " %"))
    listed.write_text("".join(line + "\n" for line in idle))


if __name__ == "__main__":
    main()
