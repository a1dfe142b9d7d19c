#include "krul/compress/entropy/table_choice.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <numeric>
#include <type_traits>

#include "krul/compress/entropy/symbol_decoder.hpp"

namespace krul {
namespace {

constexpr std::size_t indices_at_once = 4;  // few streams: their states are most of what a good prediction leaves

constexpr std::uint8_t decays = 8;

/// Two-sided geometric: each difference is decay / 8 times as frequent as the next smaller one, and 8 stands for 15
/// / 16. Named by a byte in what is stored; 0 there means that all differences are zero.
TableSet difference_table(std::uint8_t decay) {
  constexpr std::size_t reach = 15;
  std::vector<std::uint64_t> counts(2 * reach + 2);
  std::uint64_t count = std::uint64_t{1} << 40;
  for (std::size_t size = 0; size <= reach + 1; ++size) {
    if (size <= reach)
      counts[reach + size] = counts[reach - size] = count;
    else
      counts.back() = count;
    count = decay < decays ? count / 8 * decay : count / 16 * 15;
  }
  return TableSet({SymbolTable::from_counts(counts)});
}

constexpr int largest = TableSet::largest_size;

/// What coding differences with one table takes.
struct DifferenceCoder {
  SymbolEncoder encoder;
  /// Of differences from -largest up, in bits / 1024; with room for a look beyond the last one.
  std::array<std::uint32_t, 2 * largest + SymbolEncoder::priced_at_once> prices{};

  explicit DifferenceCoder(const TableSet& differences) : encoder(differences) {
    for (int i = 0; i < 2 * largest; ++i)
      prices[static_cast<std::size_t>(i)] = differences.table(1).cost(static_cast<std::int16_t>(i - largest));
  }
};

/// What `make` makes of a decay from 1 up: constants, made for all of them when the first is needed.
template <auto make>
const auto& of_decay(std::uint8_t decay) {
  static const auto all = [] {
    std::vector<std::decay_t<decltype(make(1))>> made;
    for (std::uint8_t each = 1; each <= decays; ++each) made.push_back(make(each));
    return made;
  }();
  return all[decay - 1U];
}

/// Apart from the coders, which whoever only decodes never makes.
const TableSet& table_of(std::uint8_t decay) {
  return of_decay<difference_table>(decay);
}
const DifferenceCoder& coder_of(std::uint8_t decay) {
  return of_decay<[](std::uint8_t each) { return DifferenceCoder(table_of(each)); }>(decay);
}

SymbolBlock indices_block(std::size_t count) {
  return {(count + indices_at_once - 1) / indices_at_once, indices_at_once};
}

/// Differences, filled up with zeros to a whole block.
std::vector<std::int16_t> differences(std::span<const std::uint8_t> indices, std::span<const std::uint8_t> predicted) {
  std::vector<std::int16_t> result(indices_block(indices.size()).symbols());
  for (std::size_t i = 0; i < indices.size(); ++i) result[i] = static_cast<std::int16_t>(indices[i] - predicted[i]);
  return result;
}

/// The decay for all differences together.
std::uint8_t decay_for(std::span<const std::int16_t> values) {
  std::array<std::uint64_t, 2 * largest> seen{};
  for (const std::int16_t value : values) ++seen[static_cast<std::size_t>(value + largest)];
  if (seen[largest] == values.size()) return 0;
  std::uint8_t best = 0;
  std::uint64_t least = 0;
  for (std::uint8_t decay = 1; decay <= decays; ++decay) {
    const auto& prices = coder_of(decay).prices;
    const auto sum = std::inner_product(seen.begin(), seen.end(), prices.begin(), std::uint64_t{0});
    if (best == 0 || sum < least) best = decay, least = sum;
  }
  return best;
}

/// What a column takes with the indices around its cheapest one.
struct Nearby {
  static constexpr std::size_t most = SymbolEncoder::priced_at_once;
  std::size_t first = 0;
  std::array<std::uint32_t, most> costs;  ///< of first, first + 1, ...
  bool zeros = false;                     ///< then index 0 costs nothing, wherever `first` is

  /// Indices beyond a small set stay out of reach.
  Nearby() { costs.fill(SymbolEncoder::out_of_reach); }

