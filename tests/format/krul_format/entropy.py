"""Entropy coding: tables of symbols, their rANS streams, and bytes coded by their ranks. Whole numbers only."""

from fractions import Fraction
from functools import lru_cache

from .basics import Cursor, Refused, refuse_unless

TOTAL, LOWEST_STATE, MOST_REACH, MOST_SHIFT = 1 << 14, 1 << 16, 31, 10
STREAM_ORDER = [*range(0, 32, 2), *range(1, 32, 2)]
UNIVERSAL_TABLES = 62
EIGHTHS = (65536, 71468, 77936, 84990, 92682, 101070, 110218, 120194)  # 2^16 2^(i / 8)


class Table:
    """frequencies of q = -reach .. reach, then of the escape."""

    def __init__(self, frequencies, shift):
        self.frequencies, self.shift, self.reach = frequencies, shift, len(frequencies) // 2 - 1
        self.slots = slots_of(frequencies)


def slots_of(frequencies):
    """[2^14] of (symbol, offset within the symbol): 64 buckets of 256 slots by the alias method."""
    left = [*frequencies, *[0] * (64 - len(frequencies))]
    own, given = [256] * 64, [None] * 64
    open_buckets = [b for b in reversed(range(64)) if left[b] < 256]  # a stack: the lowest comes first
    while open_buckets:
        bucket = open_buckets.pop()
        own[bucket] = left[bucket]
        giver = next(b for b in range(64) if left[b] > 256)
        left[giver] -= 256 - left[bucket]
        given[bucket] = (giver, left[giver])
        if left[giver] < 256:
            open_buckets.append(giver)
    slots = []
    for b in range(64):
        slots += [(b, i) for i in range(own[b])]
        slots += [(given[b][0], given[b][1] + i) for i in range(256 - own[b])]
    return slots


def read_table(cursor):
    reach, shift, frequencies = cursor.number(1), cursor.number(1), []
    refuse_unless(1 <= reach <= MOST_REACH and shift <= MOST_SHIFT, "no table of symbols")
    for _ in range(2 * reach + 1):
        value = cursor.number(1)
        if value >= 128:
            value = (value & 127) + (cursor.number(1) << 7)
        frequencies.append(value + 1)
    refuse_unless(sum(frequencies) < TOTAL, "no table of symbols")
    return Table([*frequencies, TOTAL - sum(frequencies)], shift)


