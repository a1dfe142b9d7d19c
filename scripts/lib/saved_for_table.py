"""Restores over another link than they were saved for, as a Markdown table: saved_for_table.py RESTORE.json...

Joins runs of `krul bench restore --saved-for`. Each cell is the time to the first token against what recompute took in the
same run, and behind it against the save that was planned for the link, each by its own recompute.
"""

import json
import sys


def main():
    ratios, links = {}, []
    for name in sys.argv[1:]:
        results = json.load(open(name))["results"]
        recompute = {row["link"]: row["ttft_ms"] for row in results if row["strategy"] == "recompute"}
        links += [link for link in recompute if link not in links]
        for row in results:
            ratios[row["strategy"], row["saved_for"], row["link"]] = row["ttft_ms"] / recompute[row["link"]]
    print("| strategy | saved for | " + " | ".join(f"over {link}" for link in links) + " |")
    print("|---|---|" + "---|" * len(links))
    for strategy, saved_for in dict.fromkeys((strategy, saved_for) for strategy, saved_for, _ in ratios):
        if strategy == "recompute":
            continue
        cells = []
        for link in links:
            ratio = ratios[strategy, saved_for, link]
            planned = ratios.get((strategy, link, link))
            cells.append(f"{ratio:.2f}" + (f" ({ratio / planned:.2f})" if planned and saved_for != link else ""))
        print(f"| `{strategy}` | {saved_for} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
