"""Brings the files of a table of pinned sources, checked against their SHA-256. Used by scripts/fetch_data."""

import argparse
import csv
import gzip
import hashlib
import os
import pathlib
import sys
import urllib.error
import urllib.parse
import urllib.request

import convert_data

TABLE = pathlib.Path(__file__).with_name("data_sources.tsv")


class Refused(Exception):
    """A file that cannot be had, or that is not the one that is pinned."""


def cache_folder():
    if os.environ.get("KRUL_CACHE"):
        return pathlib.Path(os.environ["KRUL_CACHE"])
    shared = os.environ.get("XDG_CACHE_HOME")
    return pathlib.Path(shared or pathlib.Path.home() / ".cache") / "krul"


def sources(table, share_alike):
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [row for row in rows if share_alike or row["terms"] == "permissive"]


def is_pinned(data, row):
    return hashlib.sha256(data).hexdigest() == row["raw_sha256"]


def read_local(folder, row):
    """The raw bytes from a folder that holds TERMS/FILE, or FILE, as they are or compressed with gzip."""
    for place in (folder / row["terms"] / row["file"], folder / row["file"]):
        if place.is_file():
            return place.read_bytes()
        packed = place.with_name(place.name + ".gz")
        if packed.is_file():
            return gzip.decompress(packed.read_bytes())
    raise Refused(f"{row['file']} is not in {folder}")


def download(row):
    path = urllib.parse.quote(row["path"])
    url = f"https://raw.githubusercontent.com/{row['repository']}/{row['commit']}/{path}"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read(int(row["raw_bytes"]) + 1)
    except (urllib.error.URLError, OSError) as error:
        raise Refused(f"{url} cannot be fetched ({error}); check the network, or give --from a folder that holds the files") from error


def provide(row, raw, source):
    """Puts one file under `raw`; returns its path. What is there and intact is not brought again."""
    target = raw / row["file"]
    if target.is_file() and is_pinned(target.read_bytes(), row):
        return target
    print(f"fetch_data: {row['file']}", file=sys.stderr)
    data = read_local(source, row) if source else download(row)
    if not is_pinned(data, row):
        raise Refused(f"{row['file']} is not the file that is pinned: its SHA-256 differs from {row['raw_sha256']}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(data)
    partial.replace(target)
    return target


def main():
    options = argparse.ArgumentParser(prog="fetch_data", description=__doc__)
    options.add_argument("--from", dest="source", type=pathlib.Path, metavar="DIR",
                         help="take the files from this folder instead of the network; they may be compressed with gzip")
    options.add_argument("--out", type=pathlib.Path, default=cache_folder() / "data", metavar="DIR", help="where to keep them (%(default)s)")
    options.add_argument("--share-alike", action="store_true",
                         help="also those whose licence asks for the same licence: into files of their own")
    options.add_argument("--table", type=pathlib.Path, default=TABLE, help=argparse.SUPPRESS)
    given = options.parse_args()
    raw = given.out / "raw"
    try:
        for row in sources(given.table, given.share_alike):
            provide(row, raw, given.source)
        for path, lines in convert_data.convert(raw, given.out, given.share_alike):
            print(f"{path}\t{lines}")
    except (Refused, OSError) as error:
        sys.exit(f"fetch_data: {error}")


if __name__ == "__main__":
    main()
