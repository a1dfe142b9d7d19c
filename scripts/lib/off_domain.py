"""Texts unlike conversations, as the JSON lines that krul evaluate reads: off_domain.py [--each N] --results DIR > FILE

Code is this repository's own, JSON the raw results in DIR; German, French and Spanish are pages of Debian's manpages-de,
-fr and -es, which apt-get downloads and nothing installs.
"""

import argparse
import glob
import gzip
import json
import pathlib
import re
import subprocess
import sys
import tempfile

LEAST, MOST = 4000, 9000  # characters
ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE = ("include/krul/**/*.hpp", "src/**/*.cpp", "tests/**/*.cpp")
LANGUAGES = ("de", "fr", "es")


def plain(page):
    """The prose of a page of roff."""
    lines = [line for line in page.splitlines() if not line.startswith((".\\\"", "'\\\""))]
    text = "\n".join(re.sub(r"^\.\w+ ?", "", line) for line in lines)
    text = re.sub(r"\\f(\[\w*\]|\(..|.)|\\&|\\c|\\/|\\s[+-]?\d", "", text)
    return text.replace("\\-", "-").replace("\\(em", "-").replace("\\(aq", "'").replace('"', "")


def of_folder(folder, patterns, each):
    files = sorted((path for pattern in patterns for path in folder.glob(pattern)), key=str)
    fit = [path for path in files if path.stat().st_size >= LEAST]
    if len(fit) < each:
        sys.exit(f"off_domain.py: {folder} has {len(fit)} files of {', '.join(patterns)} that are long enough, and {each} are "
                 "needed; for raw results run scripts/results fetch, or scripts/results make for another step")
    for path in fit[:: max(1, len(fit) // each)][:each]:
        yield path.relative_to(folder).as_posix(), path.read_text()[:MOST]


def of_manual(language, each):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", f"manpages-{language}"], cwd=folder, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        (package,) = glob.glob(f"{folder}/*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        pages = sorted(glob.glob(f"{folder}/usr/share/man/{language}/man1/*.gz"))
        texts = ((pathlib.Path(page).name, plain(gzip.open(page, "rt").read())) for page in pages)
        fit = [(name, text) for name, text in texts if len(text) >= LEAST and "\\{" not in text]  # no macros
        for name, text in fit[:: max(1, len(fit) // each)][:each]:
            yield name, text[:MOST]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=6, help="texts of each kind (6)")
    parser.add_argument("--results", type=pathlib.Path, required=True, help="a folder of raw results")
    arguments = parser.parse_args()
    each = arguments.each
    sources = {"code": of_folder(ROOT, CODE, each), "json": of_folder(arguments.results, ("*/*.json",), each)}
    sources.update({language: of_manual(language, each) for language in LANGUAGES})
    for source, texts in sources.items():
        for name, text in texts:
            print(json.dumps({"id": f"{source}/{name}", "source": source, "messages": [{"role": "user", "content": text}]},
                             ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
