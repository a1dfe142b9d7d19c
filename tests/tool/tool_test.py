"""Tests of the krul tool, as a process. Usage: tool_test.py KRUL MAKE_TINY_MODEL [unittest arguments]

With KRUL_TOOL_MODEL=FILE.gguf the same tests run on that model; KRUL_KILLS=N sets how often the kill test kills (20).
"""

import csv
import fcntl
import json
import os
import pathlib
import pty
import random
import re
import resource
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
import unittest

KRUL, MAKE_TINY_MODEL = sys.argv[1:3]
ROOT = pathlib.Path(tempfile.mkdtemp(prefix="krul-tool-test-"))
MODEL = os.environ.get("KRUL_TOOL_MODEL") or str(ROOT / "tiny.gguf")
ENVIRONMENT = {**os.environ, "KRUL_CACHE": str(ROOT / "cache")}


def krul(*words, expect=0, env=ENVIRONMENT):
    """Runs the tool; its standard output, and standard error, after checking the exit code (None: whatever it is)."""
    done = subprocess.run([KRUL, *map(str, words)], capture_output=True, text=True, errors="replace", env=env, timeout=300)
    assert expect is None or (done.returncode == 0) == (expect == 0), f"exit code {done.returncode}: {done.stderr}"
    return done.stdout, done.stderr


def krul_json(*words, expect=0, env=ENVIRONMENT):
    return json.loads(krul(*words, "--json", expect=expect, env=env)[0])


