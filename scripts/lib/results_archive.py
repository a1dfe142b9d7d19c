"""The raw results of a release as one archive. Used by scripts/results.

  results_archive.py pack [DIR] --version VERSION [--to FOLDER]
  results_archive.py fetch --version VERSION [--page URL] [--from URL] [--release VERSION] [--out DIR] [--again]
"""

import argparse
import gzip
import hashlib
import io
import json
import pathlib
import re
import sys
import tarfile
import urllib.error
import urllib.request
import zlib

SUMS = pathlib.Path(__file__).resolve().parents[2] / "docs/results/archive.sha256"
MOST_BYTES = 256 << 20  # of an archive that is fetched, packed or not


class Refused(Exception):
    """An archive that cannot be made, had or trusted."""


def archive_name(version):
    return f"krul-results-{version}"


def tar_of(folder, version):
    """The JSON files of a folder's folders as a tar file: names in order, and nothing of who packed them, or when."""
    paths = sorted(folder.glob("*/*.json"), key=lambda path: path.relative_to(folder).as_posix())
    if not paths:
        raise Refused(f"there are no raw results in {folder}; scripts/results make writes them")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in paths:
            data = path.read_bytes()
            try:
                json.loads(data)
            except ValueError as error:
                raise Refused(f"{path} is no JSON ({error}); make it again with scripts/results make --again") from error
            entry = tarfile.TarInfo(f"{archive_name(version)}/{path.relative_to(folder).as_posix()}")
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def pack(folder, version, to):
    """Writes the archive; its path and the checksum of what is packed in it."""
    tar = tar_of(folder, version)
    to.mkdir(parents=True, exist_ok=True)
    path = to / f"{archive_name(version)}.tar.gz"
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(gzip.compress(tar, 9, mtime=0))
    partial.replace(path)
    return path, hashlib.sha256(tar).hexdigest()


def known_sum(version, sums=SUMS):
    """The checksum that this tree has of a release's archive, unpacked; None if it has none."""
    for line in sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else ():
        digest, name = line.split()
        if name == f"{archive_name(version)}.tar":
            return digest
    return None


def download(url):
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            data = answer.read(MOST_BYTES + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Refused(f"{url} cannot be fetched ({error}); check the address") from error
    if len(data) > MOST_BYTES:
        raise Refused(f"{url} has more than {MOST_BYTES >> 20} MiB, which no archive of results has")
    return data


def files_of(tar, version):
    """name -> bytes. Nothing but FOLDER/NAME.json below the archive's own folder is taken."""
    files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as entries:
            for entry in entries:
                found = re.fullmatch(re.escape(archive_name(version)) + r"/(\w[\w.-]*/\w[\w.-]*\.json)", entry.name)
                if not entry.isfile() or not found:
                    raise Refused(f"the archive holds {entry.name!r}, which is no raw result; nothing was unpacked")
                files[found[1]] = entries.extractfile(entry).read()
    except tarfile.TarError as error:
        raise Refused(f"this is no archive of results ({error})") from error
    return files


def unpack(data, out, version, again):
    """Writes the archive's files below a folder. Those that were kept because others with their names are there."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            tar = packed.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Refused(f"this is no archive of results ({error})") from error
    if len(tar) > MOST_BYTES:
        raise Refused(f"unpacked it has more than {MOST_BYTES >> 20} MiB, which no archive of results has")
    expected = known_sum(version)
    if expected is None:
        print(f"results: {SUMS.name} has no checksum for {version}: nothing tells whether this is the right archive", file=sys.stderr)
    elif hashlib.sha256(tar).hexdigest() != expected:
        raise Refused(f"this is not the archive of {version}: its checksum is not the one in docs/results/{SUMS.name}")
    files = files_of(tar, version)
    kept = []
    for name, content in files.items():
        path = out / name
        if path.exists() and not again:
            if path.read_bytes() != content:
                kept.append(name)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return len(files), kept


def fetch(options):
    if not options.source and not options.page:
        raise Refused("say where the archive is: --from URL; the project has no release page yet")
    version = options.release or options.version
    url = (options.source or options.page).replace("{version}", version)
    if not url.endswith(".tar.gz"):
        url = f"{url.rstrip('/')}/{archive_name(version)}.tar.gz"
    if "://" not in url:
        url = pathlib.Path(url).absolute().as_uri()
    count, kept = unpack(download(url), options.out, version, options.again)
    print(f"{count} raw results of {version} in {options.out}")
    if kept:
        print(f"kept, as other ones are there (--again replaces them): {', '.join(kept)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="scripts/results")
    verbs = parser.add_subparsers(dest="verb", required=True)
    packs = verbs.add_parser("pack", help="one archive of the raw results in a folder")
    packs.add_argument("folder", type=pathlib.Path, nargs="?", default=pathlib.Path("build/results"), metavar="DIR")
    packs.add_argument("--to", type=pathlib.Path, default=pathlib.Path("build"), help="where it is written (build)")
    fetches = verbs.add_parser("fetch", help="the raw results of a release")
    fetches.add_argument("--from", dest="source", metavar="URL", help="the archive, or the folder that it lies in")
    fetches.add_argument("--page", default="", help=argparse.SUPPRESS)
    fetches.add_argument("--release", metavar="VERSION", help="of another version than this tree's")
    fetches.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/results"), help="(build/results)")
    fetches.add_argument("--again", action="store_true", help="replace what is there")
    for each in (packs, fetches):
        each.add_argument("--version", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.verb == "fetch":
            fetch(options)
            return
        path, digest = pack(options.folder, options.version, options.to)
        print(f"{path}, {path.stat().st_size:,} bytes; docs/results/{SUMS.name} has to say:")
        print(f"{digest}  {archive_name(options.version)}.tar")
    except Refused as error:
        sys.exit(f"results: {error}")


if __name__ == "__main__":
    main()
