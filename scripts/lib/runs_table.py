"""What raw results were measured with, as a Markdown table: runs_table.py FOLDER

One row for each model, kernels, cache, threads, processor and revision, and the files that were made with them.
"""

import json
import pathlib
import sys

KEYS = ("model", "kernels", "cache", "threads", "processor", "revision")


def run_of(found):
    """What a file says of its run; files of scripts/peer say it of the machine and of each side."""
    if "machine" in found:
        machine = found["machine"]
        sides = [side for side in found["sides"] if side["krul"]]
        return {"model": sides[0]["model"], "kernels": " and ".join(side["precision"] for side in sides),
                "cache": sides[0]["cache"], "threads": str(sides[0]["threads"]), "revision": sides[0]["version"],
                "processor": f"{machine['processor']}, family {machine['family']}, model {machine['model']}"}
    return found.get("run")


def main():
    folder = pathlib.Path(sys.argv[1])
    groups = {}
    for path in sorted(folder.glob("*/*.json")):
        run = run_of(json.loads(path.read_text(encoding="utf-8")))
        if run is not None:
            key = tuple(str(run.get(name, "")) for name in KEYS)
            groups.setdefault((path.parent.name, *key), []).append(path.stem)
    shown = [at for at, _ in enumerate(KEYS, 1) if any(group[at] for group in groups)]
    print("| folder | " + " | ".join(KEYS[at - 1] for at in shown) + " | files |")
    print("|---|" + "---|" * (len(shown) + 1))
    for group, files in groups.items():
        print(f"| {group[0]} | " + " | ".join(group[at] for at in shown) + " | " + ", ".join(f"`{name}`" for name in files) + " |")


if __name__ == "__main__":
    main()
