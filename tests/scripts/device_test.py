"""Tests of scripts/device without a device. Usage: device_test.py [unittest arguments]"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS / "lib"))
sys.dont_write_bytecode = True

import device_page


def device(*arguments, path=None):
    environment = dict(os.environ) if path is None else {**os.environ, "PATH": path}
    return subprocess.run(["bash", str(SCRIPTS / "device"), *arguments], capture_output=True, text=True,
                          env=environment, timeout=60)


class Script(unittest.TestCase):
    def test_a_dry_run_says_each_command_with_its_limit(self):
        run = device("--dry-run", "build", "bench")
        self.assertEqual(run.returncode, 0, run.stderr)
        commands = run.stdout.splitlines()
        self.assertEqual(len(commands), 3)
        for command in commands:
            self.assertRegex(command, r"^timeout \d+ ")
        self.assertIn("krul_device_bench", commands[2])

    def test_other_words_are_refused(self):
        run = device("--dry-run", "measure")
        self.assertEqual(run.returncode, 2)
        self.assertIn('no "measure"', run.stderr)

    def test_help_is_what_the_script_says_of_itself(self):
        self.assertIn("scripts/device [--out DIR]", device("--help").stdout)

    def test_without_a_device_it_does_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("nvcc", "nvidia-smi"):
                tool = pathlib.Path(folder) / name
                tool.write_text("#!/bin/sh\nexit 9\n")
                tool.chmod(0o755)
            run = device(path=folder + os.pathsep + os.environ["PATH"])
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("skipped: there is no CUDA device", run.stderr)


class Page(unittest.TestCase):
    def test_a_table_for_each_file_that_is_there(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("run", "what,is\ndevice,A | B\n"), ("passes", "model,ms\n\"a, b\",1\n")):
                (pathlib.Path(folder) / f"{name}.csv").write_text(text)
            page = device_page.page(pathlib.Path(folder))
        self.assertIn("| device | A \\| B |", page)
        self.assertIn("| model | ms |\n|---|---|\n| a, b | 1 |", page)
        self.assertIn("## Passes", page)
        self.assertNotIn("## Copies", page)


if __name__ == "__main__":
    unittest.main()
