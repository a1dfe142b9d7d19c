"""The table of the paper's strategies, as Markdown: paper_table.py RESTORE.json QUALITY.json

Times to the first token come from `krul bench restore`, quality from `krul evaluate` on the link at which recomputing takes
1.3 times as long as loading everything at two bytes a value.
"""

import json
import sys
import textwrap


def main():
    restore, quality = (json.load(open(name)) for name in sys.argv[1:3])
    links = list(dict.fromkeys(row["link"] for row in restore["results"]))
    regime = next(link for link in links if link.startswith("1.3x"))
    rows = {(row["strategy"], row["link"]): row for row in restore["results"]}
    graded = {row["name"]: row for row in quality["strategies"]}
    names = list(dict.fromkeys(row["strategy"] for row in restore["results"]))
    run = restore["run"]
    said = (f"{run['model']}, {run['kernels']}, cache {run['cache']}, {run['threads']} threads, {run['processor']}; "
          f"{restore['tokens']} tokens and a prompt of {restore['prompt']}. First token in ms, medians; stored bytes, KL, change of "
          f"NLL and history benefit at {regime}; quality over {quality['strategies'][0]['conversations']} conversations, "
          f"the 128 tokens after up to {quality['history']}.")
    print(textwrap.fill(said, 120) + "\n")
    print("| strategy | " + " | ".join(links) + " | stored | KL | dNLL | benefit kept | top-1 |")
    print("|---|" + "---|" * (len(links) + 5))
    for name in names:
        times = [f"{rows[name, link]['ttft_ms']:.0f}" for link in links]
        stored = f"{rows[name, regime]['stored_bytes'] / 1e6:.2f} MB"
        grade = graded.get(name)
        figures = ["", "", "", ""]
        if grade:
            benefit = grade["history_benefit"]
            figures = [f"{grade['kl']:.4f}", f"{grade['delta_nll']:+.4f}",
                       "" if benefit is None else f"{100 * benefit:.1f} %", f"{grade['top1']:.3f}"]
        print("| " + " | ".join([f"`{name}`", *times, stored, *figures]) + " |")


if __name__ == "__main__":
    main()
