"""Bytes and quality of krul's steps beside published coders, as a Markdown table.

  coding_curve.py CURVE.json... [--greedy GREEDY.json...]
  coding_curve.py --points CURVE.json...      the points as CSV, each with its family

Joins runs of `krul evaluate`, each on other conversations. Averages are over conversations, sizes over their tokens.
"""

import argparse
import bisect
import csv
import json
import math
import re
import sys

from coding_table import quantile, rows_of

FAMILIES = (("kivi-", "KIVI"), ("kvtc-", "KVTC"), ("h2o-", "H2O"))
FINER = {"": "krul", "newest": "krul, newest rows finer", "both": "krul, both finer", "none": "krul, all rows alike",
         "oracle": "krul, rows by the attention to come"}


def family(name):
    step = re.fullmatch(r"step-?\d+(?:-(\w+))?", name)
    if step:
        return FINER[step[1] or ""]
    for start, known in FAMILIES:
        if name.startswith(start):
            return known + ", no window" * name.endswith("-w0")
    return name


def point(entry):
    """How many times smaller than f16, KL: its mean and the worst conversation."""
    conversations = entry["conversations"]
    tokens = sum(each["history"] for each in conversations)
    size = sum(each["bytes_per_token"] * each["history"] for each in conversations) / tokens
    kl = [each["kl"] for each in conversations]
    return entry["f16"] / size, sum(kl) / len(kl), max(kl)


def ratio_at(curve, kl):
    """krul's ratio at this KL, between its neighbouring steps on logarithmic scales; none outside of them."""
    curve = sorted((math.log(point[1]), math.log(point[0])) for point in curve)
    at = bisect.bisect_left(curve, (math.log(kl),))
    if at in (0, len(curve)):
        return None
    (x0, y0), (x1, y1) = curve[at - 1], curve[at]
    return math.exp(y0 + (y1 - y0) * (math.log(kl) - x0) / (x1 - x0))


def curve_table(strategies):
    krul = [points for name, points in strategies.items() if family(name) == "krul"]
    print("| strategy | smaller than f16 | KL, mean | worst | krul at this KL: smaller than f16 | fewer bytes than it |")
    print("|---|---|---|---|---|---|")
    for name, (ratio, kl, worst) in strategies.items():
        found = None if family(name) == "krul" or not krul else ratio_at(krul, kl)
        beside = f"{found:.1f} | {found / ratio:.2f} times" if found else "|"
        print(f"| `{name}` | {ratio:.2f} | {kl:.5f} | {worst:.4f} | {beside} |")


def greedy_table(names):
    strategies = {}
    for name in names:
        found = json.load(open(name))
        for row in found["strategies"]:
            entry = strategies.setdefault(row["name"], {"conversations": [], "f16": row["bytes_per_token"] * row["ratio_to_f16"]})
            entry["conversations"] += row["by_conversation"]
    most = found["greedy"]
    print(f"\n| strategy | conversations | smaller than f16 | same tokens of {most}, mean | quartile | median | quartile | never differs |")
    print("|---|---|---|---|---|---|---|---|")
    for name, entry in strategies.items():
        conversations = entry["conversations"]
        size = sum(each["bytes_per_token"] * each["history"] for each in conversations) / sum(each["history"] for each in conversations)
        same = [most if each["same"] is None else each["same"] for each in conversations]
        never = sum(each["same"] is None for each in conversations) / len(conversations)
        print(f"| `{name}` | {len(conversations)} | {entry['f16'] / size:.1f} | {sum(same) / len(same):.1f} | {quantile(same, 0.25):.0f} | "
              f"{quantile(same, 0.5):.0f} | {quantile(same, 0.75):.0f} | {100 * never:.0f} % |")


def print_points(strategies):
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("family", "strategy", "ratio_to_f16", "kl", "kl_worst"))
    families = {}
    for name, figures in strategies.items():
        families.setdefault(family(name), []).append((name, *figures))
    for known, points in families.items():
        for name, *figures in sorted(points, key=lambda point: point[1]):
            out.writerow((known, name, *figures))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", action="store_true", help="as CSV")
    parser.add_argument("--greedy", nargs="*", default=[])
    parser.add_argument("files", nargs="+")
    arguments = parser.parse_args()
    strategies = {name: point(entry) for name, entry in rows_of(arguments.files).items()}
    if arguments.points:
        print_points(strategies)
        return
    curve_table(strategies)
    if arguments.greedy:
        greedy_table(arguments.greedy)


if __name__ == "__main__":
    main()
