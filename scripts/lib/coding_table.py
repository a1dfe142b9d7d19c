"""Size and quality of strategies as a Markdown table: coding_table.py [--sources] EVALUATE.json...

Joins runs of `krul evaluate`, each on other conversations. Averages are over conversations, sizes over their tokens.
"""

import argparse
import json


def rows_of(names):
    """strategy -> its conversations, the share of the history's benefit that was kept by source, and F16's bytes."""
    strategies = {}
    for name in names:
        for row in json.load(open(name))["strategies"]:
            entry = strategies.setdefault(row["name"], {"conversations": [], "benefit": {}, "f16": row["bytes_per_token"] * row["ratio_to_f16"]})
            entry["conversations"] += row["by_conversation"]
            for source in row["sources"]:
                entry["benefit"][source["source"]] = (source["history_benefit"], source["conversations"])
    return strategies


def quantile(values, share):
    values = sorted(values)
    place = share * (len(values) - 1)
    low = int(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def line(name, entry, source=None):
    conversations = [each for each in entry["conversations"] if source in (None, each["source"])]
    kl = [each["kl"] for each in conversations]
    mean = sum(kl) / len(kl)
    tokens = sum(each["history"] for each in conversations)
    size = sum(each["bytes_per_token"] * each["history"] for each in conversations) / tokens
    benefits = [b for s, b in entry["benefit"].items() if source in (None, s) and b[0] is not None]
    benefit = sum(b * n for b, n in benefits) / sum(n for _, n in benefits) if benefits else None
    return (f"| {'`' + name + '`' if source is None else source} | {len(conversations)} | {entry['f16'] / size:.1f} | {mean:.4f} | "
            f"{quantile(kl, 0.5):.4f} | {quantile(kl, 0.95):.4f} | {max(kl):.4f} | "
            f"{'' if benefit is None else f'{100 * benefit:.1f} %'} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", action="store_true", help="also each source by itself")
    parser.add_argument("files", nargs="+")
    arguments = parser.parse_args()
    print("| strategy | conversations | smaller than f16 | KL, mean | median | 95 % | worst | benefit kept |")
    print("|---|---|---|---|---|---|---|---|")
    for name, entry in rows_of(arguments.files).items():
        print(line(name, entry))
        if arguments.sources:
            for source in dict.fromkeys(each["source"] for each in entry["conversations"]):
                print(line(name, entry, source))


if __name__ == "__main__":
    main()
