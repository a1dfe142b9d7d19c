"""Rows of a JSON object as comma-separated values. Usage: rows_csv.py KEY <IN >OUT

KEY names the list of rows, such as results. What is nested in a row is left out.
"""

import csv
import json
import sys


def columns(rows):
    """The keys of all rows, in the order in which they first come."""
    return list(dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, (dict, list))))


def main():
    rows = json.load(sys.stdin)[sys.argv[1]]
    out = csv.DictWriter(sys.stdout, columns(rows), extrasaction="ignore", lineterminator="\n")
    out.writeheader()
    out.writerows(rows)


if __name__ == "__main__":
    main()