  /// The index with the least sum of its cost and prices[index]; of equal ones the lowest.
  [[nodiscard]] std::uint8_t best(std::span<const std::uint32_t> prices) const {
    const std::uint32_t* const price = &prices[first];
    // Sums with their places in the low bits, so that nothing branches on which is the least.
    std::uint64_t least = ~std::uint64_t{0};
    for (std::size_t i = 0; i < most; ++i) least = std::min(least, (std::uint64_t{costs[i]} + price[i]) * most + i);
    if (zeros && prices[0] <= least / most) return 0;
    return static_cast<std::uint8_t>(first + least % most);
  }
};

/// Prices of indices that cost nothing themselves.
constexpr std::array<std::uint32_t, largest + Nearby::most> no_prices{};

/// A column's symbols in one part of a block.
struct ColumnPart {
  std::span<const std::int16_t> symbols;
  int shift = 0;
  int largest = 0;  ///< size of a symbol

  ColumnPart(std::span<const std::int16_t> of, int by) : symbols(of), shift(by) {
    for (const std::int16_t symbol : symbols) largest = std::max(largest, std::abs(int{symbol}));
  }
};

/// What a column takes in all its parts with the indices first, first + 1, ...
/// @param costs  [n], overwritten
void sum_costs(const SymbolEncoder& encoder, std::span<const ColumnPart> parts, std::size_t first,
               std::span<std::uint32_t> costs) {
  if (parts.size() == 1 && parts[0].shift == 0) return encoder.costs(parts[0].symbols, first, costs);
  std::fill(costs.begin(), costs.end(), 0U);
  std::array<std::uint32_t, largest> of_part;
  const std::size_t last = first + costs.size() - 1;
  const auto at = [&](std::size_t index, int shift) {
    return shifted_table(static_cast<std::uint8_t>(index), shift, encoder.size());
  };
  for (const ColumnPart& part : parts) {
    const std::size_t lowest = at(first, part.shift), highest = at(last, part.shift);
    encoder.costs(part.symbols, lowest, std::span(of_part).first(highest - lowest + 1));
    for (std::size_t i = 0; i < costs.size(); ++i) {
      const std::uint32_t cost = of_part[at(first + i, part.shift) - lowest];
      const bool in_reach = costs[i] < SymbolEncoder::out_of_reach && cost < SymbolEncoder::out_of_reach;
      costs[i] = in_reach ? costs[i] + cost : SymbolEncoder::out_of_reach;
    }
  }
}

/// Around the predicted index, costs rise on both sides of the best one as long as its table reaches all symbols.
/// Where the best one is not in sight, all are priced.
Nearby nearby(const SymbolEncoder& encoder, std::span<const ColumnPart> parts, std::size_t predicted) {
  constexpr std::size_t most = Nearby::most, edge = 2;  // neighbours are of two shapes
  const std::size_t size = encoder.size(), count = std::min(size, most), last = size - count;
  const auto around = [&](std::size_t index) { return std::min(index - std::min(index, most / 2), last); };
  const auto within_reach = [&](std::size_t index) {
    return std::ranges::all_of(parts, [&](const ColumnPart& part) {
      return part.largest == 0 ||
             part.largest <= encoder.reach(shifted_table(static_cast<std::uint8_t>(index), part.shift, size));
    });
  };
  Nearby here;
  here.zeros = std::ranges::all_of(parts, [](const ColumnPart& part) { return part.largest == 0; });
  here.first = around(predicted);
  sum_costs(encoder, parts, here.first, std::span(here.costs).first(count));
  if (here.zeros) return here;
  const std::size_t best = here.best(no_prices), position = best - here.first;
  const bool in_sight = (here.first == 0 || position >= edge) && (here.first == last || position < most - edge);
  if (in_sight && within_reach(best)) return here;
  std::array<std::uint32_t, largest> all;
  sum_costs(encoder, parts, 0, std::span(all).first(size));
  here.first = around(static_cast<std::size_t>(
      std::min_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(size)) - all.begin()));
  std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(here.first), count, here.costs.begin());
  return here;
}

bool all_below(std::span<const std::uint8_t> indices, std::size_t size) {
  return std::all_of(indices.begin(), indices.end(), [&](std::uint8_t index) { return index < size; });
}

}  // namespace

