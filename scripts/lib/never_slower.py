#!/usr/bin/env python3
"""Says where `krul` is slower than a baseline, from what `krul bench restore --against krul --json` wrote.

usage: never_slower.py FILE.json ...

A cell is one history, prompt and link. `krul` is slower there if a baseline's time against krul's lies below 1/1.03 with
its whole interval, and the difference of the medians is over 2 ms. Fewer than six rounds have no interval of 95 % and say
nothing. Exits with 1 if there is a cell where it is slower.
"""
import json
import statistics
import sys


def main() -> int:
    print("| history | prompt | link | krul, ms | predicted | best baseline | its ms | its time / krul's |")
    print("|---|---|---|---|---|---|---|---|")
    cells, unknown, slower, errors = 0, 0, [], []
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            run = json.load(file)
        for link in dict.fromkeys(row["link"] for row in run["results"]):
            rows = {row["strategy"]: row for row in run["results"] if row["link"] == link}
            krul = rows.pop("krul")
            best = min(rows.values(), key=lambda row: row["ttft_ms"])
            cells += 1
            errors += [abs(row["predicted_ms"] / row["ttft_ms"] - 1) for row in [krul, *rows.values()] if row["predicted_ms"] > 0]
            told = krul["rounds"] >= 6
            interval = f"{best['ratio']:.2f}" + (f" [{best['ratio_low']:.2f}, {best['ratio_high']:.2f}]" if told else ", too few rounds")
            line = (f"| {run['tokens']:,} | {run['prompt']} | {link} | {krul['ttft_ms']:.1f} | {krul['predicted_ms']:.1f} "
                    f"| `{best['strategy']}` | {best['ttft_ms']:.1f} | {interval} |")
            print(line)
            if not told:
                unknown += 1
            elif any(row["ratio_high"] < 1 / 1.03 and krul["ttft_ms"] - row["ttft_ms"] > 2 for row in rows.values()):
                slower.append(line)
    print(f"\n{cells} cells; krul is slower than a baseline in {len(slower)} of the {cells - unknown} with six rounds or more.")
    if unknown:
        print(f"The other {unknown} have too few rounds for an interval, and say nothing of it.")
    print(*slower, sep="\n")
    if len(errors) > 1:
        nine = statistics.quantiles(errors, n=10, method="inclusive")[8]
        print(f"{len(errors)} predictions are off by {statistics.median(errors):.1%} in the median, {nine:.1%} in 9 of 10.")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
