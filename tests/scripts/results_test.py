"""Tests of scripts/results on files that are made here. Usage: results_test.py [unittest arguments]"""

import csv
import gzip
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS / "lib"))
sys.dont_write_bytecode = True

import results_archive


class Archive(unittest.TestCase):
    version = "9.9.9"  # of which docs/results/archive.sha256 says nothing

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.raw = self.folder / "raw"
        self.names = ["b/turns-10.json", "a/quality-256.json", "a/paper-restore.json"]
        for name in self.names:
            (self.raw / name).parent.mkdir(parents=True, exist_ok=True)
            (self.raw / name).write_text(json.dumps({"run": {"name": name}}))
        (self.raw / "a/quality-256.csv").write_text("a table\n")
        (self.raw / "coding").mkdir()
        (self.raw / "coding/texts.jsonl").write_text("{}\n")

    def pack(self, to="to"):
        return results_archive.pack(self.raw, self.version, self.folder / to)

    def run_script(self, *words):
        return subprocess.run([SCRIPTS / "results", *map(str, words)], capture_output=True, text=True)

    def fetch(self, *words):
        return self.run_script("fetch", "--release", self.version, "--out", self.folder / "out", *words)

    def archive_of(self, name, data=b"{}", kind=tarfile.REGTYPE):
        path = self.folder / "made" / f"krul-results-{self.version}.tar.gz"
        path.parent.mkdir(exist_ok=True)
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(data), "/etc/passwd"
            tar.addfile(entry, io.BytesIO(data))
        path.write_bytes(gzip.compress(out.getvalue()))
        return path

    def test_the_same_results_are_the_same_bytes(self):
        first, digest = self.pack()
        for name in self.names:
            os.utime(self.raw / name, (1, 1))
            (self.raw / name).chmod(0o600)
        second, again = self.pack("other")
        self.assertEqual(first.read_bytes(), second.read_bytes())
        self.assertEqual(digest, again)

    def test_raw_results_alone_are_packed_in_the_order_of_their_names(self):
        path, _ = self.pack()
        with tarfile.open(path) as tar:
            self.assertEqual(tar.getnames(), [f"krul-results-9.9.9/{name}" for name in sorted(self.names)])

    def test_what_is_no_json_and_an_empty_folder_are_refused(self):
        (self.raw / "a/cut.json").write_text("{")
        with self.assertRaisesRegex(results_archive.Refused, "cut.json is no JSON"):
            self.pack()
        with self.assertRaisesRegex(results_archive.Refused, "no raw results"):
            results_archive.pack(self.folder / "none", self.version, self.folder)

    def test_what_was_packed_comes_back_from_a_folder_and_from_an_address(self):
        path, _ = self.pack()
        for source in (path.parent, path, path.parent.as_uri(), path.as_uri()):
            done = self.fetch("--from", source, "--again")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("no checksum for 9.9.9", done.stderr)
            for name in self.names:
                self.assertEqual((self.folder / "out" / name).read_bytes(), (self.raw / name).read_bytes())

    def test_what_is_there_is_kept_unless_told_otherwise(self):
        path, _ = self.pack()
        own = self.folder / "out" / self.names[0]
        own.parent.mkdir(parents=True)
        own.write_text("measured here")
        self.assertIn(self.names[0], self.fetch("--from", path).stdout)
        self.assertEqual(own.read_text(), "measured here")
        self.fetch("--from", path, "--again")
        self.assertEqual(own.read_bytes(), (self.raw / self.names[0]).read_bytes())

    def test_without_an_address_it_says_what_to_give(self):
        done = self.fetch()
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--from URL", done.stderr)

    def test_nothing_else_than_raw_results_is_unpacked(self):
        inside = f"krul-results-{self.version}"
        for name in ("../evil.json", "/tmp/evil.json", f"{inside}/../evil.json", f"{inside}/a/../../evil.json",
                     f"{inside}/a/b/evil.json", f"{inside}/a/evil.sh", f"{inside}/.git/evil.json", "other/a/evil.json"):
            done = self.fetch("--from", self.archive_of(name))
            self.assertIn("no raw result", done.stderr, name)
        done = self.fetch("--from", self.archive_of(f"{inside}/a/link.json", b"", tarfile.SYMTYPE))
        self.assertIn("no raw result", done.stderr)
        self.assertFalse((self.folder / "out").exists())

    def test_damage_is_named(self):
        path = self.archive_of(f"krul-results-{self.version}/a/b.json")
        for data in (b"", b"not packed", path.read_bytes()[:40], gzip.compress(b"no tar file" * 100)):
            path.write_bytes(data)
            done = self.fetch("--from", path)
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(len(done.stderr.splitlines()), 1 + ("no checksum" in done.stderr), done.stderr)

    def test_another_archive_under_a_known_name_is_refused(self):
        known = self.folder / "sums"
        known.write_text("0" * 64 + f"  krul-results-{self.version}.tar\n")
        self.assertEqual(results_archive.known_sum(self.version, known), "0" * 64)
        self.assertIsNone(results_archive.known_sum("1.2.3", known))
        data = gzip.compress(results_archive.tar_of(self.raw, "0.1.0"), mtime=0)
        with self.assertRaisesRegex(results_archive.Refused, "not the archive of 0.1.0"):
            results_archive.unpack(data, self.folder / "out", "0.1.0", False)


class Tables(unittest.TestCase):
    def rows(self, found, *words):
        done = subprocess.run([sys.executable, SCRIPTS / "lib/rows_csv.py", *words], input=json.dumps(found), capture_output=True,
                              text=True, check=True)
        return list(csv.DictReader(io.StringIO(done.stdout)))

    def test_rows_of_a_list_of_lists_in_rows_and_of_the_object(self):
        found = {"speed": 2, "run": {"model": "m"},
                 "results": [{"tokens": 1, "prefix": [3], "parts": [{"ms": 4, "ratio": {"low": 5}}, {"ms": 6}]}]}
        self.assertEqual(self.rows(found, "results"), [{"tokens": "1"}])
        self.assertEqual(self.rows(found, "results", "parts"), [{"tokens": "1", "ms": "4", "ratio_low": "5"},
                                                                {"tokens": "1", "ms": "6", "ratio_low": ""}])
        self.assertEqual(self.rows(found), [{"speed": "2"}])

    def test_the_archive_of_this_version_has_a_checksum(self):
        text = (SCRIPTS.parent / "CMakeLists.txt").read_text()
        version = text.split("project(krul VERSION ")[1].split()[0]
        self.assertRegex(results_archive.known_sum(version) or "", "^[0-9a-f]{64}$")


if __name__ == "__main__":
    unittest.main()