class SymbolReader:
    """The symbols of one or several blocks, column by column."""

    def __init__(self, data, streams):
        self.cursor, self.states = Cursor(data), [LOWEST_STATE] * 32
        for stream in STREAM_ORDER:
            if stream < streams:
                self.states[stream] = self.cursor.number(4)
                refuse_unless(self.states[stream] >= LOWEST_STATE, "a stream begins too low")

    def column(self, table, tokens):
        symbols = []
        for begin in range(0, tokens, 32):
            symbols += self.step(table, min(32, tokens - begin))
        return symbols

    def step(self, table, count):
        streams, reach, symbols = [s for s in STREAM_ORDER if s < count], table.reach, [0] * count
        for s in streams:
            symbol, offset = table.slots[self.states[s] % TOTAL]
            self.states[s] = self.refilled(table.frequencies[symbol] * (self.states[s] // TOTAL) + offset)
            symbols[s] = symbol - reach
        low = dict.fromkeys(streams, 0)
        if table.shift:
            low = {s: self.bits(s, table.shift) for s in streams}
        for s in streams:
            if symbols[s] > reach:  # the escape
                width = self.bits(s, 4)
                remainder = (1 << width) - 1 + self.bits(s, width)
                size = reach + 1 + remainder // 2
                symbols[s] = -size if remainder % 2 else size
            symbols[s] = (symbols[s] << table.shift) + low[s]
            refuse_unless(-32768 <= symbols[s] <= 32767, "a symbol is larger than any")
        return symbols

    def bits(self, stream, count):
        value = self.states[stream] & ((1 << count) - 1)
        self.states[stream] = self.refilled(self.states[stream] >> count)
        return value

    def refilled(self, state):
        return state << 16 | self.cursor.number(2) if state < LOWEST_STATE else state

    def finish(self):
        self.cursor.finish()
        refuse_unless(all(state == LOWEST_STATE for state in self.states), "a stream does not end as it began")


# ---- tables that are computed ----


@lru_cache(maxsize=None)
def log2_q16(value):
    """log2 in 1 / 65536, rounded down."""
    whole = value.bit_length() - 1
    mantissa = value >> (whole - 31) if whole > 31 else value << (31 - whole)
    result = whole
    for _ in range(16):
        mantissa = mantissa * mantissa >> 31
        carry = mantissa >> 32
        mantissa >>= carry
        result = result << 1 | carry
    return result


def exp_of_minus_q24(y):
    """2^31 exp(-y), y in 1 / 2^24."""
    halvings, rest = y // 11629080, y % 11629080 << 7
    if halvings > 31:
        return 0
    total = 0
    for n in range(12, 0, -1):
        total = (rest * ((1 << 31) - total) >> 31) // n
    return ((1 << 31) - total) >> halvings


def bounded(counts):
    divisor = max(counts) // ((1 << 46) // len(counts)) + 1
    return [-(-count // divisor) for count in counts]


def frequencies_of(counts):
    counts = bounded(counts)
    total = sum(counts)
    shares = [max(count * TOTAL // total, 1) for count in counts]
    while sum(shares) != TOTAL:
        change = 1 if sum(shares) < TOTAL else -1
        gains = [change * Fraction(count, 2 * share + change) for count, share in zip(counts, shares)]
        best = max((i for i, share in enumerate(shares) if share + change > 0), key=gains.__getitem__)
        shares[best] += change
    return shares


def within(folded, first, reach):
    counts = [0] * (2 * reach + 2)
    for q, count in enumerate(folded, first):
        counts[q + reach if abs(q) <= reach else -1] += count
    return counts


def estimate(folded, first, reach, shift, total):
    counts = within(folded, first, reach)
    shared = TOTAL - len(counts)
    shares = [count * shared // total for count in counts]
    cost = sum(share * ((14 << 16) - log2_q16(share + 1)) for share in shares)
    escaped = sum(count * (3 + (2 * (abs(q) - reach - 1) + (q < 0) + 1).bit_length())
                  for q, count in enumerate(folded, first) if abs(q) > reach)
    return cost // shared + (escaped * 1024 // total << 6) + (shift << 16)


@lru_cache(maxsize=None)
def universal(index):
    """Table 1 to 62: of a deviation of 2^(-4 + 3 pair / 8) steps, a Laplace first, then a Gaussian."""
    pair, gaussian = divmod(index - 1, 2)
    deviation = EIGHTHS[3 * pair % 8] << 3 * pair // 8 >> 4
    scale, samples = (deviation, 1704) if gaussian else (deviation * 46341 >> 16, 22 * 256)
    value_of = lambda j: ((2 * j + 1) * scale // 512 + 32768) >> 16
    largest = value_of(samples - 1)
    weights = [0] * (2 * largest + 1)
    for j in range(samples):
        odd = 2 * j + 1
        weight = exp_of_minus_q24(odd * odd << 5 if gaussian else odd << 15)
        weights[largest + value_of(j)] += weight
        weights[largest - value_of(j)] += weight
    return fit(weights, -largest)


def fit(weights, first):
    counts, least = bounded(weights), None
    total, last = sum(counts), first + len(counts) - 1
    for shift in range(MOST_SHIFT + 1):
        folded = [0] * ((last >> shift) - (first >> shift) + 1)
        for value, count in enumerate(counts, first):
            folded[(value >> shift) - (first >> shift)] += count
        for reach in (1, 2, 3, 5, 7, 11, 15, 23, 31):
            cost = estimate(folded, first >> shift, reach, shift, total)
            if least is None or cost < least:
                least, best = cost, (within(folded, first >> shift, reach), shift)
        if max(-(first >> shift), last >> shift) <= MOST_REACH:
            break
    return Table(frequencies_of(best[0]), best[1])


@lru_cache(maxsize=None)
def difference_table(decay):
    counts = [1 << 40]  # of 0, +-1, .. +-15 and the escape
    for _ in range(16):
        counts.append(counts[-1] // 8 * decay if decay < 8 else counts[-1] // 16 * 15)
    return Table(frequencies_of([*counts[15:0:-1], *counts]), 0)


# ---- what is coded with them ----


def read_table_indices(data, expected):
    """Indices of tables, coded as differences from those that are expected."""
    cursor = Cursor(data)
    decay = cursor.number(1)
    if decay == 0:
        cursor.finish()
        return expected
    refuse_unless(decay <= 8, "no table of differences")
    columns = -(-len(expected) // 4)
    reader = SymbolReader(cursor.rest(), 4 if columns else 0)
    differences = [value for _ in range(columns) for value in reader.column(difference_table(decay), 4)]
    reader.finish()
    refuse_unless(not any(differences[len(expected):]), "a difference of no column")
    indices = [index + difference for index, difference in zip(expected, differences)]
    refuse_unless(all(0 <= index <= UNIVERSAL_TABLES for index in indices), "no such table")
    return indices


def read_bytes(data, count):
    """What encode_bytes made of `count` bytes."""
    cursor = Cursor(data)
    form = cursor.number(1)
    if form == 0:
        refuse_unless(cursor.left() == count, "other bytes than there should be")
        return cursor.rest()
    refuse_unless(form == 1 and count > 0, "no coded bytes")
    values = cursor.take(cursor.number(1) + 1)
    table, width, decoded = read_table(cursor), min(count, 256), []
    reader = SymbolReader(cursor.rest(), min(width, 32))
    while len(decoded) < count:
        decoded += reader.column(table, width)
    reader.finish()
    ranks = [symbol + MOST_REACH for symbol in decoded[:count]]
    if not all(0 <= rank < len(values) for rank in ranks):
        raise Refused("a rank that no value has")
    return bytes(values[rank] for rank in ranks)
