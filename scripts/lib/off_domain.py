"""Texts unlike conversations, as the JSON lines that krul evaluate reads: off_domain.py [--each N] > FILE

Code and JSON are this repository's own files; German, French and Spanish are pages of Debian's manpages-de, -fr and -es,
which apt-get downloads and nothing installs.
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
RESULTS = ("docs/results/**/*.json",)
LANGUAGES = ("de", "fr", "es")


def plain(page):
    """The prose of a page of roff."""
    lines = [line for line in page.splitlines() if not line.startswith((".\\\"", "'\\\""))]
    text = "\n".join(re.sub(r"^\.\w+ ?", "", line) for line in lines)
    text = re.sub(r"\\f(\[\w*\]|\(..|.)|\\&|\\c|\\/|\\s[+-]?\d", "", text)
    return text.replace("\\-", "-").replace("\\(em", "-").replace("\\(aq", "'").replace('"', "")


def of_repository(patterns, each):
    files = sorted(name for pattern in patterns for name in glob.glob(str(ROOT / pattern), recursive=True))
    fit = [name for name in files if pathlib.Path(name).stat().st_size >= LEAST]
    for name in fit[:: max(1, len(fit) // each)][:each]:
        yield pathlib.Path(name).relative_to(ROOT).as_posix(), pathlib.Path(name).read_text()[:MOST]


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
    each = parser.parse_args().each
    sources = {"code": of_repository(CODE, each), "json": of_repository(RESULTS, each)}
    sources.update({language: of_manual(language, each) for language in LANGUAGES})
    for source, texts in sources.items():
        for name, text in texts:
            print(json.dumps({"id": f"{source}/{name}", "source": source, "messages": [{"role": "user", "content": text}]},
                             ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
