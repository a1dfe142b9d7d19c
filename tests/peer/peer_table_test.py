#!/usr/bin/env python3
"""Tests of scripts/peer_table.py against sides that only pretend; no model, no waiting. Run: python3 peer_table_test.py"""

import contextlib
import io
import json
import pathlib
import shlex
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import peer_table  # noqa: E402

PRETENDER = """
import json, sys
speed = float(sys.argv[1])
print(json.dumps({"ok": True, "program": "pretender"}), flush=True)
for line in sys.stdin:
    verb, *words = line.split()
    if verb == sys.argv[2]:
        print(json.dumps({"ok": False, "error": "no such thing"}), flush=True)
    else:
        print(json.dumps({"ok": True, "seconds": len(words) * 0.1 / speed, "bytes": 7}), flush=True)
"""


def pretender(name, speed, refuses="-"):
    return f"{name}={shlex.join([sys.executable, '-c', PRETENDER, str(speed), refuses])}"


class FakeSide:
    def __init__(self, name):
        self.name = name


class ScriptedLoad:
    """Says that others took the given share of each round, then nothing."""

    def __init__(self, shares):
        self.shares = list(shares)
        self.inside = False
        self.busy = self.total = 0

    def sample(self):
        if self.inside:
            self.total += 1000
            self.busy += round(1000 * (self.shares.pop(0) if self.shares else 0))
        self.inside = not self.inside
        return self.busy, 0, self.total, 0


class Statistics(unittest.TestCase):
    def test_interval_is_that_of_the_sign_test(self):
        self.assertEqual(peer_table.median_interval([7, 1, 6, 2, 5, 3, 4]), (1, 7, 1 - 2 / 128))
        self.assertEqual(peer_table.median_interval(range(1, 6)), (1, 5, 1 - 2 / 32))
        self.assertEqual(peer_table.median_interval(range(1, 10)), (2, 8, 1 - 20 / 512))
        self.assertEqual(peer_table.median_interval(range(1, 21))[:2], (6, 15))

    def test_ratios_are_taken_round_by_round(self):
        ratio = peer_table.paired_ratio([2, 40, 6], [1, 20, 3])
        self.assertEqual((ratio["median"], ratio["low"], ratio["high"]), (2, 2, 2))


class Load(unittest.TestCase):
    def test_texts_of_proc(self):
        self.assertEqual(peer_table.processor_times("cpu  100 20 30 1000 50 4 6 7 60 5\ncpu0 1"), (160, 7, 1217))
        line = "42 (a ) S 9 (b) R 1 42 42 0 -1 4194304 7 8 0 0 100 20 3 4 20 0 2 0"
        self.assertEqual(peer_table.process_ticks(line), 127)

    def test_foreign_share(self):
        before = (1000, 10, 5000, 300)
        self.assertEqual(peer_table.foreign_share(before, (1180, 10, 5200, 480)), 0)
        self.assertEqual(peer_table.foreign_share(before, (1180, 18, 5200, 474)), 14 / 200)
        self.assertEqual(peer_table.foreign_share(before, before), 0)

    def test_a_process_that_is_gone(self):
        with self.assertRaises(peer_table.Failure):
            peer_table.MachineLoad([-1]).sample()


class RunRounds(unittest.TestCase):
    def run_with(self, shares, moments, **options):
        asked = []
        sides = [FakeSide("a"), FakeSide("b")]

        def ask(side):
            asked.append(side.name)
            return {"seconds": float(len(asked))}

        times = iter(moments)
        rounds = peer_table.run_rounds(sides, ask, ScriptedLoad(shares), now=lambda: next(times), **options)
        return rounds, "".join(asked)

    def test_turns_rotate_and_loaded_rounds_are_repeated(self):
        rounds, asked = self.run_with([0, 0.031, 0.03, 0], [0, 1] * 4, clean_rounds=3, most_rounds=9)
        self.assertEqual(asked, "ab" + "ab" + "ba" + "ba" + "ab")
        self.assertEqual((rounds.discarded, rounds.noisy), (1, False))
        self.assertEqual(rounds.values("a"), [3, 8, 9])

    def test_the_quietest_rounds_are_given_where_it_never_gets_quiet(self):
        rounds, _ = self.run_with([0.5, 0.3, 0.01], [0, 1] * 3, clean_rounds=2, most_rounds=3)
        self.assertTrue(rounds.noisy)
        self.assertEqual(rounds.foreign_shares, [0.01, 0.3])

    def test_short_rounds_are_filled_up(self):
        rounds, asked = self.run_with([0], [0, 0.2, 0.4, 0.6], clean_rounds=1, most_rounds=1)
        self.assertEqual(asked, "ab" + "ababab")
        self.assertEqual(rounds.values("a"), [5])


class WholeTable(unittest.TestCase):
    def run_main(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        peer_table.LEAST_ROUND_S = 0
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            common = ["--clean-rounds", "2", "--most-rounds", "2", "--state-dir", folder]
            status = peer_table.main([*arguments, *common])
        return status, out.getvalue(), err.getvalue()

    def test_ratio_is_against_the_best_peer(self):
        status, out, _ = self.run_main(
            "--llama", pretender("slow", 1), "--llama", pretender("fast", 2), "--krul", pretender("krul", 8),
            "--prefill", "128", "--decode", "", "--history", "64", "--prompt", "8", "--json", "-",
        )  # fmt: skip
        self.assertEqual(status, 0)
        results = json.loads(out)["results"]
        self.assertEqual([result["case"] for result in results], ["prefill 128", "save 64", "restore 64 + 8"])
        self.assertEqual(results[0]["best_peer"], "fast")
        self.assertEqual([row["ratio_to_best_peer"]["median"] for row in results[0]["sides"]], [2, 1, 0.25])
        self.assertEqual(results[0]["sides"][2]["tokens_per_s"], 128 / (0.1 / 8))

    def test_the_table_names_machine_case_and_side(self):
        status, out, _ = self.run_main("--llama", pretender("Q4_0", 1), "--prefill", "5", "--decode", "", "--history", "0")
        self.assertEqual(status, 0)
        self.assertIn("family", out.splitlines()[0])
        self.assertRegex(out, r"prefill 5 +Q4_0 +100\.0 +50 +7 +1\.00 \[1\.00, 1\.00\]")

    def test_a_missing_krul_is_left_out(self):
        status, _, err = self.run_main(
            "--llama", pretender("a", 1), "--krul", "krul=/nonexistent/krul", "--prefill", "5", "--decode", "",
            "--history", "0",
        )  # fmt: skip
        self.assertEqual(status, 0)
        self.assertIn("left out", err)

    def test_what_goes_wrong_is_said_in_a_sentence(self):
        for arguments, words in (
            ((), "no side to measure"),
            (("--llama", "nameless"), "NAME=COMMAND"),
            (("--llama", "a=/nonexistent/peer"), "no program"),
            (("--llama", f"a={shlex.quote(sys.executable)} -c 'raise SystemExit(3)'"), "ended with status 3"),
            (("--llama", f"a={shlex.quote(sys.executable)} -c 'print(1, 2)'"), "something else than JSON"),
            (("--llama", pretender("a", 1), "--llama", pretender("a", 1)), "same name"),
            (("--llama", pretender("a", 1, refuses="prefill")), "no such thing"),
        ):
            with self.subTest(words):
                status, out, err = self.run_main(*arguments)
                self.assertEqual((status, out), (1, ""))
                self.assertIn(words, err)


if __name__ == "__main__":
    unittest.main()
