"""device_page.py FOLDER: a page of what krul_device_bench found, from the CSV files in the folder to README.md."""

import csv
import pathlib
import sys

TABLES = [
    ("passes", "Passes", """\
A model of random weights with the sizes of the real one; `layers` of its layers were measured, and their time was
multiplied to that of all. `ms` is tokens in, logits of the last row out, all of it. `ms simulated` is what `krul
simulate` counts for such a pass on this kind of device. `of cuBLAS` is the share of the FLOP/s of one large product,
`of memory` of what a copy within the device reads and writes in a second. `ms a layer's products` are the four
products of a layer by cuBLASLt alone, beside `ms a layer`, which has norms, rotation and attention besides."""),
    ("decoding", "Joint chunks", """\
Chunks of 64 tokens of some layers that are coded together, of random profiles. `symbols` is the entropy decoder alone,
a warp a chunk: one chunk, and enough for all multiprocessors. `rows` are whole chunks from the host's memory into
the cache, with so many rooms. `us a token` is for all layers of the model, one group after the other."""),
    ("expanding", "Rows of the row codecs", """\
From coded bytes in the device's memory to f16 rows: rows a second, and all that was read and written."""),
    ("copies", "Copies", """\
`pinned` is a copy between pinned memory and the device, `ring` one through krul's ring of pinned slots from or to any
memory, `within` one in the device's memory."""),
]


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def table(rows):
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def page(folder):
    parts = [
        "# On a CUDA device",
        "Made by `scripts/device` from the CSV files beside it; [what was to be expected](../../cuda.md#expected).",
        table(rows_of(folder / "run.csv")),
    ]
    for name, title, text in TABLES:
        path = folder / f"{name}.csv"
        if path.exists():
            parts += [f"## {title}", text, table(rows_of(path))]
    return "\n\n".join(parts) + "\n"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    (folder / "README.md").write_text(page(folder), encoding="utf-8")


if __name__ == "__main__":
    main()