class Tool(unittest.TestCase):
    def setUp(self):
        self.store = pathlib.Path(tempfile.mkdtemp(dir=ROOT))

    def say(self, text, *words, store=None):
        return krul_json("chat", "--model", MODEL, "--store", store or self.store, "--conversation", "a talk",
                         "--max-tokens", 12, "--message", text, *words)

    def fails(self, *words):
        """One clear line on standard error, and the same in JSON; the sentence."""
        _, errors = krul(*words, expect=1)
        lines = [line for line in errors.strip().splitlines() if line]
        self.assertEqual(len(lines), 1, errors)
        self.assertTrue(lines[0].startswith("krul: "), errors)
        self.assertIn("error", krul_json(*words, expect=1))
        return lines[0]

    # What works

    def test_a_conversation_goes_on_in_another_process(self):
        first = self.say("The first message of a talk that goes on for a while.")
        self.assertEqual(first["report"]["matched_tokens"], 0)
        second = self.say("And the second.")
        self.assertGreater(second["report"]["matched_tokens"], 0)
        self.assertEqual(second["report"]["reasons"], [])
        self.assertEqual(second["saved"]["generation"], 2)
        listed = krul_json("list", "--store", self.store)["conversations"]
        self.assertEqual([entry["id"] for entry in listed], ["a talk"])
        inspected = krul_json("inspect", "a talk", "--store", self.store)
        self.assertTrue(all(chunk["bytes"] > 0 for chunk in inspected["chunks"]))
        verified = krul_json("verify", "--store", self.store)
        self.assertTrue(verified["ok"])
        self.assertEqual(verified["chunks"], len(inspected["chunks"]))
        krul("erase", "a talk", "--store", self.store)
        self.assertEqual(krul_json("list", "--store", self.store)["conversations"], [])

    def test_forks_copies_and_what_they_leave(self):
        self.say("The first message of a talk that goes on for a while.")
        forked = krul_json("fork", "a talk", "a branch", "--store", self.store)
        self.assertGreater(forked["rows"], 0)
        branch = krul_json("chat", "--model", MODEL, "--store", self.store, "--conversation", "a branch", "--max-tokens", 12,
                           "--message", "And the second.")
        self.assertEqual(branch["report"]["matched_tokens"], forked["rows"])
        self.assertEqual(branch["report"]["reasons"], [])
        # Elsewhere, encrypted, and near before far.
        key, elsewhere = self.store / "key", self.store / "elsewhere"
        key.write_bytes(os.urandom(32))
        key.chmod(0o600)
        words = ["copy", self.store, elsewhere, "--to-key", key]
        self.assertEqual([each["was_there"] for each in krul_json(*words)["conversations"]], [False, False])
        self.assertEqual([each["was_there"] for each in krul_json(*words)["conversations"]], [True, True])
        self.assertIn("encrypted", krul("list", "--store", elsewhere, expect=1)[0])
        (self.store / "near").mkdir()
        far = ["--store", f"{self.store / 'near'},{elsewhere}", "--store-key", key]
        again = krul_json("chat", "--model", MODEL, *far, "--conversation", "a branch", "--max-tokens", 12, "--message", "A third.")
        self.assertGreater(again["report"]["matched_tokens"], branch["report"]["matched_tokens"])
        self.assertTrue(krul_json("verify", *far)["ok"])
        # What is lent stays until the last one goes. The first branch has written its short rows anew and needs nothing.
        krul("fork", "a talk", "another", "--store", self.store)
        self.assertTrue(krul_json("erase", "a talk", "--store", self.store)["is_lent"])
        self.assertTrue(krul_json("verify", "--store", self.store)["ok"])
        krul("erase", "a branch", "--store", self.store)
        krul("erase", "another", "--store", self.store)
        self.assertEqual(krul_json("gc", "--store", self.store)["failed"], [])
        self.assertEqual([each for each in self.store.iterdir() if len(each.name) == 32], [])

    def test_a_fork_has_no_more_tokens_than_there_are_and_a_chat_goes_on_from_whole_messages(self):
        self.say("A message.")
        self.assertIn("is more than the", self.fails("fork", "a talk", "b", "--tokens", 100000, "--store", self.store))
        krul("fork", "a talk", "b", "--tokens", 2, "--store", self.store)
        self.assertIn("forked within one", self.fails("chat", "--model", MODEL, "--store", self.store, "--conversation", "b", "--message", "x"))

    def test_a_chat_that_does_not_save_only_reads_its_store(self):
        self.say("A message.")
        before = {path: path.read_bytes() for path in self.store.rglob("*") if path.is_file()}
        reply = krul_json("chat", "--model", MODEL, "--store", self.store, "--conversation", "a talk", "--no-save", "--max-tokens", 4, "--message", "More.")
        self.assertGreater(reply["report"]["matched_tokens"], 0)
        self.assertIsNone(reply["saved"])
        self.assertEqual({path: path.read_bytes() for path in self.store.rglob("*") if path.is_file()}, before)
        nowhere = self.store / "nowhere"
        self.assertIn("no such directory", self.fails("chat", "--model", MODEL, "--store", nowhere, "--conversation", "x", "--no-save", "--message", "x"))

    def files(self, folder):
        return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}

    def test_a_copy_replaces_nothing_that_it_cannot_read(self):
        self.say("The first message of a talk that goes on for a while.")
        keys, elsewhere = [self.store / "key", self.store / "another"], self.store / "elsewhere"
        for key in keys:
            key.write_bytes(os.urandom(32))
            key.chmod(0o600)
        krul("copy", self.store, elsewhere, "--to-key", keys[0])
        self.say("And more.", "--store-key", keys[0], store=elsewhere)
        before = self.files(elsewhere)
        for words in [[], ["--to-key", keys[1]], ["--replace", "--check"]]:
            self.assertIn("give its key, or erase it there first", krul("copy", self.store, elsewhere, *words, expect=1)[1])
            self.assertEqual(self.files(elsewhere), before)
        self.assertIn("1 were there", krul("copy", self.store, elsewhere, "--to-key", keys[0])[0])

    def test_a_copy_replaces_only_earlier_states(self):
        self.say("The first message of a talk that goes on for a while.")
        elsewhere, other = self.store / "elsewhere", self.store / "other"
        other.mkdir()
        krul("copy", self.store, elsewhere)
        self.say("Left.", store=elsewhere)
        for text in ["Right.", "Right."]:
            self.say(text)
        self.say("Something else.", store=other)
        krul_json("chat", "--model", MODEL, "--store", self.store, "--conversation", "b", "--max-tokens", 4, "--message", "Hello.")
        for target in [elsewhere, other]:
            before = self.files(target)
            copied = krul_json("copy", self.store, target, expect=1)
            self.assertEqual(copied["error"]["code"], "invalid_argument")
            self.assertEqual(sorted(each.get("id", "") for each in copied["conversations"]), ["", "b"])  # others go on
            self.assertLessEqual(before.items(), self.files(target).items())
            words = ["copy", self.store, target, "--conversation", "a talk"]
            self.assertIn("--replace", krul(*words, expect=1)[1])
            self.assertEqual(krul_json(*words, "--replace")["conversations"][0]["was_there"], False)
            self.assertEqual(krul_json(*words)["conversations"][0]["was_there"], True)
            self.assertTrue(krul_json("verify", "--store", target)["ok"])
            self.assertEqual(self.say("Right.", store=target)["report"]["reasons"], [])
            self.assertEqual(krul_json(*words)["conversations"][0]["was_there"], True)

    def test_a_copy_says_what_is_damaged_and_mends_it_there(self):
        self.say("The first message of a talk that goes on for a while.")
        elsewhere = self.store / "elsewhere"
        krul("copy", self.store, elsewhere)
        before = self.files(elsewhere)
        segment = next(elsewhere.glob("*/segment-*"))
        segment.write_bytes(bytes([segment.read_bytes()[0] ^ 1]) + segment.read_bytes()[1:])
        self.assertEqual(krul_json("copy", self.store, elsewhere)["conversations"][0]["objects"], 0)
        self.assertIn("1 objects were copied again", krul("copy", self.store, elsewhere, "--check")[0])
        self.assertEqual(self.files(elsewhere), before)
        # A segment's size is what the manifest says.
        source = next(self.store.glob("*/segment-*"))
        with open(source, "r+b") as padded:
            padded.truncate(3 << 30)
        krul("copy", self.store, self.store / "padded")
        self.assertEqual([file.name for file in self.files(self.store / "padded")], [file.name for file in before])
        self.assertEqual(list(self.files(self.store / "padded").values()), list(before.values()))
        source.write_bytes(bytes(16))
        damaged = krul_json("copy", self.store, self.store / "damaged", expect=1)
        self.assertEqual(damaged["conversations"][0]["damaged"], [f"{source.parent.name}/{source.name}"])
        self.assertEqual(damaged["error"]["code"], "corrupt")

    def test_verify_goes_on_where_it_was_stopped(self):
        self.say("A message.")
        krul("fork", "a talk", "a branch", "--store", self.store)
        folders = [each["folder"] for each in krul_json("verify", "--store", self.store)["conversations"]]
        self.assertEqual(len(folders), 2)
        left = krul_json("verify", "--store", self.store, "--after", folders[0])["conversations"]
        self.assertEqual([each["folder"] for each in left], folders[1:])
        self.assertIn("32 hexadecimal digits", self.fails("verify", "--store", self.store, "--after", "a talk"))
        self.assertIn("changes nothing", self.fails("verify", "a talk", "--store", self.store, "--after", folders[0]))

    def test_a_store_with_a_bound_says_so_and_keeps_what_it_has(self):
        self.say("A message.")
        self.assertIn("no room", krul("chat", "--model", MODEL, "--store", self.store, "--store-bytes", 900, "--conversation", "b",
                                      "--max-tokens", 4, "--message", "Hello.", expect=1)[1])
        self.assertTrue(krul_json("verify", "--store", self.store)["ok"])
        for text in ["0", "many", "5XB", "-1GB"]:
            self.assertIn("no number of bytes", krul("list", "--store", self.store, f"--store-bytes={text}", expect=1)[1])

    def test_what_a_bound_makes_room_for_is_told(self):
        self.say("A message.")
        size = sum(file.stat().st_size for file in self.store.rglob("*") if file.is_file())
        words = ["chat", "--model", MODEL, "--store", self.store, "--max-tokens", 12, "--message", "A message."]
        self.assertEqual(krul_json(*words, "--conversation", "b", "--store-bytes", 4 * size)["evicted"], 0)
        self.assertEqual(krul_json(*words, "--conversation", "c", "--store-bytes", int(2.5 * size))["evicted"], 1)
        self.assertIn("(1 conversation was erased to make room", krul(*words, "--conversation", "d", "--store-bytes", int(2.5 * size))[1])
        self.assertEqual(len(krul_json("list", "--store", self.store)["conversations"]), 2)
        self.assertNotIn("to make room", krul(*words, "--conversation", "e", "--store-bytes", 9 * size)[1])
        # Near copies are none that are lost.
        words[words.index(self.store)] = f"{self.store},memory"
        self.assertEqual(krul_json(*words, "--conversation", "f", "--store-bytes", int(3.5 * size))["evicted"], 0)
        self.assertLess(len(krul_json("list", "--store", self.store)["conversations"]), 4)
        self.assertEqual(krul_json("fork", "f", "g", "--store", self.store)["evicted"], 0)

    def files_of(self, folder):
        return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    def flip(self, folder):
        """Damages the newest segment; what it was."""
        file = max(folder.rglob("segment-*"))
        before = file.read_bytes()
        file.write_bytes(before[:100] + bytes([before[100] ^ 1]) + before[101:])
        return file, before

    def test_what_is_near_alone_is_not_lost(self):
        near, far = self.store / "near", self.store / "far"
        tiers = f"{near},{far}"
        self.say("A message.", store=near)
        before = self.files_of(near)
        chat = ["chat", "--model", MODEL, "--store", tiers, "--conversation", "a talk", "--max-tokens", 4, "--message", "Hello."]
        self.assertIn('of "a talk" is in the near store alone', self.fails(*chat))
        self.assertEqual(self.files_of(near), before)
        self.assertEqual(krul_json("list", "--store", far)["conversations"], [])
        krul("copy", near, far)
        self.assertGreater(self.say("And the second.", store=tiers)["report"]["matched_tokens"], 0)
        # Erased by somebody else, it does not come back by itself.
        krul("erase", "a talk", "--store", far)
        self.fails(*chat)
        krul("erase", "a talk", "--store", near)
        self.assertEqual(krul_json(*chat)["report"]["matched_tokens"], 0)

    def test_one_place_is_named_once(self):
        self.say("A message.")
        (self.store.parent / "link").symlink_to(self.store)
        self.addCleanup((self.store.parent / "link").unlink)
        twice = [f"{self.store},{self.store}/", f"{self.store}/new,{self.store}/./new", f"memory,{self.store},{self.store.parent / 'link'}",
                 "redis://:secret@h,redis://h:6379/0", "s3://bucket/p,s3://bucket/p?connections=2"]
        for places in twice:
            for verb in ["list", "verify", "gc"]:
                said = self.fails(verb, "--store", places)
                self.assertIn("names one place twice", said)
                self.assertNotIn("secret", said)
        for target in [f"{self.store}/.", f"memory,{self.store}"]:
            self.assertIn("are one place", self.fails("copy", self.store, target))
        krul("list", "--store", f"{self.store},memory,memory")

    def test_verify_reads_the_store_that_counts(self):
        near, far = self.store / "near", self.store / "far"
        tiers = f"{near},{far}"
        self.say("A message.", store=tiers)
        file, whole = self.flip(near)
        self.assertTrue(krul_json("verify", "--store", tiers)["ok"])
        file.write_bytes(whole)
        self.flip(far)
        self.assertTrue(krul_json("verify", "--store", near)["ok"])
        self.assertFalse(krul_json("verify", "--store", tiers, expect=1)["ok"])
        krul("verify", "--store", tiers, "--repair", expect=1)
        self.say("And the second.", store=tiers)
        for places in [tiers, near]:
            self.assertTrue(krul_json("verify", "--store", places)["ok"])

    def test_what_is_near_is_read_while_a_server_is_away(self):
        self.say("A message.")
        away = ["--store", f"{self.store},redis://:secret@127.0.0.1:1"]
        if "unsupported" in krul("list", *away, "--json", expect=None)[0]:
            self.skipTest("built without hiredis")
        talk = ["chat", "--no-save", "--costs", "none", "--model", MODEL, "--conversation", "a talk", "--max-tokens", 4, "--message", "More."]
        out, said = krul(*talk, *away)
        self.assertEqual(out, krul(*talk, "--store", self.store)[0])
        self.assertIn("is left out", said)
        for words in [["list"], ["inspect", "a talk"], ["show", "a talk", "--model", MODEL]]:
            out, said = krul(*words, *away)
            self.assertEqual(out, krul(*words, "--store", self.store)[0])
            self.assertEqual(len(said.strip().splitlines()), 1, said)
            self.assertIn("(redis://127.0.0.1:1 is left out, and what is near may be older and not all: ", said)
        for words in [["verify"], ["erase", "a talk"], ["gc"], ["fork", "a talk", "b"]]:
            self.assertIn("127.0.0.1:1", self.fails(*words, *away))
        typo = self.store / "typo"
        self.assertIn("no such directory", self.fails("list", "--store", f"{self.store},{typo}"))
        typo.write_text("x")
        self.assertIn("not a directory", self.fails("list", "--store", f"{self.store},{typo}"))

    def test_what_was_asked_of_a_store_is_a_page_for_prometheus(self):
        self.say("A message.")
        page = self.store / "page.prom"
        for words, asked in [(["list"], "list"), (["verify"], "get"), (["erase", "a talk"], "erase")]:
            krul(*words, "--store", self.store, "--store-metrics", page)
            calls = {line.split()[0]: int(line.split()[1]) for line in page.read_text().splitlines() if line.startswith("krul_store_calls_total")}
            self.assertGreater(calls[f'krul_store_calls_total{{store="{self.store}",operation="{asked}"}}'], 0)
        # A page that cannot be written is told before the work.
        nowhere = self.store / "nowhere" / "page"
        self.assertIn("nowhere", self.fails("list", "--store", self.store, "--store-metrics", nowhere))

    def test_stores_that_cannot_be_opened(self):
        for store, said in [("ftp://host/x", "there are no stores like ftp://"), ("redis://127.0.0.1:1", "127.0.0.1:1"),
                            ("s3://b/x", "bucket"), (f"memory,{self.store / 'typo'}", "there is no such directory")]:
            self.assertIn(said, self.fails("list", "--store", store))
        missing = self.store / "no key"
        self.assertIn("no key", self.fails("list", "--store", self.store, "--store-key", missing))
        for words in [["fork", "nothing", "x"], ["copy", self.store / "typo", self.store]]:
            self.fails(*words, *(["--store", self.store] if words[0] == "fork" else []))

    def test_exact_rows_give_the_same_text_as_a_talk_that_never_stopped(self):
        lines = ["Tell me about the garden.", "Which bed was it?", "And the beans?"]
        told = subprocess.run([KRUL, "chat", "--model", MODEL, "--store", self.store, "--conversation", "live", "--max-tokens", "12"],
                              input="\n".join(lines) + "\n", capture_output=True, text=True, errors="replace", env=ENVIRONMENT, timeout=300)
        self.assertEqual(told.returncode, 0, told.stderr)
        replies = [self.say(line, "--strategy", "load-exact")["reply"] for line in lines]
        self.assertEqual(told.stdout, "".join(reply + "\n" for reply in replies))

    def test_ids_are_data(self):
        for name in ["..", "a/b", "../../etc/passwd", "~", "-x y", "ü" * 100]:
            krul("chat", "--model", MODEL, "--store", self.store, "--conversation=" + name, "--max-tokens", 1, "--message", "x")
        self.assertEqual(len(krul_json("list", "--store", self.store)["conversations"]), 6)
        self.assertEqual({len(entry.name) for entry in self.store.iterdir()}, {32})

    def test_score_and_generate_agree(self):
        text = self.store / "text"
        text.write_text("Numbers: 1 2 3 4 5, and words.")
        scored = krul_json("score", "--model", MODEL, "--text", text, "--raw", "--logits", self.store / "logits")
        self.assertIsNone(scored["logprobs"][0])
        self.assertEqual(len(scored["logprobs"]), len(scored["tokens"]))
        mean = -sum(scored["logprobs"][1:]) / (len(scored["tokens"]) - 1)
        self.assertAlmostEqual(scored["nll"], mean, places=9)
        self.assertEqual((self.store / "logits").stat().st_size % (4 * len(scored["tokens"])), 0)
        one = krul_json("generate", "--model", MODEL, "--prompt", "x", "--max-tokens", 5, "--temperature", 1, "--seed", 7)
        two = krul_json("generate", "--model", MODEL, "--prompt", "x", "--max-tokens", 5, "--temperature", 1, "--seed", 7)
        self.assertEqual(one["tokens"], two["tokens"])

    def test_every_strategy_restores(self):
        rows = krul_json("bench", "restore", "--model", MODEL, "--tokens", 200, "--prompt", 5, "--link", "2GB/s,disk,memory",
                         "--rounds", 1)["results"]
        self.assertEqual(len(rows), 18)
        for row in rows:
            for key in ["strategy", "link", "ttft_ms", "restore_ms", "bytes", "recomputed_tokens", "predicted_ms", "bound_ms", "bubble_ms"]:
                self.assertIn(key, row)

    def test_a_save_for_one_link_comes_back_over_others(self):
        words = ["bench", "restore", "--model", MODEL, "--tokens", 200, "--prompt", 5, "--strategies", "partial,krul", "--rounds", 1]
        rows = krul_json(*words, "--saved-for", "1kB/s", "--link", "1GB/s,memory")["results"]
        self.assertEqual({row["saved_for"] for row in rows}, {"1kB/s"})
        for row in rows:
            # Nothing is worth storing for so slow a link, but krul stores every row.
            self.assertEqual(row["recomputed_tokens"], 200) if row["strategy"] == "partial" else self.assertGreater(row["stored_bytes"], 200)
        self.assertIn("MB/s", self.fails(*words, "--saved-for", "carrier pigeon"))

    def test_evaluate(self):
        talks = self.store / "talks.jsonl"
        talks.write_text(json.dumps({"id": "t", "messages": [{"role": "user", "content": "beans and squash " * 20}]}) + "\n")
        found = krul_json("evaluate", "--model", MODEL, "--conversations", talks, "--history", 64, "--new", 16,
                          "--strategies", "recompute,load-exact,load-int8,krul")["strategies"]
        exact = {row["name"]: row for row in found}
        self.assertEqual(exact["recompute"]["kl"], 0)
        self.assertEqual(exact["load-exact"]["kl"], 0)
        self.assertLess(exact["load-int8"]["kl"], 0.1)

    def test_evaluate_published_coders(self):
        talks, basis = self.talks("talks.jsonl", 2), self.store / "kvtc.basis"
        words = ["evaluate", "--model", MODEL, "--conversations", talks, "--history", 128, "--new", 16, "--strategies", "load-exact"]
        coders = ["--coders", "q4_0,kivi-4,kivi-2,kvtc-2,kvtc-8-w0", "--kvtc-basis", basis]
        self.assertIn("--kvtc", self.fails(*words, *coders))
        self.assertIn("kivi-BITS", self.fails(*words, "--coders", "kivi"))
        found = krul_json(*words, *coders, "--kvtc", talks)["strategies"]
        self.assertEqual([row["name"] for row in found], ["load-exact", "q4_0", "kivi-4", "kivi-2", "kvtc-2", "kvtc-8-w0"])
        rows = {row["name"]: row for row in found}
        self.assertLess(rows["kivi-4"]["kl"], rows["kivi-2"]["kl"])
        self.assertLess(rows["kivi-2"]["bytes_per_token"], rows["kivi-4"]["bytes_per_token"])
        for row in found:
            self.assertEqual(len(row["by_conversation"]), 2)
        self.assertEqual(krul_json(*words, *coders)["strategies"], found)  # the basis was kept
        basis.write_bytes(b"x")
        self.assertIn("basis", self.fails(*words, *coders))

    def test_evaluate_greedy(self):
        figures = self.store / "figures.csv"
        found = krul_json("evaluate", "--model", MODEL, "--conversations", self.talks("talks.jsonl", 3), "--history", 96, "--new", 16, "--greedy", 12,
                          "--strategies", "load-exact,load-int4,h2o", "--coders", "kivi-2", "--csv", figures)
        self.assertEqual((found["greedy"], found["prompt"]), (12, 16))
        rows = {row["name"]: row for row in found["strategies"]}
        self.assertEqual(list(rows), ["load-exact", "load-int4", "h2o", "kivi-2"])
        self.assertEqual((rows["load-exact"]["same_mean"], rows["load-exact"]["never_differs"]), (12, 1))
        for row in rows.values():
            self.assertEqual(row["conversations"], 3)
            same = [12 if talk["same"] is None else talk["same"] for talk in row["by_conversation"]]
            self.assertAlmostEqual(row["same_mean"], sum(same) / 3)
            self.assertEqual(row["same_median"], sorted(same)[1])
        self.assertEqual(len(figures.read_text().splitlines()), 1 + 2 * len(rows))

    def talks(self, name, count, **more):
        """A file of conversations that differ from their first word on."""
        file = self.store / name
        file.write_text("".join(json.dumps({"id": f"t{i}", **more, "messages": [{"role": "user", "content": f"{i} beans and squash " * 20}]}) + "\n"
                                for i in range(count)))
        return file

    def test_evaluate_by_source(self):
        figures = self.store / "figures.csv"
        found = krul_json("evaluate", "--model", MODEL, "--conversations", self.talks("garden.jsonl", 3), self.talks("other.jsonl", 2, source='a, "b"'),
                          "--history", 64, "--new", 16, "--limit", 2, "--strategies", "load-int8,krul", "--csv", figures)["strategies"]
        for row in found:
            self.assertEqual(row["conversations"], 4)
            self.assertEqual([(source["source"], source["conversations"]) for source in row["sources"]], [("garden", 2), ('a, "b"', 2)])
            self.assertEqual([talk["id"] for talk in row["by_conversation"]], ["t0", "t1", "t0", "t1"])
            self.assertLessEqual(row["kl_low"], sum(talk["kl"] for talk in row["by_conversation"]) / 4)
            self.assertLessEqual(row["kl_q1"], row["kl_median"])
            self.assertLessEqual(row["kl_q3"], row["kl_worst"])
        with open(figures, newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([(row["strategy"], row["source"]) for row in rows],
                         [(name, source) for name in ("load-int8", "krul") for source in ("all", "garden", 'a, "b"')])
        self.assertEqual(float(rows[0]["kl"]), found[0]["kl"])
        self.assertEqual(float(rows[2]["bytes_per_token"]), found[0]["sources"][1]["bytes_per_token"])

    def test_evaluate_tasks(self):
        tasks = self.store / "tasks.jsonl"
        tasks.write_text("".join(json.dumps({"id": f"q{i}", "source": f"s{i % 2}", "context": f"The colour of bean {i} is red. " * 8,
                                             "question": f"Which colour is bean {i}?", "lead": "It is", "answer": " red"}) + "\n" for i in range(4)))
        figures = self.store / "figures.csv"
        found = krul_json("evaluate", "--model", MODEL, "--tasks", tasks, "--strategies", "recompute,load-exact,load-int8", "--csv", figures)
        self.assertEqual(found["least_gain"], 0.5)
        for row in found["strategies"]:
            self.assertEqual(row["tasks"], 4)
            self.assertEqual([source["tasks"] for source in row["sources"]], [2, 2])
            counted = [task for task in row["by_task"] if task["counts"]]
            self.assertEqual(row["counted"], len(counted))
            for task in row["by_task"]:
                gain = (task["loglik_exact"] - task["loglik_without"]) / task["answer_tokens"]
                self.assertEqual(task["counts"], gain >= 0.5)
                if row["name"] != "load-int8":
                    self.assertEqual(task["loglik"], task["loglik_exact"])
                    self.assertEqual(task["match"], task["match_exact"])
            self.assertEqual(row["loglik"] is None, not counted)
        self.assertEqual(len(figures.read_text().splitlines()), 1 + 3 * 3)
        broken = self.store / "broken.jsonl"
        broken.write_text('{"context": "x", "question": "y", "answer": "z"}\n{"context": "x"}\n')
        self.assertIn("line 2", self.fails("evaluate", "--model", MODEL, "--tasks", broken))
        broken.write_text('{"id": "mute", "context": "x", "question": "y", "answer": ""}\n')
        self.assertIn("mute", self.fails("evaluate", "--model", MODEL, "--tasks", broken))

    def test_evaluate_turns(self):
        talks = self.talks("talks.jsonl", 2)
        for words in ([], ["--rewrite"]):
            figures = self.store / "figures.csv"
            found = krul_json("evaluate", "--model", MODEL, "--conversations", talks, "--history", 96, "--new", 16, "--turns", 4,
                              "--strategies", "recompute,load-exact,load-int8", "--csv", figures, *words)
            self.assertEqual(found["rows"], "rewrite" if words else "append")
            for row in found["strategies"]:
                self.assertEqual([turn["turn"] for turn in row["turns"]], [2, 3, 4])
                for turn in row["turns"]:
                    self.assertEqual(turn["conversations"], 2)
                    self.assertEqual(turn["tokens"], 2 * (112 // 4 - 1))
                    if row["name"] == "load-exact":
                        self.assertEqual(turn["kl"], 0)
                    self.assertLess(turn["kl"], 0.1)
            self.assertEqual(len(figures.read_text().splitlines()), 1 + 3 * 3)
        for turns in (2, 5):
            found = krul_json("evaluate", "--model", MODEL, "--conversations", talks, "--history", 96, "--new", 16, "--turns", turns,
                              "--last-turn", 10, "--strategies", "load-exact")
            last = found["strategies"][0]["turns"][-1]
            self.assertEqual((last["turn"], last["tokens"], last["kl"]), (turns, 2 * 9, 0))

    def test_a_profile_is_made_and_used(self):
        self.assertIn("calibrate", self.fails("bench", "coding", "--model", MODEL))
        profile = self.store / "tiny.krulprofile"
        made = krul_json("calibrate", "--model", MODEL, "--conversations", self.talks("talks.jsonl", 8), "--out", profile)
        self.assertEqual(made["bytes"], profile.stat().st_size)
        found = krul_json("bench", "coding", "--model", MODEL, "--profile", profile, "--tokens", 130, "--steps=-20,4", "--rounds", 1)
        self.assertEqual(found["profile"], made["hash"])
        self.assertEqual([(row["step"], row["by_attention"]) for row in found["results"]], [(-20, False), (-20, True), (4, False), (4, True)])
        for fine, coarse in zip(found["results"][:2], found["results"][2:]):
            self.assertGreater(fine["bytes_per_token"], coarse["bytes_per_token"])
        for row in found["results"]:
            for figure in ("encode_core_us_per_token", "decode_core_us_per_token", "encode_share_of_recompute", "decode_share_of_recompute"):
                self.assertGreater(row[figure], 0)

    # Patience

    def test_without_patience_one_round_counts_and_is_marked(self):
        """However busy the machine is: of three rounds that were asked for, one is run."""
        bench, few = ["bench", "prefill", "--model", MODEL, "--tokens", "64,128"], ["--rounds", 3, "--patience", 0]
        out = krul_json(*bench, *few)
        self.assertTrue(out["run"]["cut_short"])
        self.assertEqual([row["rounds"] for row in out["results"]], [1, 1])
        self.assertEqual(out["run"]["disturbed"], any(row["noisy"] for row in out["results"]))
        table = krul(*bench, *few)[0]
        self.assertEqual(len(re.findall("  1 (clean|disturbed)$", table, re.M)), 2)
        self.assertIn("--patience", table)
        self.assertFalse(krul_json(*bench, "--rounds", 1)["run"]["cut_short"])
        restore = ["bench", "restore", "--model", MODEL, "--tokens", 200, "--strategies", "load-f16,krul", "--link", "memory", *few]
        out = krul_json(*restore)
        self.assertTrue(out["run"]["cut_short"])
        for row in out["results"]:
            self.assertEqual(row["rounds"], 1)
            self.assertLess(row["ratio_coverage"], 0.95)
        self.assertIn("1.00, too few rounds", krul(*restore)[0])
        krul(*bench, "--patience", -1, expect=1)

    def test_calibration_without_patience(self):
        words = ["calibrate", "--machine", "--model", MODEL, "--patience", 0]
        out = krul_json(*words)
        self.assertTrue(out["run"]["cut_short"])
        lines = pathlib.Path(out["file"]).read_text().splitlines()[1:]  # below the title
        kept = {name: float(number) for number, name in (line.split(" ", 1) for line in lines)}
        self.assertEqual([bool(kept[key]) for key in ("disturbed", "cut_short")], [out["run"][key] for key in ("disturbed", "cut_short")])
        self.assertIn("--patience", krul(*words)[0])
        krul("calibrate", "--conversations", self.talks("talks.jsonl", 1), "--patience", 5, expect=1)  # nothing is repeated there

    def test_a_copy_of_another_conversation_is_not_shown(self):
        def say(name, text, *more):
            krul_json("chat", "--model", MODEL, "--store", self.store, "--conversation", name, "--max-tokens", 4,
                      "--message", text, *more)

        say("a", "mine")
        say("other", "SECRET", "--cache", "f32")
        folders = {each["id"]: each["folder"] for each in krul_json("verify", "--store", self.store)["conversations"]}
        (self.store / folders["a"] / "manifest-a").write_bytes((self.store / folders["other"] / "manifest-a").read_bytes())
        shown = krul("show", "a", "--store", self.store, "--model", MODEL)[0]
        self.assertIn("mine", shown)
        self.assertNotIn("SECRET", shown)
        say("a", "and on")  # with the cache of its own state
        for copy in "ab":
            (self.store / folders["a"] / f"manifest-{copy}").write_bytes(
                (self.store / folders["other"] / "manifest-a").read_bytes())
        self.assertNotIn("SECRET", "".join(krul("show", "a", "--store", self.store, "--model", MODEL, expect=1)))
        out, err = krul("verify", "--store", self.store, expect=1)
        self.assertIn("restore its folder from a backup, or erase it", err)
        self.assertNotIn("the next turn", err)

    def test_the_newest_copy_is_shown_and_listed(self):
        self.say("one")
        folder = next(path for path in self.store.iterdir() if path.is_dir())
        before = (folder / "manifest-a").read_bytes()
        self.say("two")
        (folder / "manifest-a").write_bytes(before)
        self.assertIn("two", krul("show", "a talk", "--store", self.store, "--model", MODEL)[0])
        self.assertEqual(2, krul_json("list", "--store", self.store)["conversations"][0]["generation"])

    def test_quoted_marks_stay_in_messages(self):
        self.say("foo<|im_end|>\n")
        turns = krul_json("show", "a talk", "--store", self.store, "--model", MODEL)["turns"]
        self.assertEqual("foo<|im_end|>\n", turns[0]["content"] if turns[0]["role"] == "user" else turns[1]["content"])

    def test_strategies_are_listed(self):
        text = krul("strategies")[0]
        listed = krul_json("strategies")["strategies"]
        self.assertIn("krul", [each["name"] for each in listed])
        for each in listed:
            self.assertIn(each["name"], text)
            self.assertIn(each["meaning"], text)
        self.assertEqual({"int8"}, set(next(e for e in listed if e["name"] == "krul")["codings_without_profile"]))

    def test_the_demo(self):
        words = ["demo", "--model", MODEL, "--conversations", self.talks("talks.jsonl", 2), "--count", 1, "--continuation", 4]
        out = krul_json(*words, "--links", "1GB/s,disk,memory", "--patience", 0)
        self.assertEqual(len(out["results"]), 3 * 8)
        self.assertTrue(out["run"]["cut_short"])
        self.assertEqual(out["run"]["disturbed"], any(row["disturbed"] for row in out["results"]))
        for row in out["results"]:
            self.assertEqual((row["conversation"], row["rounds"]), ("t0", 1))
            if row["strategy"] in ("recompute", "load-exact"):
                self.assertEqual((row["kl"], row["same_text"], row["first_difference"]), (0, True, None))
        same = {row["strategy"]: row["stored_bytes"] for row in out["results"] if row["link"] == "disk"}
        self.assertEqual(same["load-f16"], next(row["stored_bytes"] for row in out["results"] if row["strategy"] == "load-f16"))
        table = krul(*words, "--links", "memory", "--patience", 0)[0]
        self.assertEqual(len(re.findall("  1 (clean|disturbed)$", table, re.M)), 8)
        self.assertIn("--patience", table)

    def test_a_profile_of_texts_that_the_model_writes(self):
        words = ["calibrate", "--model", MODEL, "--tokens", 2500]
        made = [krul_json(*words, "--seed", seed, "--out", self.store / "tiny.krulprofile") for seed in (0, 0, 1)]
        self.assertGreaterEqual(made[0]["tokens"], 2500)
        self.assertEqual(made[0]["hash"], made[1]["hash"])
        self.assertNotEqual(made[0]["hash"], made[2]["hash"])

    def test_a_profile_is_made_where_there_is_none_and_then_used(self):
        env = {**ENVIRONMENT, "KRUL_CACHE": str(self.store / "cache")}
        talk = ["chat", "--model", MODEL, "--store", self.store / "talks", "--conversation", "t", "--max-tokens", 4, "--message", "Hello."]
        self.assertIn("krul calibrate makes", krul(*talk, env=env)[1])
        words = ["calibrate", "--if-missing", "--model", MODEL, "--tokens", 2500]
        made, kept = krul_json(*words, env=env), krul_json(*words, env=env)
        self.assertEqual((kept["hash"], kept["profile"]), (made["hash"], made["profile"]))
        self.assertIn("tokens", made)
        self.assertNotIn("tokens", kept)
        self.assertNotIn("krul calibrate makes", krul(*talk, env=env)[1])
        krul(*words, "--out", self.store / "x", expect=1)
        krul("calibrate", "--machine", "--if-missing", expect=1)

    def test_a_chat_offers_a_profile_on_a_terminal_only(self):
        words = ["chat", "--model", MODEL, "--store", self.store, "--conversation", "t", "--max-tokens", "4"]
        piped = subprocess.run([KRUL, *words], input="Hello.\n", capture_output=True, text=True, errors="replace", env=ENVIRONMENT, timeout=300)
        self.assertEqual(piped.returncode, 0, piped.stderr)
        self.assertNotIn("[y/N]", piped.stderr)
        self.assertEqual(piped.stderr.count("krul calibrate makes"), 1)
        terminal, end = pty.openpty()
        chat = subprocess.Popen([KRUL, *words], stdin=end, stdout=subprocess.DEVNULL, stderr=end, env=ENVIRONMENT)
        os.close(end)
        os.write(terminal, b"n\n\n")  # no profile, and no message
        shown = b""
        while chat.poll() is None or select.select([terminal], [], [], 0)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
        self.assertEqual(chat.wait(timeout=300), 0)
        os.close(terminal)
        self.assertEqual(shown.count(b"[y/N]"), 1)

    # Damage

    def test_a_tampered_byte_anywhere_does_not_change_the_reply(self):
        self.say("A talk that is long enough to fill more than one block of tokens, so that there is something to lose.", "--strategy", "load-exact")
        self.say("And some more of it, for the block that is still open.", "--strategy", "load-exact")
        intact = pathlib.Path(tempfile.mkdtemp(dir=ROOT)) / "copy"
        shutil.copytree(self.store, intact)
        expected = self.say("What now?", "--strategy", "load-exact")["reply"]
        generator = random.Random(1)
        for file in sorted(path.relative_to(intact) for path in intact.rglob("*") if path.is_file() and path.stat().st_size):
            for _ in range(3):
                copy = pathlib.Path(tempfile.mkdtemp(dir=ROOT)) / "copy"
                shutil.copytree(intact, copy)
                data = bytearray((copy / file).read_bytes())
                data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
                (copy / file).write_bytes(data)
                damaged = not krul_json("verify", "--store", copy, expect=None)["ok"]
                answer = self.say("What now?", "--strategy", "load-exact", store=copy)
                self.assertEqual(answer["reply"], expected)
                self.assertEqual(bool(answer["report"]["reasons"]), damaged, file)

    def test_a_missing_object_is_recomputed(self):
        self.say("A talk of which an object will be lost.", "--strategy", "load-exact")
        for file in self.store.rglob("segment-*"):
            file.unlink()
        answer = self.say("What now?", "--strategy", "load-exact")  # a plan that would have read it
        self.assertGreater(answer["report"]["repaired_rows"], 0)
        self.assertTrue(answer["report"]["reasons"])

    def test_a_killed_chat_loses_at_most_its_turn(self):
        generator = random.Random(2)
        told = []  # tokens after each turn that is known to be saved
        for kill in range(int(os.environ.get("KRUL_KILLS", "20"))):
            chat = subprocess.Popen([KRUL, "chat", "--model", MODEL, "--store", self.store, "--conversation", "a talk", "--max-tokens", "4", "--json",
                                     "--message", f"Message {kill}."], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
            time.sleep(generator.uniform(0, float(os.environ.get("KRUL_KILL_SECONDS", "0.15"))))
            chat.send_signal(signal.SIGKILL)
            chat.wait()
            listed = krul_json("list", "--store", self.store)["conversations"]
            tokens = listed[0]["tokens"] if listed else 0
            generation = listed[0]["generation"] if listed else 0
            self.assertTrue(not told or (tokens, generation) >= told[-1])
            if listed and (not told or generation != told[-1][1]):
                self.assertEqual(generation, (told[-1][1] if told else 0) + 1)
            if listed:
                verified = krul("verify", "a talk", "--store", self.store)[0]
                self.assertIn("ok", verified)
                told.append((tokens, generation))
        answer = self.say("The last message.")
        self.assertEqual(answer["report"]["matched_tokens"] > 0, bool(told))

    # What was shown is not lost, and what is said is true

    def test_output_that_cannot_be_written(self):
        """A full device and a closed pipe are errors for every verb that prints, in both forms, also at the last flush."""
        self.say("A first message.")
        text, talks = self.store / "text", self.talks("talks.jsonl", 1)
        text.write_text("Some text.")
        model, store = ["--model", MODEL], ["--store", self.store]
        verbs = [["chat", *model, *store, "--conversation", "b", "--max-tokens", 3, "--message", "x"], ["generate", *model, "--prompt", "x", "--max-tokens", 3],
                 ["score", *model, "--text", text], ["bench", "prefill", *model, "--tokens", 16, "--rounds", 1, "--patience", 0],
                 ["evaluate", *model, "--conversations", talks, "--history", 64, "--new", 16, "--strategies", "load-exact"],
                 ["list", *store], ["inspect", "a talk", *store], ["verify", *store], ["show", "a talk", *model, *store], ["simulate"]]
        for verb in [*verbs, *([*verb, "--json"] for verb in verbs), ["--help"], ["chat", "--help"], ["--version"]]:
            with open("/dev/full", "w") as full:
                self.is_told(verb, full)
            reader, writer = os.pipe()
            os.close(reader)
            with os.fdopen(writer, "w") as closed:
                self.is_told(verb, closed)
        done = subprocess.run(["sh", "-c", 'exec "$0" "$@" >&-', KRUL, "list", *map(str, store)], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("a talk", krul("list", *store)[0])  # and nothing was written into the store instead

    def is_told(self, words, output):
        done = subprocess.run([KRUL, *map(str, words)], stdout=output, stderr=subprocess.PIPE, text=True, errors="replace", env=ENVIRONMENT, timeout=300)
        self.assertEqual(done.returncode, 1, (words, done.stderr))
        self.assertIn("krul: standard output cannot be written", done.stderr, words)

    def test_a_reply_nobody_reads_any_more_is_saved_as_far_as_it_came(self):
        chat = self.chat("--max-tokens", 100000, "--message", "x", model=self.endless())
        chat.stdout.read(10)
        chat.stdout.close()
        self.assertEqual(chat.wait(timeout=300), 1)
        self.assertIn("standard output cannot be written", chat.stderr.read())
        self.assertTrue(self.shown().startswith("x"))

    def with_context(self, context):
        """The model with another length of context; as it is, if its file has no such number where it is looked for."""
        data, key = pathlib.Path(MODEL).read_bytes(), b"llama.context_length" + struct.pack("<I", 4)
        if data.count(key) != 1:
            return MODEL
        file, at = self.store.with_suffix(f".{context}.gguf"), data.index(key) + len(key)
        file.write_bytes(data[:at] + struct.pack("<I", context) + data[at + 4:])
        return file

    def endless(self):
        """A model whose replies go on until they are stopped, or are long if a model was asked for."""
        return MODEL if os.environ.get("KRUL_TOOL_MODEL") else self.tiny("ends=0", f"context={1 << 16}")

    def chat(self, *words, model=MODEL, small=False):
        """A chat that goes on while the test looks; it can write files of 100 bytes only if small is set."""
        def prepare():
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may ignore them
            if small:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        chat = subprocess.Popen([KRUL, *map(str, ["chat", "--model", model, "--store", self.store, "--conversation", "t", *words])], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=ENVIRONMENT, preexec_fn=prepare)
        self.addCleanup(lambda: [chat.poll() is None and chat.kill(), chat.wait(), *(file.close() for file in (chat.stdin, chat.stdout, chat.stderr))])
        return chat

    def shown(self, id="t"):
        """What the user said last, and the reply."""
        turns = krul_json("show", id, "--model", MODEL, "--store", self.store)["turns"]
        self.assertEqual([turn["role"] for turn in turns[-2:]], ["user", "assistant"])
        return turns[-2]["content"] + turns[-1]["content"]

    def test_figures_are_shown_although_their_file_cannot_be_written(self):
        text, talks = self.store / "text", self.talks("talks.jsonl", 1)
        text.write_text("Some text.")
        for words, key in ((["evaluate", "--model", MODEL, "--conversations", talks, "--history", 64, "--new", 16, "--strategies", "load-exact", "--csv", "/dev/full"], "strategies"),
                           (["score", "--model", MODEL, "--text", text, "--logits", "/dev/full"], "nll"),
                           (["simulate", "--map", "--geometry", "smollm2-135m", "--hardware", "zen4x2-disk", "--tokens", 256, "--csv", "/dev/full"], "results")):
            told = krul_json(*words, expect=1)
            self.assertIn(key, told)
            self.assertEqual(told["error"]["code"], "no_space")
            shown, errors = krul(*words, expect=1)
            self.assertTrue(shown)
            self.assertIn("cannot write /dev/full", errors)
            nowhere = krul_json(*words[:-1], self.store / "nowhere" / "file", expect=1)["error"]
            self.assertEqual(nowhere["code"], "io")
            self.assertIn("nowhere/file: No such file or directory", nowhere["message"])

    def test_help_and_version_in_json(self):
        self.assertIn("krul", krul_json("--version")["version"])
        self.assertIn("--conversation", krul_json("chat", "--help")["help"])
        self.assertIn("Usage", krul_json("--help")["help"])

    # Standard input

    def told_lines(self, text, **more):
        """A chat that gets these bytes; how it ended."""
        words = ["chat", "--model", MODEL, "--store", self.store, "--conversation", "lines", "--max-tokens", 2, "--costs", "none"]
        return subprocess.run([KRUL, *map(str, words)], input=text, capture_output=True, env=ENVIRONMENT, timeout=300, **more)

    def users_lines(self):
        turns = krul_json("show", "lines", "--model", MODEL, "--store", self.store)["turns"]
        return [turn["content"] for turn in turns if turn["role"] == "user"]

    def test_every_line_is_answered_however_it_ends(self):
        done = self.told_lines(b"One.\n\n\r\nTwo.\r\n three \nFour")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.users_lines(), ["One.", "Two.", " three ", "Four"])

    def test_lines_are_bytes_like_files(self):
        text = self.store / "text"
        text.write_bytes(b"a\0b \xff")
        self.assertGreater(len(krul_json("score", "--model", MODEL, "--text", text)["tokens"]), 2)
        done = self.told_lines(b"a\0b \xff\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(self.users_lines()), 1)
        if "KRUL_TOOL_MODEL" not in os.environ:  # its tokenizer has all bytes
            self.assertEqual(self.users_lines(), ["a\0b \ufffd"])

    def test_an_input_that_cannot_be_read_is_an_error(self):
        folder = os.open(self.store, os.O_RDONLY)
        self.addCleanup(os.close, folder)
        words = ["--model", MODEL, "--store", str(self.store), "--conversation", "t", "--costs", "none"]
        for verb in (["chat", *words], ["bench", "serve", *words[:2]]):
            for done in (subprocess.run([KRUL, *verb], stdin=folder, capture_output=True, text=True, env=ENVIRONMENT, timeout=300),
                         subprocess.run(["sh", "-c", 'exec "$0" "$@" <&-', KRUL, *verb], capture_output=True, text=True, env=ENVIRONMENT, timeout=300)):
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn("standard input cannot be read", done.stderr)
        self.assertEqual(self.told_lines(b"").returncode, 0)

    def test_pipes_are_read_like_files(self):
        done = subprocess.run([KRUL, "score", "--model", MODEL, "--text", "/dev/stdin", "--json"], input="Some text.", capture_output=True, text=True, env=ENVIRONMENT)
        self.assertEqual(done.returncode, 0, done.stderr)
        text = self.store / "text"
        text.write_text("Some text.")
        self.assertEqual(json.loads(done.stdout)["tokens"], krul_json("score", "--model", MODEL, "--text", text)["tokens"])
        self.assertIn("/dev/zero is larger than 64 MiB", self.fails("score", "--model", MODEL, "--text", "/dev/zero"))

    def test_nothing_to_score(self):
        self.assertIn("/dev/null is empty", self.fails("score", "--model", MODEL, "--text", "/dev/null"))
        text, model = self.store / "text", self.tiny()
        text.write_text("x")
        told = krul_json("score", "--model", model, "--text", text, "--raw")
        self.assertEqual((len(told["tokens"]), told["logprobs"], told["nll"]), (1, [None], None))
        self.assertIn("nothing to score", krul("score", "--model", model, "--text", text, "--raw")[0])

    def test_a_full_disk_loses_no_reply(self):
        self.say("x")  # costs are known
        expected = krul_json("chat", "--model", MODEL, "--store", self.store, "--conversation", "u", "--message", "Hello.", "--max-tokens", 8)["reply"]
        chat = self.chat("--message", "Hello.", "--max-tokens", 8, small=True)
        reply, errors = chat.communicate(timeout=300)
        self.assertEqual((chat.returncode, reply), (1, expected + "\n"))
        self.assertIn("krul: this turn is not saved: ", errors)
        chat = self.chat("--message", "Hello.", "--max-tokens", 8, "--json", small=True)
        told = json.loads(chat.communicate(timeout=300)[0])
        self.assertEqual((chat.returncode, told["reply"], told["saved"], told["error"]["code"]), (1, expected, None, "no_space"))
        self.assertNotIn("t", [entry["id"] for entry in krul_json("list", "--store", self.store)["conversations"]])

    def test_a_talk_goes_on_after_a_full_disk(self):
        self.say("x")
        for room, code in ((100, 1), (-1, 0)):
            chat = self.chat("--max-tokens", 4, small=True)
            chat.stdin.write("One.\n")
            chat.stdin.flush()
            chat.stdout.readline()
            resource.prlimit(chat.pid, resource.RLIMIT_FSIZE, (room, -1))  # there may be room again
            replies, errors = chat.communicate("Two.\nThree.\n", timeout=300)
            self.assertEqual(chat.returncode, code, errors)
            self.assertGreaterEqual(replies.count("\n"), 2)
            self.assertIn("not saved" if code else "", errors)
        self.assertEqual(krul_json("inspect", "t", "--store", self.store)["id"], "t")
        self.assertTrue(self.shown().startswith("Three."))

    def test_an_interrupted_reply_is_a_turn_that_was_cut(self):
        model = self.endless()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            chat = self.chat("--max-tokens", 100000, "--message", f"By {number}.", model=model)
            begin = chat.stdout.read(3)
            chat.send_signal(number)
            rest, errors = chat.communicate(timeout=300)
            self.assertEqual(chat.returncode, 128 + number, errors)
            self.assertIn("interrupted", errors)
            shown = self.shown()
            self.assertTrue(shown.startswith(f"By {number}."))
            self.assertGreater(len(shown), len(f"By {number}."))
        self.assertTrue(krul_json("verify", "--store", self.store)["ok"])
        again = self.chat("--max-tokens", 2, "--message", "And on.", "--json", model=model)
        told = json.loads(again.communicate(timeout=300)[0])
        self.assertEqual((again.returncode, told["ended"], told["report"]["reasons"]), (0, "length", []))

    def test_an_interrupted_reply_in_json(self):
        words = ["--max-tokens", 100000, "--message", "x", "--json", "--costs", "none"]
        model, wait_s, code = self.endless(), 0.1, -signal.SIGINT
        while code == -signal.SIGINT:  # the model was still being loaded
            chat = self.chat(*words, model=model)
            time.sleep(wait_s)
            chat.send_signal(signal.SIGINT)
            output, code, wait_s = chat.communicate(timeout=300)[0], chat.returncode, 2 * wait_s
        told = json.loads(output)
        self.assertEqual((code, told["ended"], told["saved"]["generation"]), (128 + signal.SIGINT, "interrupted", 1))
        self.assertEqual(told["error"]["code"], "cancelled")

    def test_a_second_interrupt_ends_at_once(self):
        chat = self.chat("--max-tokens", 100000, "--message", "x", model=self.endless())
        chat.stdout.read(3)
        for _ in range(20):  # the first ones may come while it still looks
            chat.send_signal(signal.SIGINT)
        chat.wait(timeout=300)
        self.assertIn(chat.returncode, (-signal.SIGINT, 128 + signal.SIGINT))
        self.assertTrue(krul_json("verify", "--store", self.store)["ok"])

    def test_an_interrupted_terminal_chat_goes_on(self):
        terminal, end = pty.openpty()
        chat = subprocess.Popen([KRUL, *map(str, ["chat", "--model", self.endless(), "--store", self.store, "--conversation", "t", "--max-tokens", "100000", "--costs", "none",
                                 "--strategy", "load-f16"])], stdin=end, stdout=end, stderr=end, env=ENVIRONMENT, start_new_session=True,
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        os.close(end)
        shown = b""

        def read_until(text):
            nonlocal shown
            while text not in shown:
                self.assertTrue(select.select([terminal], [], [], 60)[0], shown)
                shown += os.read(terminal, 4096)
            shown = shown[shown.index(text) + len(text):]
        for _ in range(2):
            read_until(b"> ")
            os.write(terminal, b"Hello.\n")
            read_until(b"Hello.\r\n")
            while len(shown) < 8:
                shown += os.read(terminal, 4096)
            chat.send_signal(signal.SIGINT)
            read_until(b"(interrupted")
        read_until(b"> ")
        chat.send_signal(signal.SIGINT)  # at the prompt: the end
        self.assertEqual(chat.wait(timeout=60), 128 + signal.SIGINT)
        os.close(terminal)
        self.assertEqual(len(krul_json("show", "t", "--model", MODEL, "--store", self.store)["turns"]), 4)

    def test_why_a_reply_ended(self):
        self.assertEqual(self.say("x")["ended"], "length")
        told = krul_json("generate", "--model", MODEL, "--prompt", "x", "--threads", 1, "--max-tokens", 100000)
        self.assertIn(told["ended"], ("context", "stop"))
        if told["ended"] == "context":
            self.assertIn("is full", krul("generate", "--model", MODEL, "--prompt", "x", "--threads", 1, "--max-tokens", 100000)[1])

    def test_a_full_context(self):
        """By default the reply is cut, and that is told; with shift, the oldest turns go."""
        words = ["--max-tokens", 100000, "--threads", 1, "--conversation", "full"]
        full = krul_json("chat", "--model", MODEL, "--store", self.store, "--message", "The first.", *words)
        if full["ended"] == "stop":
            self.skipTest("this model ends its reply")
        self.assertEqual(full["ended"], "context")
        said = ["chat", "--model", MODEL, "--store", self.store, "--message", "The second.", *words[4:]]
        self.assertIn("--on-full shift", self.fails(*said))
        self.assertIn("full", krul("chat", "--model", MODEL, "--store", self.store, "--conversation", "again", "--threads", 1, "--max-tokens", 100000, "--message", "x")[1])
        shifted = krul_json(*said, "--max-tokens", 5, "--on-full", "shift")
        self.assertGreater(shifted["left_out_tokens"], 100)
        self.assertEqual(shifted["ended"], "length")
        self.assertTrue(self.shown("full").startswith("The second."))
        self.assertNotIn("The first.", krul_json("show", "full", "--model", MODEL, "--store", self.store)["text"])
        self.assertTrue(krul_json("verify", "--store", self.store)["ok"])
        self.assertIn("context", self.fails(*said[:6], "word " * 20000, *said[7:], "--on-full", "shift"))

    def test_a_context_that_is_full_in_the_middle_of_a_reply(self):
        """With shift, the turns before this one go; what is left is what the model has seen."""
        for attempt in range(10):  # until a reply does not end by itself
            chat = ["chat", "--model", MODEL, "--store", self.store, "--conversation", attempt, "--on-full", "shift", "--threads", 1]
            krul_json(*chat, "--message", "The first.", "--max-tokens", 5)
            told, errors = krul(*chat, "--message", f"Go on, {attempt}.", "--max-tokens", 100000)
            if "left out" in errors:
                break
        else:
            self.skipTest("this model ends its replies")
        self.assertIn("is full: the reply was cut", errors)  # once it was alone
        shown = krul_json("show", attempt, "--model", MODEL, "--store", self.store)
        self.assertEqual([turn["role"] for turn in shown["turns"] if turn["role"] != "system"], ["user", "assistant"])
        self.assertEqual(shown["turns"][-2]["content"], f"Go on, {attempt}.")
        self.assertTrue(krul_json("verify", "--store", self.store)["ok"])
        again = krul_json(*chat, "--message", "Once more.", "--max-tokens", 5)
        self.assertGreater(again["left_out_tokens"], 0)

    def test_a_conversation_is_shown(self):
        replies = [self.say(text)["reply"] for text in ("First.", "Second\nline.")]
        told = krul_json("show", "a talk", "--model", MODEL, "--store", self.store)
        turns = [turn for turn in told["turns"] if turn["role"] != "system"]
        self.assertEqual([turn["role"] for turn in turns], ["user", "assistant"] * 2)
        self.assertEqual([turn["content"] for turn in turns[::2]], ["First.", "Second\nline."])
        self.assertEqual([turn["content"] for turn in turns[1::2]], [reply.removeprefix("\n") for reply in replies])
        self.assertIn("Second\nline.", told["text"])
        text = krul("show", "a talk", "--model", MODEL, "--store", self.store)[0]
        self.assertIn("user: First.\n", text)
        self.assertIn("nothing is saved under", self.fails("show", "another", "--model", MODEL, "--store", self.store))
        self.assertIn("no such directory", self.fails("show", "a talk", "--model", MODEL, "--store", self.store / "nowhere"))
        self.assertFalse((self.store / "nowhere").exists())

    # Usage

    VERBS = ["chat", "generate", "score", "calibrate", "evaluate", "bench prefill", "bench decode", "bench restore", "bench coding", "bench save", "bench observe",
             "bench serve", "simulate", "demo", "list", "inspect", "verify", "erase", "show"]

    def options(self, verb, kinds):
        """The verb's options whose values are of these kinds, as its help names them."""
        for line in krul(*verb.split(), "--help")[0].splitlines():
            if found := re.match(r"\s+(--[\w-]+)(?:,--[\w-]+)* (%s)\b" % "|".join(kinds), line):
                yield found[1], found[2]

    def is_usage(self, words, option):
        """One line that names the option, in JSON as well."""
        done = subprocess.run([KRUL, *words, "--json"], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
        self.assertEqual(done.returncode, 1, (words, done.stdout, done.stderr))
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        error = json.loads(done.stdout)["error"]
        self.assertEqual(error["code"], "invalid_argument")
        self.assertIn(option, error["message"])
        return error["message"]

    def test_numbers_out_of_range_are_answered_with_the_range(self):
        seen = 0
        for verb in self.VERBS:
            for option, kind in self.options(verb, ["UINT", "INT", "FLOAT"]):
                bad = ["nan", "inf", "-inf", "1e400", "99999999999999999999999", "one", "", " ", "1x"]
                bad += ["-1"] if kind == "UINT" else ["1e300"] if kind == "FLOAT" else ["1000000"]
                for value in bad:
                    message = self.is_usage([*verb.split(), f"{option}={value}"], option)
                    self.assertTrue("no number in its range: " in message or "empty" in message, message)
                    seen += 1
        self.assertGreater(seen, 300)
        for words in (["generate", "--top-p", "0"], ["calibrate", "--tokens", "0"], ["chat", "--max-tokens", "0"], ["simulate", "--prompt", "0"], ["bench", "prefill", "--tokens", "64,0"],
                      ["simulate", "--load", "1,nan"], ["evaluate", "--limit=-1"], ["generate", "--temperature=-0.5"], ["generate", "--seed", "18446744073709551616"]):
            self.assertIn("no number in its range: ", self.is_usage(words, [word for word in words if word.startswith("--")][-1].split("=")[0]))

    def test_no_value_may_be_empty(self):
        for verb in self.VERBS:
            for option, _ in self.options(verb, ["TEXT", "UINT", "INT", "FLOAT"]):
                for words in ([option, ""], [option + "="]):
                    self.is_usage([*verb.split(), *words], option)
        self.is_usage(["inspect", ""], "conversation")

    def test_devices_are_named(self):
        for device in ["gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:1x", "cuda:99999999999", "cpu:0"]:
            for verb in (["generate", "--prompt", "x"], ["bench", "restore"]):
                self.assertIn("is no device", self.is_usage([*verb, "--model", MODEL, "--device", device], "--device"))
        self.assertEqual(krul("generate", "--model", MODEL, "--prompt", "x", "--max-tokens", 4, "--device", "cpu"), krul("generate", "--model", MODEL, "--prompt", "x", "--max-tokens", 4))

    def test_a_device_that_is_not_there_is_one_clear_error(self):
        text = self.store / "text"
        text.write_text("Some text.")
        needs = {"chat": ["--conversation", "x", "--message", "y", "--store", self.store], "generate": ["--prompt", "x"], "score": ["--text", text]}
        verbs = [verb for verb in self.VERBS if any(option == "--device" for option, _ in self.options(verb, ["TEXT"]))]
        self.assertEqual(set(verbs) | {"simulate", "list", "inspect", "verify", "erase", "show"}, set(self.VERBS))
        for verb in [*verbs, "calibrate --machine"]:
            words = [*verb.split(), *needs.get(verb, []), "--model", MODEL, "--device", "cuda:4096"]
            self.fails(*words)
            error = krul_json(*words, expect=1)["error"]
            self.assertIn(error["code"], ["backend", "unsupported"], (verb, error))
            self.assertTrue("CUDA" in error["message"] or "--device cpu" in error["message"], error)
        self.assertEqual(krul_json("list", "--store", self.store)["conversations"], [])

    def test_a_link_to_a_device_needs_one(self):
        model, talks = ["--model", MODEL], self.talks("talks.jsonl", 2)
        for words in (["bench", "restore", *model, "--link", "disk,pcie"], ["bench", "restore", *model, "--saved-for", "pcie"],
                      ["evaluate", *model, "--link", "pcie"], ["demo", *model, "--conversations", talks, "--links", "pcie"]):
            message = self.fails(*words)
            self.assertIn("add --device cuda", message)
            self.assertIn("link memory", message)
        self.assertIn("--hardware", self.fails("simulate", "--link", "pcie"))

    def test_what_a_device_cannot_do_is_named(self):
        words = ["generate", "--model", MODEL, "--prompt", "x"]
        for more, option in ((["--device", "cuda", "--precision", "int8"], "--precision"), (["--device", "cuda", "--kernels", "krul"], "--kernels"), (["--precision", "f16"], "--precision")):
            self.is_usage([*words, *more], option)
        for verb in (["calibrate"], ["calibrate", "--if-missing"], ["bench", "prefill", "--phases"]):
            self.assertIn("--device cpu", self.fails(*verb, "--model", MODEL, "--device", "cuda"))

    def test_other_mistakes_are_one_line_and_json_as_well(self):
        self.is_usage(["dance"], "dance")
        self.is_usage([], "subcommand")
        self.is_usage(["chat"], "--conversation")
        self.is_usage(["generate", "--prompt", "x", "--precision", "f64"], "--precision")
        self.is_usage(["list", "--\x1b[2J"], "argument")
        self.assertIn("prefill", self.is_usage(["bench", "foo"], "\"foo\""))
        self.assertIn("prefill", self.is_usage(["bench"], "subcommand"))
        self.assertIn("no option", self.is_usage(["--nosuch"], "--nosuch"))
        self.assertIn("no option", self.is_usage(["bench", "--nosuch"], "--nosuch"))
        self.is_usage(["chat", "--convrsation", "x"], "--convrsation")
        self.is_usage(["generate", "--prompt", "x", "--threads", "1025"], "--threads")
        self.is_usage(["evaluate", "--precisions", "f64"], "--precisions")
        self.assertIn("partial,krul", self.is_usage(["bench", "restore", "--strategies", "partial,krul", "--against", "fastest"], "fastest"))

    def test_options_without_effect_are_refused(self):
        model = ["--model", MODEL]
        for words, option in ((["simulate", "--csv", "x"], "--csv"), (["simulate", "--fit", "--tokens", "9"], "--tokens"), (["simulate", "--fit", "--link", "9GB/s"], "--link"),
                              (["simulate", "--ratio", "2"], "--ratio"), (["simulate", "--map", "--link", "9GB/s"], "--link"), (["simulate", "--map", "--strategies", "krul-best"], "--strategies"),
                              (["simulate", "--load", "2"], "--load"), (["simulate", "--host-memory", "2"], "--host-memory"), (["simulate", "--device-memory", "2"], "--device-memory"),
                              (["simulate", "--trace", "x.csv", "--prompt", "9"], "--prompt"), (["simulate", "--costs", "x", "--hardware", "a100-pcie4"], "--hardware"),
                              (["generate", *model, "--prompt", "x", "--seed", "1"], "--seed"), (["generate", *model, "--prompt", "x", "--top-k", "1"], "--top-k"),
                              (["chat", *model, "--conversation", "x", "--top-p", "1"], "--top-p"), (["generate", *model, "--prompt", "x", "--raw", "--chat-template", "chatml"], "--raw"),
                              (["score", *model, "--text", "x", "--raw", "--chat-template", "chatml"], "--raw"),
                              (["calibrate", *model, "--machine", "--out", "x"], "--out"), (["calibrate", *model, "--machine", "--seed", "1"], "--seed"), (["calibrate", *model, "--store", "x"], "--store"),
                              (["calibrate", *model, "--without", "x"], "--without"), (["calibrate", *model, "--conversations", "x", "--seed", "1"], "--seed"),
                              (["evaluate", *model, "--precisions", "f32", "--strategies", "krul"], "--strategies"), (["evaluate", *model, "--tasks", "x", "--history", "64"], "--history"),
                              (["evaluate", *model, "--history", "64", "--new", "8", "--coders", "q4_0", "--kvtc", "x"], "--kvtc"),
                              (["bench", "restore", *model, "--link", "memory", "--warm"], "--warm")):
            self.is_usage(words, option)

    def test_what_cannot_be_measured_is_no_internal_error(self):
        model, talks = ["--model", MODEL], self.talks("talks.jsonl", 2)
        self.assertIn("--last-turn", self.fails("evaluate", *model, "--history", 32, "--new", 8, "--turns", 3, "--last-turn", 100))
        self.assertIn("--turns", self.fails("evaluate", *model, "--history", 32, "--new", 8, "--turns", 1000))
        self.assertIn("directory", self.fails("evaluate", *model, "--history", 64, "--new", 8, "--coders", "kvtc-4", "--kvtc-basis", self.store))
        self.assertIn("talks.jsonl", self.fails("evaluate", *model, "--history", 64, "--new", 8, "--conversations", talks, self.broken(talks)))
        self.assertGreater(krul_json("calibrate", *model, "--conversations", self.talks("more.jsonl", 8), "--out", "/dev/null")["bytes"], 0)
        self.assertIn("layers", self.fails("bench", "observe", "--model", self.tiny(), "--tokens", 32))

    def broken(self, talks):
        file = talks.with_name("broken-" + talks.name)
        file.write_text("no JSON\n")
        return file

    def test_the_baseline_of_a_table_is_named(self):
        words = ["bench", "restore", "--model", MODEL, "--tokens", 64, "--prompt", 4, "--link", "memory", "--rounds", 1, "--patience", 0, "--strategies", "recompute,load-int8"]
        self.assertIn("time against recompute", krul(*words)[0])
        self.assertEqual({row["against"] for row in krul_json(*words, "--against", "load-int8")["results"]}, {"load-int8"})

    def test_restores_from_a_store_of_ones_own_are_measured_and_leave_nothing_there(self):
        words = ["bench", "restore", "--model", MODEL, "--tokens", 64, "--prompt", 4, "--rounds", 1, "--patience", 0, "--strategies", "load-int8", "--store", self.store]
        self.assertIn("no such directory", self.fails(*words[:-1], self.store / "nowhere"))
        krul("chat", "--model", MODEL, "--store", self.store, "--conversation", "mine", "--max-tokens", 3, "--message", "hello")
        run = krul_json(*words)
        self.assertEqual(run["run"]["store"], str(self.store))
        self.assertEqual([row["link"] for row in run["results"]], [str(self.store)])
        self.assertEqual([row["id"] for row in krul_json("list", "--store", self.store)["conversations"]], ["mine"])
        self.assertIn("--link", self.fails(*words, "--link", "memory"))
        self.assertIn("--store-bytes", self.fails(*words, "--store-bytes", "1GB"))

    def test_names_and_texts_cannot_command_the_terminal(self):
        name = "one\ntwo\x1b[2J\u202e"
        shown = "one\\ntwo\\x1b[2J\\u202e"
        chat = ["chat", "--model", MODEL, "--store", self.store, "--conversation", name, "--max-tokens", 3, "--message"]
        krul(*chat, "say \x1b]0;title\x07")
        found = [krul("list", "--store", self.store), krul("inspect", name, "--store", self.store), krul("show", name, "--model", MODEL, "--store", self.store),
                 krul(*chat[:-1], "--cache", "f32", "--message", "x", expect=1), krul("inspect", name + "!", "--store", self.store, expect=1),
                 krul("show", name + "!", "--model", MODEL, "--store", self.store, expect=1), krul("verify", "--store", self.store),
                 krul("generate", "--model", "no\x1b[2Jmodel", "--prompt", "x", expect=1)]
        talks = self.store / "talks.jsonl"
        talks.write_text("".join(json.dumps({"id": name, "source": source, "messages": [{"role": "user", "content": "beans and squash " * 20}]}) + "\n" for source in (name, "b")))
        found.append(krul("evaluate", "--model", MODEL, "--conversations", talks, "--history", 64, "--new", 16, "--strategies", "load-exact"))
        found.append(krul("demo", "--model", MODEL, "--conversations", talks, "--count", 1, "--continuation", 2, "--links", "memory", "--patience", 0))
        for words in found:
            for text in words:
                self.assertNotRegex(text, "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
        for text in (found[0][0], found[1][0], found[3][1], found[8][0], found[9][0]):
            self.assertIn(shown, text)
        self.assertIn("\\x1b]0;title\\x07", found[2][0])
        self.assertEqual(krul_json("list", "--store", self.store)["conversations"][0]["id"], name)

    def test_messages_name_conversations_not_folders(self):
        self.say("x")
        folder = next(entry for entry in self.store.iterdir() if len(entry.name) == 32)
        shutil.move(folder, self.store / "elsewhere")
        folder.write_text("in its place")
        message = self.fails("chat", "--model", MODEL, "--store", self.store, "--conversation", "a talk", "--message", "x")
        self.assertNotIn(folder.name, message)
        self.assertIn("a talk", message)

    # The first start

    def first(self, *words, **environment):
        """A chat where nothing is known of the machine."""
        env = {key: value for key, value in os.environ.items() if key not in ("KRUL_CACHE", "XDG_CACHE_HOME")} | {key: str(value) for key, value in environment.items()}
        return subprocess.run([KRUL, *map(str, ["chat", "--model", MODEL, "--conversation", "t", "--max-tokens", "2", "--message", "x", *words])],
                              capture_output=True, text=True, errors="replace", env=env, timeout=300)

    def test_a_first_start_is_told_bounded_and_private(self):
        home = self.store / "home"
        begin = time.monotonic()
        done = self.first(HOME=home)
        self.assertLess(time.monotonic() - begin, 60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("measuring this machine once", done.stderr)
        self.assertIn("--costs none", done.stderr)
        for folder in (home / ".cache", home / ".cache" / "krul", home / ".cache" / "krul" / "conversations"):
            self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700, folder)
        self.assertEqual([len(entry.name) for entry in (home / ".cache" / "krul" / "conversations").iterdir()], [32])
        self.assertEqual(len(list((home / ".cache" / "krul" / "costs").iterdir())), 1)
        self.assertNotIn("measuring", self.first(HOME=home).stderr)
        self.assertNotIn("measuring", self.first("--strategy", "krul-codec", HOME=home).stderr)
        nested = self.store / "a" / "b"
        self.assertEqual(self.first("--store", nested, HOME=home).returncode, 0)
        self.assertEqual([stat.S_IMODE(folder.stat().st_mode) for folder in (nested, nested.parent)], [0o700] * 2)

    def test_costs_can_be_left_out_or_given(self):
        home, store = self.store / "home", self.store / "talks"
        done = self.first("--costs", "none", "--store", store, HOME=home)
        self.assertEqual((done.returncode, "measuring" in done.stderr, home.exists()), (0, False, False), done.stderr)
        file = krul_json("calibrate", "--machine", "--model", MODEL, "--patience", 0)["file"]
        done = self.first("--costs", file, "--store", store, HOME=home)
        self.assertEqual((done.returncode, "measuring" in done.stderr, home.exists()), (0, False, False), done.stderr)
        done = self.first("--costs", store / "nothing", "--store", store, HOME=home)
        self.assertEqual(done.returncode, 1)
        self.assertIn("nothing", done.stderr)
        for strategy in ("recompute", "partial", "krul-paper", "krul-small", "cake", "minicache", "pyramid"):
            done = self.first("--costs", "none", "--store", store, "--strategy", strategy, HOME=home)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_store_of_ones_own_wants_no_home(self):
        for home in ("/proc/nobody", MODEL):
            done = self.first("--store", self.store / "talks", HOME=home)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("is not kept", done.stderr)
        self.assertEqual([len(entry.name) for entry in (self.store / "talks").iterdir()], [32])

    def test_a_killed_first_start_leaves_nothing_for_long(self):
        home, left = self.store / "home", []
        for attempt in range(20):
            chat = subprocess.Popen([KRUL, "chat", "--model", MODEL, "--conversation", "t", "--max-tokens", "2", "--message", "x"], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL, env={**ENVIRONMENT, "KRUL_CACHE": str(home)})
            while chat.poll() is None and not (left := list(home.glob("conversations/.*"))):
                time.sleep(0.001)
            chat.kill()
            chat.wait()
            if left:
                break
            shutil.rmtree(home)
        self.assertTrue(left and left[0].exists())
        self.assertEqual(krul_json("list", env={**ENVIRONMENT, "KRUL_CACHE": str(home)})["conversations"], [])
        krul("chat", "--model", MODEL, "--conversation", "t", "--max-tokens", "2", "--message", "x", "--costs", "none", env={**ENVIRONMENT, "KRUL_CACHE": str(home)})
        self.assertEqual(list(home.glob("conversations/.*")), [])

    def test_a_first_start_with_little_context(self):
        """Measures with what fits; with too little of it, goes on without."""
        for context in (300, 160, 64, 40):
            small = self.with_context(context)
            if small == MODEL:
                self.skipTest("a model of another architecture")
            for words in ([], ["--strategy", "partial"], ["--strategy", "krul-paper"]):
                env = {**ENVIRONMENT, "KRUL_CACHE": str(self.store / f"cache{context}{len(words)}")}
                told, errors = krul("chat", "--model", small, "--store", self.store / str(context), "--conversation", "t", "--max-tokens", 2, "--message", "x", "--json",
                                    *words, "--on-full", "shift", env=env)
                self.assertIn(json.loads(told)["ended"], ("length", "stop", "context"))
                self.assertEqual("cannot be measured" in errors, context < 64, errors)
        self.assertIn("64", self.fails("calibrate", "--machine", "--model", self.with_context(40)))

    def test_what_does_not_fit_is_told(self):
        """Neither a short context nor short texts are internal errors."""
        talks, small = self.store / "talks.jsonl", self.with_context(40)
        talks.write_text(json.dumps({"id": "t", "messages": [{"role": "user", "content": "x"}]}) + "\n")
        self.assertIn("64 tokens", self.fails("calibrate", "--model", MODEL, "--conversations", talks, "--out", self.store / "p"))
        for words in (["evaluate"], ["evaluate", "--history", 30, "--new", 8, "--greedy", 8], ["evaluate", "--precisions", "f32"], ["bench", "prefill"], ["bench", "decode"],
                      ["bench", "restore"], ["bench", "save"], ["bench", "observe"], ["generate", "--prompt", "word " * 50]):
            if small != MODEL:
                self.assertIn("context of 40", self.fails(*words, "--model", small))

    def test_the_saved_type_of_the_cache_is_taken(self):
        self.say("A first message.")
        answer = self.say("And a second.", "--precision", "f32")
        self.assertGreater(answer["report"]["matched_tokens"], 0)
        self.assertEqual(answer["run"]["cache"], "f16")
        krul_json("chat", "--model", MODEL, "--store", self.store, "--conversation", "b", "--message", "x", "--max-tokens", 2, "--cache", "bf16")
        again = krul_json("chat", "--model", MODEL, "--store", self.store, "--conversation", "b", "--message", "y", "--max-tokens", 2)
        self.assertEqual(again["run"]["cache"], "bf16")
        for cache in ("f32", "f16"):
            self.assertIn("--cache bf16", self.fails("chat", "--model", MODEL, "--store", self.store, "--conversation", "b", "--message", "y", "--cache", cache))

    # Simulation

    def test_simulated_restores(self):
        out = krul_json("simulate", "--geometry", "llama-7b", "--tokens", 1000, "--link", "9GB/s")
        rows = {row["strategy"]: row for row in out["results"]}
        self.assertEqual(rows["recompute"]["bytes"], 0)
        self.assertEqual(rows["load-f16"]["bytes"], 1000 * 512 * 1024)
        for row in rows.values():
            self.assertGreaterEqual(row["ttft_ms"] * (1 + 1e-9), row["bound_ms"])
        self.assertIn("krul-paper", krul("simulate")[0])
        fit = krul_json("simulate", "--fit")["results"]
        self.assertEqual({row["link"] for row in fit}, {"fitted", "nominal"})
        csv = self.store / "map.csv"
        cells = krul_json("simulate", "--map", "--geometry", "smollm2-135m", "--hardware", "zen4x2-disk", "--tokens", 256, "--csv", csv)["results"]
        self.assertEqual(len(csv.read_text().splitlines()), len(cells) + 1)

    def test_simulated_traces(self):
        mooncake, azure, tester = self.store / "m.jsonl", self.store / "a.csv", self.store / "t.json"
        mooncake.write_text("".join(json.dumps({"timestamp": 60000 * i, "input_length": 512 * (i + 1), "output_length": 10, "hash_ids": list(range(i + 1))}) + "\n" for i in range(5)))
        azure.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.5000000,900,3\n2023-11-17 00:00:01.0000000,100,2\n")
        tester.write_text(json.dumps({"block_size": 64, "requests": [{"t": 0.0, "in": 200, "out": 5, "hash_ids": [1, 2, 3, 4]}, {"t": 9.0, "in": 300, "out": 5, "hash_ids": [1, 2, 3, 5, 6]}]}))
        for file, completed, returning in [(mooncake, 5, 4), (azure, 2, 1), (tester, 2, 1)]:
            for row in krul_json("simulate", "--trace", file, "--load", "1,2", "--strategies", "recompute,krul-paper,krul-best")["results"]:
                self.assertEqual(row["completed"], completed)
                self.assertEqual(row["restored"] + row["lost"], returning)
                self.assertLessEqual(row["ttft_p50_ms"], row["ttft_p99_ms"])
        for name, text in [("x.jsonl", "{}"), ("x.csv", "head\n1,2\n"), ("x.json", "[]"), ("x.txt", "?"), ("y.csv", "head\n")]:
            (self.store / name).write_text(text)
            self.fails("simulate", "--trace", self.store / name)

    def test_simulations_that_cannot_be(self):
        self.assertIn("llama-7b", self.fails("simulate", "--geometry", "llama-8b"))
        self.assertIn("pcie4", self.fails("simulate", "--hardware", "a100"))
        self.assertIn("cake", self.fails("simulate", "--strategies", "pie"))
        self.assertIn("MB/s", self.fails("simulate", "--link", "string"))
        self.fails("simulate", "--prompt", 0)
        self.fails("simulate", "--trace", self.store / "nothing.csv")
        self.fails("simulate", "--costs", self.store / "nothing.json")
        self.assertIn("times as long", self.fails("simulate", "--fit", "--ratio", 1e9))

    # Bad input

    def test_models_that_cannot_be_used(self):
        self.assertIn("nothing.gguf", self.fails("generate", "--model", "nothing.gguf", "--prompt", "x"))
        data = pathlib.Path(MODEL).read_bytes()
        bad = self.store / "bad.gguf"
        for name, content, words in [("empty", b"", ["bad.gguf"]), ("no GGUF", b"x" * 4096, ["GGUF"]), ("cut", data[: len(data) // 2], ["cut short", "byte"]),
                                     ("absurd count", data[:8] + b"\xff" * 7 + b"\x0f" + data[16:], ["bad.gguf"]),
                                     ("architecture", data.replace(b"llama", b"mamba", 1), ["mamba", "llama", "qwen2"])]:
            bad.write_bytes(content)
            message = self.fails("generate", "--model", bad, "--prompt", "x")
            for word in words:
                self.assertIn(word, message, name)

    @unittest.skipIf("KRUL_TOOL_MODEL" in os.environ, "needs a file that ends in the output's norm")
    def test_numbers_that_are_not_finite(self):
        data = pathlib.Path(MODEL).read_bytes()
        broken, text = self.store / "broken.gguf", self.store / "text"
        text.write_text("The garden has four beds.")
        talks = self.talks("talks.jsonl", 4)
        for value in [float("nan"), float("inf")]:
            broken.write_bytes(data[:-4] + struct.pack("<f", value))
            for words in [["generate", "--prompt", "x", "--max-tokens", 4], ["score", "--text", text], ["score", "--text", text, "--raw"],
                          ["chat", "--store", self.store / "talks", "--conversation", "t", "--message", "x"],
                          ["evaluate", "--conversations", talks, "--history", 64, "--new", 16, "--strategies", "load-exact"],
                          ["calibrate", "--conversations", talks, "--out", self.store / "profile"], ["calibrate", "--tokens", 2000],
                          ["calibrate", "--conversations", talks, "--out", self.store / "profile", "--threads", 2]]:
                _, errors = krul(*words, "--model", broken, expect=1)  # a first chat also says that it measures the machine
                self.assertRegex(errors.strip().splitlines()[-1], "^krul: .*not finite")
                self.assertEqual(krul_json(*words, "--model", broken, expect=1)["error"]["code"], "backend")
        self.assertEqual(krul_json("list", "--store", self.store / "talks")["conversations"], [])
        self.assertFalse((self.store / "profile").exists())

    @unittest.skipIf("KRUL_TOOL_MODEL" in os.environ, "needs a file whose end is known")
    def test_the_same_weights_are_the_same_model_and_others_may_recompute(self):
        def talk(model, *words):
            return ["chat", "--model", model, "--store", self.store, "--conversation", "a talk", "--max-tokens", 4, "--message", "And then?", *words]

        self.say("A first message.")
        data = pathlib.Path(MODEL).read_bytes()
        renamed, other = self.store / "renamed.gguf", self.store / "other.gguf"
        renamed.write_bytes(data.replace(b"Tiny llama", b"Tidy lemur"))
        self.assertGreater(krul_json(*talk(renamed))["report"]["matched_tokens"], 10)
        other.write_bytes(data[:-4] + struct.pack("<f", 1.5))
        self.assertIn("--recompute", self.fails(*talk(other)))
        went_on = krul_json(*talk(other, "--recompute"))
        self.assertEqual(went_on["report"]["matched_tokens"], 0)
        self.assertGreater(went_on["report"]["asked_tokens"], 30)
        self.assertGreater(krul_json(*talk(other))["report"]["matched_tokens"], 30)
        self.assertIn("--recompute", self.fails(*talk(MODEL)))

    @unittest.skipIf("KRUL_TOOL_MODEL" in os.environ, "changes the context that the tiny model declares")
    def test_a_context_that_is_declared_takes_no_memory(self):
        data = pathlib.Path(MODEL).read_bytes()
        key = data.index(b"llama.context_length") + len(b"llama.context_length") + 4
        wide = self.store / "wide.gguf"
        wide.write_bytes(data[:key] + struct.pack("<I", 1010000) + data[key + 4:])
        words = ["chat", "--model", wide, "--store", self.store, "--conversation", "t", "--max-tokens", 2, "--message", "Hello."]
        self.assertGreater(krul_json(*words)["tokens"], 5)
        self.assertIn("context", self.fails(*words[:-1], "word " * 300, "--context", 100))
        self.assertIn("1010000", self.fails(*words, "--context", 2000000))
        self.assertIn("context", self.fails("generate", "--model", wide, "--prompt", "word " * 300, "--context", 100))

    def tiny(self, *options):
        """A tiny model with these properties."""
        path = self.store / "own.gguf"
        subprocess.run([MAKE_TINY_MODEL, path, *options], check=True)
        return path

    def test_text_is_text(self):
        text = self.store / "text"
        for verb in [["generate", "--prompt", "A<|im_end|>\n<|im_start|>system", "--max-tokens", 1], ["score", "--text", text]]:
            text.write_text("A<|im_end|>\n<|im_start|>system")
            krul_json(*verb, "--model", MODEL)
        model = self.tiny()
        tokens = krul_json("score", "--model", model, "--text", text)["tokens"]
        self.assertEqual((tokens.count(1), tokens.count(2)), (1, 1))  # <|im_start|>, <|im_end|>
        self.assertEqual(krul_json("score", "--model", model, "--text", text, "--raw")["tokens"].count(1), 1)  # asked for

    def test_flags_of_the_tokenizer(self):
        text = self.store / "text"
        text.write_text("Numbers: 1 2 3.")
        plain = krul_json("score", "--model", self.tiny("pre_tokenizer=llama-bpe", "add_bos=0"), "--text", text, "--raw")["tokens"]
        begun = krul_json("score", "--model", self.tiny("pre_tokenizer=llama-bpe", "add_bos=1"), "--text", text, "--raw")["tokens"]
        self.assertEqual(begun, [1, *plain])
        more = krul_json("generate", "--model", self.store / "own.gguf", "--prompt", "Numbers: 1 2 3.", "--raw", "--max-tokens", 1)
        self.assertEqual(more["prompt_tokens"], len(plain) + 1)

    def test_chat_templates(self):
        model = self.tiny("chat_template={{ messages | tojson }}")
        words = ["chat", "--model", model, "--store", self.store / "talks", "--conversation", "t", "--max-tokens", 1, "--message", "Hello"]
        message = self.fails(*words)
        self.assertIn("'tojson'", message)
        self.assertIn("--chat-template", message)
        krul_json("generate", "--model", model, "--prompt", "Hello", "--raw", "--max-tokens", 1)
        told = krul_json("generate", "--model", model, "--prompt", "Hello", "--max-tokens", 1, "--chat-template", "chatml")
        own = krul_json("generate", "--model", self.tiny(), "--prompt", "Hello", "--max-tokens", 1)
        self.assertEqual(told["prompt_tokens"], own["prompt_tokens"])
        self.assertIn("<|end|>, which is no token", self.fails("generate", "--model", model, "--prompt", "x", "--chat-template", "phi3"))
        self.assertIn("llama3", krul("generate", "--model", model, "--prompt", "x", "--chat-template", "alpaca", expect=1)[1])

    def test_a_conversation_keeps_its_chat_format(self):
        words = ["--model", self.tiny(), "--store", self.store / "talks"]
        talk = ["chat", *words, "--costs", "none", "--max-tokens", 3, "--message", "And on."]
        for name, first, other, advice in (("own", [], ["--chat-template", "llama2"], "leave out --chat-template"), ("other", ["--chat-template", "zephyr"], [], "give --chat-template zephyr")):
            krul_json(*talk, "--conversation", name, *first)
            message = self.fails(*talk, "--conversation", name, *other)
            for text in ("chatml", "llama2") if name == "own" else ("zephyr", "the model's own chat template"):
                self.assertIn(text, message)
            self.assertIn(advice, message)
            self.assertGreater(krul_json(*talk, "--conversation", name, *first)["report"]["matched_tokens"], 0)
        krul_json(*talk, "--conversation", "own", "--chat-template", "chatml")  # the same turns by another name

    def test_all_text_of_a_conversation_is_shown(self):
        """Also what stands in no turn of the chat format that it is shown by."""
        template = ("Preface.\n{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% if m['role'] == 'user' %}{{ 'Be brief.\n' }}{% endif %}{% endfor %}"
                    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
        words = ["--model", self.tiny("chat_template=" + template), "--store", self.store / "talks"]
        krul_json("chat", *words, "--costs", "none", "--max-tokens", 3, "--conversation", "t", "--message", "Hello.")
        shown = krul_json("show", *words, "t", "--chat-template", "chatml")["turns"]
        self.assertEqual([turn["role"] for turn in shown], ["other", "user", "other", "assistant"])
        self.assertEqual([turn["content"].strip() for turn in shown[:3]], ["Preface.", "Hello.", "Be brief."])
        self.assertEqual([turn["role"] for turn in krul_json("show", *words, "t")["turns"]], ["other", "user", "assistant"])
        self.assertIn("other: ", krul("show", *words, "t", "--chat-template", "chatml")[0])

    def test_turns_that_begin_with_letters_are_not_told_apart(self):
        template = ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
                    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}")
        words = ["--model", self.tiny("chat_template=" + template), "--store", self.store / "talks"]
        talk = ["chat", *words, "--costs", "none", "--max-tokens", 3, "--message"]
        text = "What is [INST] for, and [/INST]?"
        krul_json(*talk, text, "--conversation", "t")
        shown = krul_json("show", *words, "t")
        self.assertEqual(shown["turns"], [])
        self.assertIn(text, shown["text"])
        message = self.fails(*talk, "Keep this. " * 9 + text, "--conversation", "u", "--context", 64, "--on-full", "shift")
        self.assertIn("only 64 fit", message)
        self.assertNotIn("--on-full", self.fails(*talk, "Keep this. " * 9 + text, "--conversation", "t", "--context", 64))  # it could not help

    def test_a_turn_that_is_in_force_is_not_called_lost(self):
        self.say("First.")
        [folder] = [path for path in self.store.iterdir() if path.is_dir()]
        (folder / "manifest-b").unlink()
        (folder / "manifest-b").mkdir()
        _, errors = krul("chat", "--model", MODEL, "--store", self.store, "--conversation", "a talk", "--max-tokens", 4, "--message", "Second.", expect=1)
        self.assertIn("this turn is saved, but the second copy of the manifest", errors)
        (folder / "manifest-b").rmdir()
        self.assertGreater(self.say("Third.")["report"]["matched_tokens"], 20)

    def test_only_tokens_of_the_tokenizer_are_chosen(self):
        model = self.tiny("rows_to_spare=640")
        for seed in range(3):
            words = ["--temperature", 50, "--top-k", 0, "--max-tokens", 60, "--seed", seed]
            found = krul_json("generate", "--model", model, "--prompt", "x", *words)
            self.assertLess(max(found["tokens"], default=0), 320)

    def test_models_in_several_files(self):
        whole, prefix = self.tiny(), self.store / "split"
        subprocess.run([MAKE_TINY_MODEL, prefix, "split=3"], check=True)
        words = ["--prompt", "Hello", "--max-tokens", 5]
        self.assertEqual(krul_json("generate", "--model", f"{prefix}-00001-of-00003.gguf", *words)["tokens"],
                         krul_json("generate", "--model", whole, *words)["tokens"])
        message = self.fails("generate", "--model", f"{prefix}-00002-of-00003.gguf", *words)
        self.assertIn(f"give the first: {prefix}-00001-of-00003.gguf", message)

    def test_prompts_that_do_not_fit(self):
        self.assertIn("context", self.fails("generate", "--model", MODEL, "--prompt", "word " * 20000))
        self.say("A first message.")
        self.assertNotIn("--on-full", self.fails("chat", "--model", MODEL, "--store", self.store, "--conversation", "new", "--message", "word " * 20000))
        self.assertNotIn("--on-full", krul("chat", "--model", MODEL, "--store", self.store, "--conversation", "one turn", "--threads", 1, "--max-tokens", 100000, "--message", "x")[1])
        before = krul_json("list", "--store", self.store)
        self.assertIn("context", self.fails("chat", "--model", MODEL, "--store", self.store, "--conversation", "a talk", "--message", "word " * 20000))
        self.assertEqual(krul_json("list", "--store", self.store), before)

    def test_state_of_another_model(self):
        self.say("A first message.")
        message = self.fails("chat", "--model", MODEL, "--cache", "f32", "--store", self.store, "--conversation", "a talk", "--message", "x")
        self.assertIn("cache=f16", message)
        self.assertIn("cache=f32", message)
        self.assertTrue(krul_json("verify", "--store", self.store)["ok"])

    def test_folders_that_cannot_be_written(self):
        file = self.store / "a file"
        file.write_text("x")
        self.assertIn("a file", self.fails("chat", "--model", MODEL, "--store", file, "--conversation", "a", "--message", "x"))
        self.assertIn("proc", self.fails("chat", "--model", MODEL, "--store", "/proc/krul", "--conversation", "a", "--message", "x"))

    def test_a_store_that_is_not_there_is_an_error_and_is_not_made(self):
        for words in [["list"], ["inspect", "a talk"], ["verify"], ["verify", "a talk"], ["erase", "a talk"], ["fork", "a talk", "b"], ["gc"]]:
            missing = self.store / "typo" / "deep"
            self.assertIn("there is no such directory", self.fails(*words, "--store", missing))
            self.assertFalse((self.store / "typo").exists())
        self.assertEqual(krul_json("list", "--store", self.store)["conversations"], [])
        for verb in ["inspect", "verify", "erase"]:
            self.assertIn('nothing is saved under "a typo"', self.fails(verb, "a typo", "--store", self.store))
        self.assertEqual(list(self.store.iterdir()), [])

    def test_reading_needs_no_right_to_write(self):
        self.say("A message.")
        def readable():
            self.assertEqual([entry["id"] for entry in krul_json("list", "--store", self.store)["conversations"]], ["a talk"])
            self.assertEqual(krul_json("inspect", "a talk", "--store", self.store)["id"], "a talk")
            self.assertTrue(krul_json("verify", "--store", self.store)["ok"])
            self.assertIn("krul: ", self.fails("erase", "a talk", "--store", self.store))
        mounted = subprocess.run(["mount", "--bind", "-o", "ro", self.store, self.store], capture_output=True).returncode == 0
        if mounted:
            try:
                readable()
            finally:
                subprocess.run(["umount", self.store], check=True)
        elif os.geteuid() != 0:
            for path in [*self.store.rglob("*"), self.store]:
                path.chmod(0o555 if path.is_dir() else 0o444)
            try:
                readable()
            finally:
                for path in [self.store, *self.store.iterdir()]:
                    path.chmod(0o755)

    def test_an_erase_that_was_cut_off_is_seen_and_finished(self):
        self.say("A message.")
        folder = next(self.store.iterdir())
        intact = pathlib.Path(tempfile.mkdtemp(dir=ROOT)) / "copy"
        shutil.copytree(self.store, intact)
        for gone in [["manifest-a"], ["manifest-a", "manifest-b"]]:
            for finish in ["erase", "chat"]:
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(intact / folder.name, folder)
                for name in gone:
                    (folder / name).unlink()
                (folder / ".new-1-2").write_text("what a killed writer leaves")
                found = krul_json("verify", "--store", self.store, expect=None)
                self.assertEqual(found["ok"], len(gone) == 1)
                self.assertIn(".new-1-2", found["conversations"][0]["leftovers"])
                if finish == "erase":
                    krul("erase", "a talk", "--store", self.store)
                    self.assertEqual(list(self.store.iterdir()), [])
                else:
                    self.say("Another message.")
                    verified = krul_json("verify", "--store", self.store)["conversations"]
                    self.assertEqual([entry["leftovers"] for entry in verified], [[]])

    def test_a_folder_that_a_writer_left_empty_is_collected(self):
        self.say("A message.")
        for locked in [False, True]:
            folder = self.store / ("0" * 32)
            folder.mkdir()
            if locked:
                (folder / ".lock").touch()
            self.assertTrue(krul_json("verify", "--store", self.store)["ok"])
            self.assertEqual(krul_json("gc", "--store", self.store)["failed"], [])
            self.assertFalse(folder.exists())
            self.assertEqual(len(krul_json("list", "--store", self.store)["conversations"]), 1)

    def as_nobody(self, *words):
        """The tool as a user who owns nothing here; its exit code, standard output and standard error."""
        def become():
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
        done = subprocess.run([KRUL, *map(str, words)], capture_output=True, text=True, errors="replace", preexec_fn=become, cwd="/",
                              env={**ENVIRONMENT, "KRUL_CACHE": "/nonexistent"})
        return done.returncode, done.stdout, done.stderr

    def reached_by_nobody(self):
        """A store that everybody may read."""
        for path in [ROOT, self.store, *self.store.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        return self.as_nobody("list", "--store", self.store)[0] == 0

    def test_what_may_not_be_read_is_named_and_is_no_damage(self):
        for name in ["a talk", "b"]:
            krul("chat", "--model", MODEL, "--store", self.store, "--conversation", name, "--max-tokens", 1, "--message", "x")
        if os.geteuid() != 0 or not self.reached_by_nobody():
            self.skipTest("needs another user who can reach the store")
        talk = next(folder for folder in self.store.iterdir() if b"a talk" in (folder / "manifest-a").read_bytes())
        segment = next(talk.glob("segment-*"))
        for path, mode in [(talk, 0o700), (segment, 0o600), (talk / "manifest-a", 0o600), (talk / "manifest-b", 0o600)]:
            before = path.stat().st_mode
            path.chmod(mode)
            code, shown, errors = self.as_nobody("verify", "--store", self.store)
            self.assertEqual(code, 1, path)
            self.assertIn("Permission denied", shown)
            self.assertIn("unreadable", shown)
            self.assertIn("b: ok", shown)
            self.assertNotIn("damaged", shown)
            self.assertIn("no damage", errors)
            for word in ["erase", "remove", "recompute"]:
                self.assertNotIn(word, shown + errors)
            found = json.loads(self.as_nobody("verify", "--store", self.store, "--json")[1])
            self.assertFalse(found["ok"])
            self.assertEqual([len(entry["unread"]) for entry in found["conversations"]].count(1), 1)
            code, shown, _ = self.as_nobody("list", "--store", self.store)
            self.assertEqual(code, 1 if path == talk else 0)
            self.assertEqual("(unreadable) " + talk.name in shown, path == talk)
            self.assertEqual("Permission denied" in shown, path == talk)
            self.assertEqual(self.as_nobody("verify", "a talk", "--store", self.store)[0], 1)
            path.chmod(before)
        self.assertEqual(self.as_nobody("verify", "--store", self.store)[0], 0)

    def test_what_stands_in_a_folder_is_not_passed_over(self):
        self.say("x")
        talk = next(self.store.iterdir())
        for put in [lambda: talk.write_text("x"), lambda: talk.symlink_to(self.store / "elsewhere")]:
            shutil.move(talk, self.store / "elsewhere")
            put()
            self.assertIn("unreadable", krul("verify", "--store", self.store, expect=1)[0])
            self.assertIn("unreadable", krul("list", "--store", self.store, expect=1)[0])
            talk.unlink()
            shutil.move(self.store / "elsewhere", talk)
        segment = next(talk.glob("segment-*"))
        segment.rename(self.store / "kept")
        os.mkfifo(segment)
        self.assertIn("it is a pipe", krul("verify", "--store", self.store, expect=1)[0])
        self.assertTrue(any("it is a pipe" in reason for reason in self.say("More.", "--costs", "none")["report"]["reasons"]))

    def test_an_erase_leaves_what_is_not_krul_s_and_says_so(self):
        self.say("x")
        talk = next(self.store.iterdir())
        (talk / "sub").mkdir()
        (talk / "notes.txt").write_text("mine")
        (talk / "Other\nfile").write_text("mine")
        self.say("More.")
        found = krul_json("verify", "--store", self.store)["conversations"][0]
        self.assertEqual((found["state"], found["leftovers"]), ("ok", []))
        (talk / "manifest-a").unlink()
        (talk / "manifest-a").mkdir()
        _, errors = krul("erase", "a talk", "--store", self.store, expect=1)
        self.assertIn('"a talk"', errors)
        self.assertIn("directory", errors)
        self.assertEqual({path.name for path in talk.iterdir()} - {".lock"}, {"manifest-a", "sub", "notes.txt", "Other\nfile"})
        (talk / "manifest-a").rmdir()
        self.assertIn("nothing is saved", self.fails("erase", "a talk", "--store", self.store))
        shown = self.say("Again.")
        self.assertEqual(shown["report"]["matched_tokens"], 0)
        _, errors = krul("erase", "a talk", "--store", self.store)
        for name in ["sub", "notes.txt", "Other\\nfile"]:
            self.assertIn(f"{name} is not krul's, and is left", errors)
        self.assertEqual({path.name for path in talk.iterdir()} - {".lock"}, {"sub", "notes.txt", "Other\nfile"})

    def test_ids_that_differ_look_different(self):
        ids = [b"\xff\xfe", b"\\xff\\xfe", b"\xc2\x9b", b"\x9b", b"\\", b"\\\\"]
        for name in ids:
            subprocess.run([KRUL, "chat", "--model", MODEL, "--store", self.store, "--conversation", name, "--max-tokens", "1", "--message", "x"],
                           check=True, capture_output=True, env=ENVIRONMENT)
        listed = krul_json("list", "--store", self.store)["conversations"]
        shown = {entry["escaped_id"] for entry in listed}
        self.assertEqual(shown, {"\\xff\\xfe", "\\\\xff\\\\xfe", "\\u009b", "\\x9b", "\\\\", "\\\\\\\\"})
        lines = krul("list", "--store", self.store)[0].splitlines()
        for text in shown:
            self.assertTrue(any(line.split()[0] == text for line in lines), text)
        self.assertEqual({entry["escaped_id"] for entry in krul_json("verify", "--store", self.store)["conversations"]}, shown)

    def test_a_busy_conversation_is_named(self):
        self.say("x")
        folder = next(self.store.iterdir())
        with open(folder / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            message = self.fails("erase", "a talk", "--store", self.store)
        self.assertIn('"a talk"', message)
        self.assertNotIn(folder.name, message)

    @unittest.skipIf("KRUL_TOOL_MODEL" in os.environ, "changes the tiny model's vocabulary")
    def test_tokens_that_mean_the_same_under_another_tokenizer(self):
        def talk(model, *words):
            return ["chat", "--model", model, "--store", self.store, "--conversation", "a talk", "--max-tokens", 4, "--message", "And then?", *words]

        first, other = (shutil.copy(self.tiny(f"pre_tokenizer={name}"), self.store / f"{name}.gguf") for name in ["smollm", "llama-bpe"])
        krul_json(*talk(first))
        message = self.fails(*talk(other))
        self.assertIn("tokenizer (saved", message)
        self.assertIn("--recompute", message)
        self.assertTrue(krul_json("show", "a talk", "--model", other, "--store", self.store)["turns"])
        self.assertEqual(krul_json(*talk(other, "--recompute"))["report"]["matched_tokens"], 0)

    def test_verify_goes_on_behind_a_conversation_that_is_damaged(self):
        for name in ["a talk", "b", "c"]:
            krul("chat", "--model", MODEL, "--store", self.store, "--conversation", name, "--max-tokens", 1, "--message", "x")
        folder = sorted(self.store.iterdir())[0]
        for name in ["manifest-a", "manifest-b"]:
            (folder / name).write_bytes(b"KRULMAN\n")
        found = krul_json("verify", "--store", self.store, expect=1)
        self.assertEqual([bool(entry["problems"]) for entry in found["conversations"]], [True, False, False])
        self.assertIn("error", found)

    def test_limits_of_the_system_are_told_as_what_they_are(self):
        def limited(limit):
            words = [KRUL, "chat", "--model", MODEL, "--store", self.store, "--conversation", "a talk", "--max-tokens", "4", "--message", "word " * 100]
            return subprocess.run(["bash", "-c", f'{limit}; exec "$@"', "bash", *map(str, words)], capture_output=True, text=True, errors="replace", env=ENVIRONMENT)
        self.say("A message.")
        done = limited("ulimit -f 1")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("limit on the size of files", done.stderr)
        self.assertEqual(krul_json("verify", "--store", self.store)["conversations"][0]["leftovers"], [])
        self.assertTrue(self.say("Another message.")["saved"])

    def test_damage_is_healed_once(self):
        self.say("A talk that is long enough to fill more than one block of tokens, so that there is something to lose.", "--strategy", "load-exact")
        segment = next(self.store.rglob("segment-*"))
        for damage in [lambda data: data[:0], lambda data: bytes([data[0] ^ 1]) + data[1:], lambda data: data[:len(data) // 2]]:
            segment = max(self.store.rglob("segment-*"), key=lambda file: file.stat().st_size)
            segment.write_bytes(damage(segment.read_bytes()))
            krul_json("verify", "--store", self.store, expect=1)
            self.assertGreater(self.say("More.", "--strategy", "load-exact")["report"]["repaired_rows"], 0)
            self.assertTrue(krul_json("verify", "--store", self.store)["ok"])
            self.assertEqual(self.say("And more.", "--strategy", "load-exact")["report"]["reasons"], [])

    def test_unknown_names_are_answered_with_the_known_ones(self):
        message = self.fails("bench", "restore", "--model", MODEL, "--strategies", "fastest")
        for name in ["recompute", "load-exact", "load-f16", "load-int8", "partial", "krul"]:
            self.assertIn(name, message)
        self.assertIn("MB/s", self.fails("bench", "restore", "--model", MODEL, "--link", "carrier pigeon"))
        message = self.fails("generate", "--model", MODEL, "--prompt", "x", "--precision", "int8", "--kernels", "eigen")
        self.assertIn("krul", message)
        self.assertIn("nothing is saved", self.fails("inspect", "a talk", "--store", self.store))
        krul("dance", expect=1)


if __name__ == "__main__":
    subprocess.run([MAKE_TINY_MODEL, ROOT / "tiny.gguf"], check=True)
    try:
        unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
    finally:
        shutil.rmtree(ROOT, ignore_errors=True)
