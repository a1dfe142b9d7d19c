"""Tests of scripts/fetch_data on files that are made here. Usage: fetch_data_test.py [unittest arguments]"""

import gzip
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS / "lib"))
sys.dont_write_bytecode = True

import convert_data
import fetch_data


def row(file, data, terms="permissive"):
    return {"terms": terms, "file": file, "raw_bytes": str(len(data)), "raw_sha256": hashlib.sha256(data).hexdigest(),
            "repository": "nobody/nothing", "commit": "0" * 40, "path": file}


class Fetch(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.source = pathlib.Path(folder.name) / "source"
        self.raw = pathlib.Path(folder.name) / "raw"
        (self.source / "permissive/a").mkdir(parents=True)

    def test_files_come_as_they_are_or_compressed(self):
        (self.source / "permissive/a/plain").write_bytes(b"plain")
        (self.source / "permissive/a/packed.gz").write_bytes(gzip.compress(b"packed"))
        for name in ("plain", "packed"):
            found = fetch_data.provide(row(f"a/{name}", name.encode()), self.raw, self.source)
            self.assertEqual(found.read_text(), name)
        self.assertFalse(list(self.raw.rglob("*.partial")))

    def test_what_is_there_is_not_brought_again_but_damage_is_repaired(self):
        entry = row("a/file", b"right")
        (self.source / "permissive/a/file").write_bytes(b"right")
        found = fetch_data.provide(entry, self.raw, self.source)
        found.write_bytes(b"wrong")
        self.assertEqual(fetch_data.provide(entry, self.raw, self.source).read_bytes(), b"right")
        (self.source / "permissive/a/file").unlink()
        self.assertEqual(fetch_data.provide(entry, self.raw, self.source), found)

    def test_other_bytes_are_refused(self):
        (self.source / "permissive/a/file").write_bytes(b"wrong")
        with self.assertRaisesRegex(fetch_data.Refused, "SHA-256"):
            fetch_data.provide(row("a/file", b"right"), self.raw, self.source)
        self.assertFalse((self.raw / "a/file").exists())
        with self.assertRaisesRegex(fetch_data.Refused, "a/none"):
            fetch_data.provide(row("a/none", b""), self.raw, self.source)

    def test_share_alike_only_where_asked_for(self):
        self.assertEqual({entry["terms"] for entry in fetch_data.sources(fetch_data.TABLE, False)}, {"permissive"})
        self.assertEqual({entry["terms"] for entry in fetch_data.sources(fetch_data.TABLE, True)}, {"permissive", "sharealike"})
        for entry in fetch_data.sources(fetch_data.TABLE, True):
            self.assertRegex(entry["raw_sha256"], "^[0-9a-f]{64}$")
            self.assertRegex(entry["commit"], "^[0-9a-f]{40}$")

    def test_the_script_says_in_one_line_what_is_missing(self):
        done = subprocess.run([SCRIPTS / "fetch_data", "--from", self.source, "--out", self.raw], capture_output=True, text=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("is not in", done.stderr.splitlines()[-1])


class Convert(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.raw = pathlib.Path(folder.name)

    def write(self, name, lines):
        (self.raw / name).parent.mkdir(parents=True, exist_ok=True)
        (self.raw / name).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def test_the_thread_with_the_most_text(self):
        leaf = {"role": "assistant", "text": "short"}
        long = {"role": "assistant", "text": "a long reply", "replies": [{"role": "prompter", "text": "and on"}]}
        self.write("oasst_en_100/en_100_tree.jsonl", [{"message_tree_id": "x", "prompt": {"role": "prompter", "text": "Hi", "replies": [leaf, long]}}])
        found = convert_data.oasst(self.raw)
        self.assertEqual([turn["content"] for turn in found[0]["messages"]], ["Hi", "a long reply", "and on"])
        self.assertEqual([turn["role"] for turn in found[0]["messages"]], ["user", "assistant", "user"])

    def test_an_excerpt_holds_what_answers_the_question(self):
        turns = ["x" * 1000] * 3 + ["the answer"] + ["y" * 1000] * 3 + [None]
        excerpt = convert_data.widened(turns, 3, 4)
        self.assertIn("the answer", excerpt)
        self.assertLessEqual(len(excerpt), convert_data.CONTEXT)
        self.assertGreater(len(excerpt), 3000)
        self.assertIsNone(convert_data.widened(["z" * (convert_data.CONTEXT + 1)], 0, 1))
        self.assertEqual(convert_data.widened(["a", None, "b"], 2, 3), "a\nb")

    def test_a_register_holds_the_line_that_is_asked_for(self):
        lines = [f"line l-{i}: REGISTER_CONTENT is <{i}>" for i in range(200)]
        self.write("longeval/200_lines.jsonl", [{"prompt": "\n".join(lines), "correct_line": lines[150] + "\n", "random_idx": ["l-150", 150], "expected_number": 150}] * 5)
        for place, found in enumerate(convert_data.longeval_lines_tasks(self.raw)):
            kept = found["context"].splitlines()
            self.assertEqual(len(set(kept)), 20)
            self.assertEqual(kept.index(lines[150]), place * 7 % 20)
            self.assertTrue((found["lead"] + found["answer"] + ">").endswith(lines[150]))

    def test_conversations_are_cut_between_messages_and_not_repeated(self):
        messages = [convert_data.message("user", "a" * 10), convert_data.message("assistant", "b" * 10), convert_data.message("user", "c")]
        self.assertEqual(len(convert_data.cut(messages, 11)), 2)
        self.assertEqual(len(convert_data.cut(messages, 100)), 3)
        talk = convert_data.conversation("s", 1, messages)
        self.assertEqual(convert_data.without_repeats([talk, dict(talk), convert_data.conversation("s", 2, messages[2:])]),
                         [talk, convert_data.conversation("s", 2, messages[2:])])

    def test_a_record_of_turns(self):
        found = convert_data.record_messages(" USER: one. \n ASSISTANT: two: 2 \n USER: three")
        self.assertEqual([(turn["role"], turn["content"]) for turn in found], [("user", "one."), ("assistant", "two: 2"), ("user", "three")])


if __name__ == "__main__":
    unittest.main(verbosity=2)
