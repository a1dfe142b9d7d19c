#!/usr/bin/env python3
"""What the second reader refuses, and that it never gives other content.

Usage: refusals_test.py [unittest arguments]
"""

import dataclasses
import pathlib
import random
import sys
import tempfile
import unittest
from fractions import Fraction

import numpy as np

sys.dont_write_bytecode = True

from krul_format.attention import mix, parse_row_attention, parse_statistics
from krul_format.basics import F32, Cursor, OtherVersion, Refused, checksum, from_floats, fused
from krul_format.joint import decode_joint
from krul_format.manifest import fits_plans, folder_name, in_force, parse_manifest, read_chunk, read_loans
from krul_format.profile import Profile
from krul_format.rows import decode_chunk
from read_golden import class_cases, drawn, vector_cases

TESTS = pathlib.Path(__file__).resolve().parents[1]
SMALL = (TESTS / "vectors" / "manifest-1.0.bin").read_bytes()
GOLDEN = TESTS / "golden" / "1.1" / "store" / folder_name(b"load-exact")
LATER = TESTS / "golden" / "1.4" / "store"
FORK = (LATER / folder_name(b"fork") / "manifest-a").read_bytes()  # has every section


def sealed(data):
    """With the length and the checksum that the bytes have."""
    data = data[:12] + len(data).to_bytes(8, "little") + data[20:]
    return data[:-16] + checksum(data[:-16])


def number(value, size=4):
    return value.to_bytes(size, "little")


def text(data):
    return number(len(data)) + data


def with_sections(data, sections):
    more = b"".join(number(at) + number(len(content), 8) + content for at, content in sections.items())
    return sealed(data[:-16] + more + data[-16:])


def flipped(data, bit):
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


