"""The manifest of a conversation, and the chunks that it names."""

import re
from dataclasses import dataclass

from .basics import Cursor, OtherVersion, Refused, checksum, refuse_unless

MAGIC, MAJOR = b"KRULMAN\n", 1
CONVERSATION, SAVE, IDENTITY, TOKENS, OBJECTS, PLANS, CHUNKS, ORIGIN = range(1, 9)
STATISTICS, CODINGS, TEXTS, ROW_ATTENTION, BORROWED = range(9, 14)
HEXADECIMAL = frozenset(b"0123456789abcdef")
NAME_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789.-")
SHARINGS = (b"separate", b"slerp", b"reuse", b"packed")
ROW_CODECS = {b"exact": 1, b"f16": 2, b"bf16": 3, b"int8": 4, b"int4": 5}


@dataclass
class Plan:
    strategy: bytes
    codec: bytes
    settings: bytes
    profile: bytes = b""
    measured_step: object = None
    coders: tuple = ()


@dataclass(frozen=True)
class Record:
    object: int
    offset: int
    length: int
    coding: int
    plan: int
    hash: bytes


@dataclass
class Manifest:
    minor: int
    conversation: bytes = b""
    generation: int = 0
    rows: int = 0
    layers: int = 0
    block: int = 0
    identity: tuple = ()
    tokens: tuple = ()
    objects: list = ()  # a segment's name, or folder/name
    plans: tuple = ()
    chunks: tuple = ()
    origin: tuple = ()
    statistics: bytes = b""
    texts: bytes = b""
    row_attention: bytes = b""
    sections: tuple = ()  # the known ones that are there

    @property
    def blocks(self):
        return -(-self.rows // self.block)

    def record(self, layer, block):
        return self.chunks[layer * self.blocks + block]

    def layers_of(self, layer, block):
        """All layers that were coded into this chunk, ascending."""
        place = lambda record: (record.object, record.offset) if record.length else None
        return [other for other in range(self.layers)
                if place(self.record(other, block)) == place(self.record(layer, block))]


def parse_manifest(data):
    refuse_unless(len(data) <= 256 << 20, "too large")
    refuse_unless(len(data) >= 36, "cut off")
    cursor = Cursor(data[:-16])
    refuse_unless(cursor.take(8) == MAGIC, "it does not begin like a manifest")
    major, minor, length = cursor.number(2), cursor.number(2), cursor.number(8)
    refuse_unless(length <= len(data), "cut off")
    refuse_unless(length == len(data), "something follows its end")
    refuse_unless(checksum(data[:-16]) == data[-16:], "its checksum does not fit")
    if major != MAJOR:
        raise OtherVersion(f"format {major}.{minor} is not {MAJOR}.x")
    sections = {}
    while cursor.left():
        number, size = cursor.number(4), cursor.number(8)
        refuse_unless(number > max(sections, default=0), "its sections are out of order")
        sections[number] = cursor.take(size)
    refuse_unless(all(number in sections for number in range(1, 9)), "a section is missing")
    manifest = Manifest(minor)
    manifest.sections = tuple(number for number in sections if number <= BORROWED)  # others are of newer versions
    for number in manifest.sections:
        inner = Cursor(sections[number])
        read_section(number, inner, manifest)
        inner.finish()
    if CODINGS not in sections:
        for plan in manifest.plans:
            derive_from_texts(plan)
    validate(manifest)
    return manifest


def read_section(number, cursor, manifest):
    if number == CONVERSATION:
        manifest.conversation = cursor.rest()
    elif number == SAVE:
        manifest.generation, manifest.rows = cursor.number(8), cursor.number(8)
        manifest.layers, manifest.block = cursor.number(4), cursor.number(4)
        refuse_unless(manifest.rows <= 1 << 24 and manifest.layers <= 4096, "too large")
        refuse_unless(manifest.layers >= 1 and manifest.block >= 1, "it has no layers, or blocks without tokens")
    elif number == IDENTITY:
        manifest.identity = tuple(cursor.text() for _ in range(8))
    elif number == TOKENS:
        refuse_unless(cursor.left() // 4 <= 1 << 24, "too large")
        manifest.tokens = tuple(cursor.number(4) for _ in range(cursor.left() // 4))
    elif number == OBJECTS:
        count = cursor.number(4)
        refuse_unless(count <= 65536, "too large")
        manifest.objects = [cursor.text() for _ in range(count)]
        refuse_unless(all(b"/" not in name for name in manifest.objects), "an object's name is not a segment's")
    elif number == PLANS:
        count = cursor.number(4)
        refuse_unless(count <= 256, "more than 256 plans")
        manifest.plans = tuple(Plan(cursor.text(), cursor.text(), cursor.text()) for _ in range(count))
    elif number == CHUNKS:
        count = manifest.layers * manifest.blocks
        refuse_unless(cursor.left() == 36 * count, "its chunk table has a wrong length")
        manifest.chunks = tuple(read_record(cursor) for _ in range(count))
    elif number == ORIGIN:
        manifest.origin = (cursor.text(), cursor.number(8))
    elif number == CODINGS:
        for plan in manifest.plans:
            plan.profile, has_step, step = cursor.text(), cursor.number(1), cursor.number(1)
            refuse_unless(has_step == 1 or (has_step, step) == (0, 0), "a step is neither there nor missing")
            plan.measured_step = int.from_bytes([step], "little", signed=True) if has_step else None
            count = cursor.number(4)
            refuse_unless(count <= 128, "more than 128 coders")
            plan.coders = tuple(cursor.text() for _ in range(count))
    elif number == BORROWED:
        while cursor.left():
            index, folder = cursor.number(4), cursor.take(32)
            refuse_unless(index < len(manifest.objects), "it borrows an object that it does not name")
            refuse_unless(HEXADECIMAL.issuperset(folder), "it borrows from what is no folder")
            refuse_unless(b"/" not in manifest.objects[index], "it borrows an object twice")
            manifest.objects[index] = folder + b"/" + manifest.objects[index]
    else:
        seen = cursor.rest()
        refuse_unless(len(seen) <= 64 << 20, "too large")
        setattr(manifest, {STATISTICS: "statistics", TEXTS: "texts", ROW_ATTENTION: "row_attention"}[number], seen)


def read_record(cursor):
    place, nothing, sum_of_it = [cursor.number(size) for size in (4, 8, 4, 1, 1)], cursor.number(2), cursor.take(16)
    refuse_unless(nothing == 0, "a record has bits that mean nothing")
    return Record(*place, sum_of_it)


def derive_from_texts(plan):
    """What formats before 1.2 said of a plan."""
    if plan.codec.startswith(b"profile "):
        plan.profile = plan.codec[len(b"profile "):]
    if plan.settings.startswith(b"measured step "):
        digits = plan.settings[len(b"measured step "):]
        if re.fullmatch(rb"-?0*\d{1,3}", digits) and -127 <= int(digits) <= 127:
            plan.measured_step = int(digits)


def validate(manifest):
    refuse_unless(1 <= len(manifest.conversation) <= 4096, "its id is empty or too long")
    refuse_unless(manifest.generation < 1 << 63, "no number of saves reaches its generation")
    refuse_unless(all(token < 1 << 31 for token in manifest.tokens), "a token is negative")
    refuse_unless(manifest.rows <= len(manifest.tokens), "it has more rows than tokens")
    texts = [*manifest.identity, manifest.origin[0], manifest.texts]
    for plan in manifest.plans:
        texts += [plan.strategy, plan.codec, plan.settings, plan.profile, *plan.coders]
    refuse_unless(all(len(text) <= 65536 for text in texts), "too large")
    refuse_unless(len(set(manifest.objects)) == len(manifest.objects), "it names an object twice")
    for name in manifest.objects:
        name = name[33:] if name[32:33] == b"/" else name
        refuse_unless(len(name) <= 64 and name.startswith(b"segment-") and NAME_LETTERS.issuperset(name),
                      "an object's name is not a segment's")
    places = {}
    for index, record in enumerate(manifest.chunks):
        if record.length == 0:
            refuse_unless(record == Record(0, 0, 0, 0, 0, bytes(16)), "a chunk that is not stored has a place")
            continue
        refuse_unless(record.length <= 256 << 20, "a chunk is longer than any can be")
        refuse_unless(record.object < len(manifest.objects), "a chunk lies in an object that is not named")
        refuse_unless(record.plan < len(manifest.plans), "a chunk has a plan that is not named")
        refuse_unless(record.offset + record.length < 1 << 63, "a chunk lies beyond the end of any object")
        place = (index % manifest.blocks, record.object, record.offset)
        refuse_unless(places.setdefault(place, record) == record, "two layers disagree about a chunk they share")


def fits_plans(manifest):
    """Whether each chunk is coded as its plan says, as far as that is known."""
    for record in manifest.chunks:
        if record.length == 0:
            continue
        plan, sharing, row_codec = manifest.plans[record.plan], record.coding >> 4, record.coding & 15
        shared, plus, name = plan.codec.rpartition(b"+")
        name = b"exact" if plan.codec == b"joint" else name
        refuse_unless((sharing == 4) == bool(plan.profile), "a chunk or its plan is of a profile, and the other is not")
        if sharing in (0, 5) and name in ROW_CODECS and (not plus or shared in SHARINGS):
            refuse_unless(row_codec == ROW_CODECS[name], "a chunk has another row codec than its plan")
        refuse_unless(record.coding < 128 + len(plan.coders), "a coder is not named")


def folder_name(conversation, namespace=b""):
    return checksum(len(namespace).to_bytes(2, "little") + namespace + conversation).hex()


def load_manifest(folder):
    copies = {}
    for name in ("manifest-a", "manifest-b"):
        if (folder / name).is_file():
            copies[name] = (folder / name).read_bytes()
    return in_force(copies, folder.name)


def in_force(copies, folder):
    """The valid copy of the higher generation."""
    valid, errors = [], []
    for name, data in copies.items():
        try:
            manifest = parse_manifest(data)
            refuse_unless(folder_name(manifest.conversation) == folder, "it is another conversation's")
            fits_plans(manifest)
            valid.append(manifest)
        except OtherVersion:
            raise
        except Refused as error:
            errors.append(f"{name}: {error}")
    refuse_unless(valid, "; ".join(errors) or "there is no manifest")
    return max(valid, key=lambda manifest: manifest.generation)


def object_path(folder, name):
    """Where a segment lies that a manifest in `folder` names."""
    return folder.parent / name if "/" in name else folder / name


def read_chunk(folder, manifest, record):
    """None if its object is missing: it is recomputed, as where it is refused."""
    path = object_path(folder, manifest.objects[record.object].decode())
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        file.seek(record.offset)
        data = file.read(record.length)
    refuse_unless(checksum(data) == record.hash, "a chunk is damaged")
    return data


def read_loans(folder):
    """{the folder of a fork: the segments that are lent to it}"""
    loans = {}
    for file in folder.glob("fork-*"):
        _, fork, digits = file.name.split("-")
        data = file.read_bytes()
        refuse_unless(checksum(data).hex()[:8] == digits, "a loan is damaged: nothing in its folder may be erased")
        loans.setdefault(fork, []).extend(data.decode().splitlines())
    return loans
