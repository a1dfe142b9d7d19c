"""Rows of a JSON object as comma-separated values. Usage: rows_csv.py [KEY [NESTED]] <IN >OUT

KEY names the list of rows, such as results; without it the object itself is the only row. NESTED names a list in each row:
then there is one row for each of its elements, behind what the outer row says. Objects in a row become columns such as
ratio_low; other lists are left out.
"""

import csv
import json
import sys


def flat(row):
    """The row's single values; those of an object under its key and theirs."""
    found = {}
    for key, value in row.items():
        if isinstance(value, dict):
            found.update({f"{key}_{inner}": each for inner, each in value.items() if not isinstance(each, (dict, list))})
        elif not isinstance(value, list):
            found[key] = value
    return found


def columns(rows):
    """The keys of all rows, in the order in which they first come."""
    return list(dict.fromkeys(key for row in rows for key in row))


def main():
    rows = json.load(sys.stdin)
    rows.pop("run", None)
    rows = rows[sys.argv[1]] if len(sys.argv) > 1 else [rows]
    if len(sys.argv) > 2:
        rows = [flat(row) | flat(inner) for row in rows for inner in row[sys.argv[2]]]
    rows = [flat(row) for row in rows]
    out = csv.DictWriter(sys.stdout, columns(rows), lineterminator="\n")
    out.writeheader()
    out.writerows(rows)


if __name__ == "__main__":
    main()