class Manifests(unittest.TestCase):
    def test_fields_are_those_that_were_written(self):
        manifest = parse_manifest(SMALL)
        self.assertEqual(manifest.conversation, b"gr\xfc\xc3\x9f/../\0id")
        self.assertEqual((manifest.generation, manifest.layers, manifest.block, manifest.rows), (7, 2, 4, 6))
        self.assertEqual(manifest.identity[:4], (b"llama", b"12ab", b"34cd", b"L=2 G=1 D=4"))
        self.assertEqual(manifest.tokens, (1, 5, 49151, 0, 2147483647, 9, 12))
        self.assertEqual(manifest.origin, (b"krul 0.1.0", 1790000000))

    def test_every_flipped_bit_and_every_length_is_refused(self):
        for whole in (SMALL, FORK):
            for bit in range(8 * len(whole)):
                self.assertRaises(Refused, parse_manifest, flipped(whole, bit))
            for length in range(len(whole)):
                self.assertRaises(Refused, parse_manifest, whole[:length])
            self.assertRaises(Refused, parse_manifest, whole + b"\0")

    def test_a_forged_checksum_gives_other_content_or_is_refused(self):
        for whole, bits in ((SMALL, range(8 * len(SMALL))), (FORK, range(0, 8 * len(FORK), 9))):
            expected = parse_manifest(whole)
            for bit in bits:
                forged = sealed(flipped(whole, bit))
                try:
                    read = parse_manifest(forged)
                except Refused:
                    continue
                if forged != whole:
                    self.assertNotEqual(read, expected, f"bit {bit}")

    def test_a_cut_with_a_checksum_that_fits_is_refused_but_between_sections_that_may_be_missing(self):
        at, ends = 20, {}
        while at < len(FORK) - 16:
            number = int.from_bytes(FORK[at : at + 4], "little")
            at += 12 + int.from_bytes(FORK[at + 4 : at + 12], "little")
            ends[at] = number
        self.assertEqual([*ends.values()], [*range(1, 14)])
        for length in range(20, len(FORK) - 16):
            cut = sealed(FORK[:length] + bytes(16))
            if ends.get(length, 0) < 8:
                self.assertRaises(Refused, parse_manifest, cut)
            else:
                self.assertEqual(parse_manifest(cut).sections, tuple(range(1, ends[length] + 1)))

    def test_another_major_version_is_refused_by_name_and_a_newer_minor_read(self):
        with self.assertRaisesRegex(OtherVersion, r"2\.0.* 1\.x"):
            parse_manifest(sealed(SMALL[:8] + b"\2" + SMALL[9:]))
        newer = with_sections(SMALL[:10] + b"\x09" + SMALL[11:], {99: b"of a later version"})
        self.assertEqual(dataclasses.replace(parse_manifest(newer), minor=0), parse_manifest(SMALL))

    def test_a_folder_is_named_by_namespace_and_id(self):
        self.assertEqual(folder_name(b"hello"), "2e96db57068a9308518cc57820d16175")
        self.assertEqual(folder_name(b"hello", b"shop"), "c44d7313cbc85eb95ae765eaccddf03d")

    def test_a_chunk_of_another_coding_than_its_plan_is_refused(self):
        manifest = parse_manifest(FORK)
        fits_plans(manifest)
        row_codecs, by_profile, foreign = manifest.plans
        for plan, others in ((row_codecs, (b"int4", b"packed+f16", b"joint")), (by_profile, ()), (foreign, ())):
            at = manifest.plans.index(plan)
            wrong = [dataclasses.replace(plan, codec=codec) for codec in others]
            wrong.append(dataclasses.replace(plan, profile=b"" if plan.profile else b"12ab"))
            if plan.coders:
                wrong.append(dataclasses.replace(plan, coders=plan.coders[:1]))
            for each in wrong:
                plans = (*manifest.plans[:at], each, *manifest.plans[at + 1 :])
                self.assertRaises(Refused, fits_plans, dataclasses.replace(manifest, plans=plans))
        for unknown in (b"separate+joint", b"f16+", b"acme"):
            plans = (dataclasses.replace(row_codecs, codec=unknown), *manifest.plans[1:])
            fits_plans(dataclasses.replace(manifest, plans=plans))

    def test_what_was_seen_of_attention_is_read_or_refused(self):
        manifest = parse_manifest(FORK)
        for parse, data in ((parse_statistics, manifest.statistics), (parse_row_attention, manifest.row_attention)):
            parse(data)
            for bit in range(0, 8 * len(data), 3):
                self.assertRaises(Refused, parse, flipped(data, bit))
            for length in range(len(data)):
                self.assertRaises(Refused, parse, data[:length])
            self.assertRaises(Refused, parse, data + b"\0")
        more_heads, state = manifest.statistics[:12] + number(4097) + manifest.statistics[16:-8], len(manifest.statistics) - 8
        for byte in more_heads:
            state = mix(state ^ byte)
        self.assertRaisesRegex(Refused, "too large", parse_statistics, more_heads + number(state, 8))

    def test_a_damaged_loan_is_refused(self):
        lender = LATER / folder_name(b"turns")
        loans = read_loans(lender)
        self.assertEqual({folder_name(b"fork"), folder_name(b"fork-of-a-part")}, loans.keys())
        with tempfile.TemporaryDirectory() as name:
            for loan in lender.glob("fork-*"):
                (pathlib.Path(name) / loan.name).write_bytes(flipped(loan.read_bytes(), 5))
            self.assertRaises(Refused, read_loans, pathlib.Path(name))

    def test_sections_of_minor_versions_are_read(self):
        codings = text(b"12ab") + b"\1\xf9" + number(1) + text(b"acme.fp8.1")
        read = parse_manifest(with_sections(SMALL, {10: codings, 11: b"34cd", 13: number(1) + b"a" * 32}))
        plan = read.plans[0]
        self.assertEqual((plan.profile, plan.measured_step, plan.coders), (b"12ab", -7, (b"acme.fp8.1",)))
        self.assertEqual((read.texts, read.objects[1][:41]), (b"34cd", b"a" * 32 + b"/segment-"))
        for sections in ({10: codings + b"\0"}, {10: codings[:-1]}, {13: number(2) + b"a" * 32},
                         {13: number(0) + b"A" * 32}, {13: (number(0) + b"a" * 32) * 2}, {13: number(0)}):
            self.assertRaises(Refused, parse_manifest, with_sections(SMALL, sections))


