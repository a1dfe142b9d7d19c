"""Splits conversations into what a profile is calibrated on and what it is tested on: coding_folds.py DATA OUT

Twice, so that each source tested is one that its profile has never seen: profile A is for memorybank and topical-chat, profile B for
oasst and casino; mtrag and qmsum, and the calibration part of the other two, are what they are calibrated on, in turns.
Writes OUT/calibrate-A.jsonl, OUT/test-A.jsonl and the same for B.
"""

import itertools
import json
import pathlib
import sys

TESTED = {"A": ("memorybank", "topical-chat"), "B": ("oasst", "casino")}


def main():
    data, out = map(pathlib.Path, sys.argv[1:3])
    out.mkdir(parents=True, exist_ok=True)
    calibration, tested = {}, {}
    for name in ("calibration.jsonl", "conversations.jsonl", "conversations-share-alike.jsonl"):
        for line in (data / name).open():
            source = json.loads(line)["source"]
            if name != "calibration.jsonl":
                tested.setdefault(source, []).append(line)
            if name != "conversations.jsonl" or source not in TESTED["B"]:  # those have a part of their own
                calibration.setdefault(source, []).append(line)
    for fold, sources in TESTED.items():
        others = [lines for source, lines in sorted(calibration.items()) if source not in sources]
        turns = itertools.zip_longest(*others)
        (out / f"calibrate-{fold}.jsonl").write_text("".join(line for turn in turns for line in turn if line))
        (out / f"test-{fold}.jsonl").write_text("".join(line for source in sources for line in tested[source]))


if __name__ == "__main__":
    main()
