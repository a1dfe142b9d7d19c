#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "krul/compress/entropy/symbol_block.hpp"
#include "krul/compress/entropy/symbol_table.hpp"
#include "krul/compress/entropy/table_set.hpp"

namespace krul::reference {

/// Twin of SymbolTable::cost: -log2 of the share of what codes `symbol`, and the bits beside it.
[[nodiscard]] inline double ideal_bits(const SymbolTable& table, int symbol) {
  const double q = std::floor(std::ldexp(symbol, -static_cast<int>(table.shift())));
  const double above = std::abs(q) - table.reach();
  const auto frequency =
      above > 0 ? table.frequencies().back() : table.frequencies()[static_cast<std::size_t>(q + table.reach())];
  const double escape = above > 0 ? 4 + std::floor(std::log2(2 * (above - 1) + (q < 0 ? 1 : 0) + 1)) : 0;
  return SymbolTable::precision - std::log2(frequency) + table.shift() + escape;
}

/// Length of the ideal code of a block, in bits: nothing for states, and no rounding to words.
[[nodiscard]] inline double ideal_bits(const TableSet& tables, SymbolBlock block, std::span<const std::int16_t> symbols,
                                       std::span<const std::uint8_t> table_of_column) {
  double bits = 0;
  for (std::size_t i = 0; i < symbols.size(); ++i)
    if (const auto index = table_of_column[i / block.tokens]; index != 0)
      bits += ideal_bits(tables.table(index), symbols[i]);
  return bits;
}

/// Twin of SymbolTable::discretised, for a table of reach R without shift: [2 R + 2] probabilities that a value rounded
/// to a whole number is -R .. R, and of all others.
[[nodiscard]] inline std::vector<double> discretised(TableShape shape, double deviation, int reach) {
  const auto below = [&](double x) {  // probability of a smaller value
    if (shape == TableShape::gaussian) return std::erfc(-x / deviation / std::sqrt(2.0)) / 2;
    const double tail = std::exp(-std::abs(x) * std::sqrt(2.0) / deviation) / 2;
    return x < 0 ? tail : 1 - tail;
  };
  std::vector<double> result;
  for (int q = -reach; q <= reach; ++q) result.push_back(below(q + 0.5) - below(q - 0.5));
  result.push_back(2 * below(-reach - 0.5));
  return result;
}

/// One slot of rANS: which symbol it means (its place in the frequencies) and which of that symbol's slots it is.
struct Slot {
  std::size_t symbol = 0;
  std::uint32_t offset = 0;
};

/// Twin of AliasTable: all 2^14 slots, one by one.
[[nodiscard]] inline std::vector<Slot> slots_of(const SymbolTable& table) {
  constexpr std::size_t buckets = 64, room = 256;
  std::vector<std::uint32_t> left(buckets, 0);
  std::copy(table.frequencies().begin(), table.frequencies().end(), left.begin());
  std::vector<std::uint32_t> own(buckets, room);
  std::vector<std::optional<std::size_t>> other(buckets);
  std::vector<std::vector<Slot>> slots(buckets);
  std::vector<bool> open(buckets);
  std::optional<std::size_t> next;  // a giver that gave too much goes first, else the lowest
  for (std::size_t b = 0; b < buckets; ++b) open[b] = left[b] < room;
  for (;;) {
    const auto lowest = static_cast<std::size_t>(std::find(open.begin(), open.end(), true) - open.begin());
    if (!next && lowest == buckets) break;
    const std::size_t bucket = next.value_or(lowest);
    next.reset();
    open[bucket] = false;
    own[bucket] = left[bucket];
    std::size_t giver = 0;
    while (left[giver] <= room) ++giver;
    left[giver] -= static_cast<std::uint32_t>(room) - own[bucket];
    for (std::uint32_t i = own[bucket]; i < room; ++i) slots[bucket].push_back({giver, left[giver] + i - own[bucket]});
    if (left[giver] < room) next = giver;
  }
  std::vector<Slot> all;
  for (std::size_t b = 0; b < buckets; ++b) {
    for (std::uint32_t i = 0; i < own[b]; ++i) all.push_back({b, i});
    all.insert(all.end(), slots[b].begin(), slots[b].end());
  }
  return all;
}

/// Twin of SymbolDecoder for bytes that an encoder wrote: one symbol after another.
[[nodiscard]] inline std::vector<int> decode_symbols(std::span<const std::byte> bytes, SymbolBlock block,
                                                     std::span<const std::uint8_t> table_of_column,
                                                     const TableSet& tables) {
  std::size_t at = 0;
  const auto number = [&](std::size_t size) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) value |= std::to_integer<std::uint64_t>(bytes[at + i]) << (8 * i);
    at += size;
    return value;
  };
  std::vector<std::size_t> order;  // of streams
  for (std::size_t parity = 0; parity < 2; ++parity)
    for (std::size_t stream = parity; stream < 32; stream += 2) order.push_back(stream);
  std::vector<std::uint64_t> states(32);
  if (block.symbols() > 0)
    for (const std::size_t stream : order)
      if (stream < block.tokens) states[stream] = number(4);
  const auto refill = [&](std::uint64_t& state) {
    if (state < 65536) state = state * 65536 + number(2);
  };
  const auto bits = [&](std::uint64_t& state, unsigned count) {
    const std::uint64_t value = state % (1ULL << count);
    state /= 1ULL << count;
    refill(state);
    return static_cast<int>(value);
  };

  std::vector<std::vector<Slot>> slots(tables.size());
  std::vector<int> symbols(block.symbols(), 0);
  for (std::size_t column = 0; column < block.columns; ++column) {
    const std::size_t index = table_of_column[column];
    if (index == 0) continue;
    const SymbolTable& table = tables.table(index);
    if (slots[index].empty()) slots[index] = slots_of(table);
    const int reach = static_cast<int>(table.reach());
    for (std::size_t begin = 0; begin < block.tokens; begin += 32) {
      std::vector<std::size_t> here;  // streams of this step
      for (const std::size_t stream : order)
        if (begin + stream < block.tokens) here.push_back(stream);
      int* const out = &symbols[column * block.tokens + begin];
      std::vector<int> low(32, 0);
      for (const std::size_t stream : here) {
        const Slot slot = slots[index][states[stream] % SymbolTable::total];
        states[stream] = states[stream] / SymbolTable::total * table.frequencies()[slot.symbol] + slot.offset;
        refill(states[stream]);
        out[stream] = static_cast<int>(slot.symbol) - reach;
      }
      if (table.shift() > 0)
        for (const std::size_t stream : here) low[stream] = bits(states[stream], table.shift());
      for (const std::size_t stream : here)
        if (out[stream] > reach) {
          const int count = bits(states[stream], 4);
          const int remainder = (1 << count) - 1 + bits(states[stream], static_cast<unsigned>(count));
          out[stream] = (reach + 1 + remainder / 2) * (remainder % 2 == 1 ? -1 : 1);
        }
      for (const std::size_t stream : here) out[stream] = out[stream] * (1 << table.shift()) + low[stream];
    }
  }
  return symbols;
}

}  // namespace krul::reference