std::vector<std::uint8_t> choose_tables(const SymbolEncoder& encoder, SymbolBlock block,
                                        std::span<const std::int16_t> symbols,
                                        std::span<const std::uint8_t> predicted) {
  expects(symbols.size() == block.symbols() && predicted.size() == block.columns,
          "choose_tables: needs the symbols of the block and a prediction from the set for each column");
  std::vector<std::uint32_t> all(block.columns);
  std::iota(all.begin(), all.end(), 0U);
  const ShiftedSymbols whole{block, symbols, all};
  return choose_tables(encoder, std::span(&whole, 1), predicted);
}

std::uint8_t shifted_table(std::uint8_t index, int shift, std::size_t size) noexcept {
  if (index == 0 || shift == 0) return index;
  return static_cast<std::uint8_t>(std::clamp(index + shift, 1, static_cast<int>(size) - 1));
}

std::vector<std::uint8_t> choose_tables(const SymbolEncoder& encoder, std::span<const ShiftedSymbols> parts,
                                        std::span<const std::uint8_t> predicted) {
  expects(all_below(predicted, encoder.size()),
          "choose_tables: needs the symbols of the block and a prediction from the set for each column");
  for (const ShiftedSymbols& part : parts)
    expects(part.symbols.size() == part.block.symbols() && part.column.size() == part.block.columns &&
                (part.column.empty() || part.column.back() < predicted.size()),
            "choose_tables: a part has columns that are not predicted");
  std::vector<Nearby> costs(predicted.size());
  std::vector<std::uint8_t> chosen(predicted.size());
  std::vector<std::size_t> next(parts.size());  // column of each part
  std::vector<ColumnPart> here;
  for (std::size_t column = 0; column < predicted.size(); ++column) {
    here.clear();
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const ShiftedSymbols& part = parts[i];
      if (next[i] == part.column.size() || part.column[next[i]] != column) continue;
      here.emplace_back(part.symbols.subspan(next[i]++ * part.block.tokens, part.block.tokens), part.shift);
    }
    costs[column] = nearby(encoder, here, predicted[column]);
    chosen[column] = costs[column].best(no_prices);
  }
  // What a difference costs depends on all of them: the table that suits the free choice prices the final one.
  const std::uint8_t decay = decay_for(differences(chosen, predicted));
  if (decay == 0) return chosen;
  const auto& prices = coder_of(decay).prices;
  for (std::size_t column = 0; column < predicted.size(); ++column)
    chosen[column] = costs[column].best(std::span(prices).subspan(largest - std::size_t{predicted[column]}));
  return chosen;
}

std::vector<std::byte> encode_tables(std::span<const std::uint8_t> indices, std::span<const std::uint8_t> predicted) {
  expects(indices.size() == predicted.size() && all_below(indices, TableSet::largest_size) &&
              all_below(predicted, TableSet::largest_size),
          "encode_tables: needs a prediction for each index, all below 64");
  const auto values = differences(indices, predicted);
  const std::uint8_t decay = decay_for(values);
  std::vector<std::byte> bytes{static_cast<std::byte>(decay)};
  if (decay == 0) return bytes;
  const SymbolBlock block = indices_block(indices.size());
  const auto coded = coder_of(decay).encoder.encode(block, values, std::vector<std::uint8_t>(block.columns, 1));
  bytes.insert(bytes.end(), coded.begin(), coded.end());
  return bytes;
}

Status decode_tables(std::span<const std::byte> bytes, std::span<const std::uint8_t> predicted, std::size_t size,
                     std::span<std::uint8_t> out) {
  expects(predicted.size() == out.size(), "decode_tables: needs a prediction for each index");
  const auto damaged = [] { return fail(ErrorCode::corrupt, "indices of tables are damaged: recompute these rows"); };
  if (bytes.empty()) return fail(ErrorCode::truncated, "indices of tables are missing: recompute these rows");
  const auto decay = std::to_integer<std::uint8_t>(bytes[0]);
  bytes = bytes.subspan(1);
  const SymbolBlock block = indices_block(out.size());
  std::vector<std::int16_t> values(block.symbols());
  if (decay == 0 ? !bytes.empty() : decay > decays) return damaged();
  if (decay > 0) {
    const std::vector<std::uint8_t> all(block.columns, 1);
    if (auto status = decode_symbols(bytes, block, all, table_of(decay), values); !status) return status;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int index = i < out.size() ? predicted[i] + values[i] : 0;
    if (i >= out.size() ? values[i] != 0 : index < 0 || index >= static_cast<int>(size)) return damaged();
    if (i < out.size()) out[i] = static_cast<std::uint8_t>(index);
  }
  return {};
}

}  // namespace krul