class Copies(unittest.TestCase):
    def setUp(self):
        self.whole = (GOLDEN / "manifest-a").read_bytes()
        self.manifest = parse_manifest(self.whole)

    def in_force(self, *copies):
        return in_force(dict(zip(("manifest-a", "manifest-b"), copies)), GOLDEN.name)

    def test_a_damaged_copy_gives_way_to_the_other(self):
        for bit in range(8 * len(self.whole)):
            damaged = flipped(self.whole, bit)
            copies = (damaged, self.whole) if bit % 2 else (self.whole, damaged)
            self.assertEqual(self.in_force(*copies), self.manifest)
        for length in range(len(self.whole)):
            self.assertEqual(self.in_force(self.whole[:length], self.whole), self.manifest)
        self.assertEqual(self.in_force(self.whole), self.manifest)

    def test_two_damaged_copies_are_refused(self):
        for bit in range(8 * len(self.whole)):
            self.assertRaises(Refused, self.in_force, flipped(self.whole, bit), flipped(self.whole, bit))
        self.assertRaises(Refused, self.in_force)

    def test_the_higher_generation_is_in_force(self):
        at = self.whole.index(b"\2\0\0\0" + bytes([24, *[0] * 7, 1])) + 12  # section 2 begins with the generation
        newer = sealed(self.whole[:at] + b"\2" + self.whole[at + 1 :])
        for copies in ((newer, self.whole), (self.whole, newer)):
            self.assertEqual(self.in_force(*copies).generation, 2)

    def test_another_conversations_manifest_is_refused_and_another_major_version_is_not_passed_over(self):
        self.assertRaisesRegex(Refused, "another conversation", self.in_force, SMALL, SMALL)
        other = sealed(self.whole[:8] + b"\2" + self.whole[9:])
        self.assertRaises(OtherVersion, self.in_force, self.whole, other)

    def test_a_damaged_segment_is_refused(self):
        record = self.manifest.record(0, 0)
        segment = self.manifest.objects[record.object].decode()
        data = (GOLDEN / segment).read_bytes()
        with tempfile.TemporaryDirectory() as name:
            for wrong in (flipped(data, 8 * record.offset + 3), data[: record.offset + record.length - 1]):
                (pathlib.Path(name) / segment).write_bytes(wrong)
                self.assertRaises(Refused, read_chunk, pathlib.Path(name), self.manifest, record)


class Chunks(unittest.TestCase):
    """Of tests/vectors, without the checksums that would find the damage first."""

    def setUp(self):
        self.chunks = []
        rows, with_classes = (Cursor((TESTS / "vectors" / name).read_bytes())
                              for name in ("coded-rows.bin", "coded-rows-with-classes.bin"))
        profile = rows.text()
        for cursor, cases in ((rows, vector_cases()), (with_classes, class_cases())):
            for geometry, coding, block in cases:
                if coding == 0x41:
                    block.profile = Profile(profile, geometry)
                    block.features = drawn(32 * block.rows, 1).reshape(-1, 32)
                self.chunks.append((coding, geometry, cursor.text(), block))
                cursor.take(16)
        self.joint = [chunk for chunk in self.chunks if chunk[0] == 0x41]

    def test_damaged_chunks_are_rows_or_refused_and_short_ones_refused(self):
        draw = random.Random(1)
        for coding, geometry, chunk, block in self.chunks:
            for _ in range(3):
                damaged = flipped(chunk, draw.randrange(8 * len(chunk)))
                try:
                    layers = decode_chunk(coding, geometry, damaged, block)
                except Refused:
                    continue
                for keys, values in layers:
                    self.assertEqual((len(keys), len(values)), (block.rows * geometry.row_bytes,) * 2)
            for wrong in (chunk[: draw.randrange(len(chunk))], chunk + b"\0"):
                self.assertRaises(Refused, decode_chunk, coding, geometry, wrong, block)

    def test_the_row_at_position_0_may_be_the_profiles(self):
        coding, geometry, chunk, block = next(each for each in self.joint if each[3].first == 0)
        bytes_of_row = 2 * len(block.layers) * geometry.row_bytes
        self.assertEqual(chunk[9], 1)
        expected = decode_joint(geometry, chunk, block)
        found = decode_joint(geometry, chunk[:9] + b"\2" + chunk[10 + bytes_of_row :], block)
        for layer, (before, after) in enumerate(zip(expected, found)):
            for side in range(2):
                row = from_floats(geometry.cache, block.profile.first_rows(block.profile.groups[0])[layer][side])
                self.assertEqual(after[side], row + before[side][geometry.row_bytes :])

    def test_another_profile_or_none_is_refused(self):
        coding, geometry, chunk, block = self.joint[0]
        self.assertRaisesRegex(Refused, "another profile", decode_joint, geometry, flipped(chunk, 3), block)
        block = dataclasses.replace(block, profile=None)
        self.assertRaisesRegex(Refused, "missing", decode_joint, geometry, chunk, block)


class Arithmetic(unittest.TestCase):
    def test_products_are_fused(self):
        values = np.random.default_rng(1).normal(size=(3, 2000)).astype(F32)
        values[2, ::2] *= F32(2.0**-24)
        values[2, 1::5] = -values[0, 1::5] * values[1, 1::5]  # what is left is the rounding error
        for a, b, c, found in zip(*values, fused(*values)):
            exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
            error = abs(Fraction(float(found)) - exact)
            for neighbour in (np.nextafter(found, F32(np.inf)), np.nextafter(found, F32(-np.inf))):
                self.assertLessEqual(error, abs(Fraction(float(neighbour)) - exact))


if __name__ == "__main__":
    unittest.main(warnings="ignore")  # damaged chunks hold numbers that are none
