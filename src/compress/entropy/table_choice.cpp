#include "krul/compress/entropy/table_choice.hpp"

#include <algorithm>
#include <array>
#include <numeric>

#include "krul/compress/entropy/symbol_decoder.hpp"

namespace krul {
namespace {

constexpr std::size_t tokens = 4;  // few streams: their states are most of what a good prediction leaves

constexpr std::uint8_t decays = 8;

/// Two-sided geometric: each difference is decay / 8 times as frequent as the next smaller one, and 8 stands for 15
/// / 16. Named by a byte in what is stored; 0 there means that all differences are zero.
SymbolTable difference_table(std::uint8_t decay) {
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
  return SymbolTable::from_counts(counts);
}

SymbolBlock block_of(std::size_t count) {
  return {(count + tokens - 1) / tokens, tokens};
}

/// Differences, filled up with zeros to a whole block.
std::vector<std::int16_t> differences(std::span<const std::uint8_t> indices, std::span<const std::uint8_t> predicted) {
  std::vector<std::int16_t> result(block_of(indices.size()).symbols());
  for (std::size_t i = 0; i < indices.size(); ++i) result[i] = static_cast<std::int16_t>(indices[i] - predicted[i]);
  return result;
}

constexpr int largest = TableSet::largest_size;
using Prices = std::array<std::uint32_t, 2 * largest>;  ///< of differences from -largest up, in bits / 1024

Prices prices_of(const SymbolTable& table) {
  Prices prices;
  for (int i = 0; i < 2 * largest; ++i)
    prices[static_cast<std::size_t>(i)] = table.cost(static_cast<std::int16_t>(i - largest));
  return prices;
}

/// The decay for all differences together.
std::uint8_t decay_for(std::span<const std::int16_t> values) {
  std::array<std::uint64_t, 2 * largest> seen{};
  for (const std::int16_t value : values) ++seen[static_cast<std::size_t>(value + largest)];
  if (seen[largest] == values.size()) return 0;
  std::uint8_t best = 0;
  std::uint64_t least = 0;
  for (std::uint8_t decay = 1; decay <= decays; ++decay) {
    const Prices prices = prices_of(difference_table(decay));
    const auto sum = std::inner_product(seen.begin(), seen.end(), prices.begin(), std::uint64_t{0});
    if (best == 0 || sum < least) best = decay, least = sum;
  }
  return best;
}

bool all_below(std::span<const std::uint8_t> indices, std::size_t size) {
  return std::all_of(indices.begin(), indices.end(), [&](std::uint8_t index) { return index < size; });
}

}  // namespace

std::vector<std::uint8_t> choose_tables(const SymbolEncoder& encoder, SymbolBlock block,
                                        std::span<const std::int16_t> symbols,
                                        std::span<const std::uint8_t> predicted) {
  const std::size_t size = encoder.size();
  expects(symbols.size() == block.symbols() && predicted.size() == block.columns && all_below(predicted, size),
          "choose_tables: needs the symbols of the block and a prediction from the set for each column");
  std::vector<std::uint32_t> costs(block.columns * size);
  std::vector<std::uint8_t> chosen(block.columns);
  const auto of_column = [&](std::size_t column) { return std::span(costs).subspan(column * size, size); };
  for (std::size_t column = 0; column < block.columns; ++column) {
    const auto of_index = of_column(column);
    encoder.costs(symbols.subspan(column * block.tokens, block.tokens), of_index);
    chosen[column] = static_cast<std::uint8_t>(std::min_element(of_index.begin(), of_index.end()) - of_index.begin());
  }
  // What a difference costs depends on all of them: the table that suits the free choice prices the final one.
  const std::uint8_t decay = decay_for(differences(chosen, predicted));
  if (decay == 0) return chosen;
  const Prices price = prices_of(difference_table(decay));
  for (std::size_t column = 0; column < block.columns; ++column) {
    const auto of_index = of_column(column);
    const std::size_t zero = largest - std::size_t{predicted[column]};
    std::size_t best = 0;
    for (std::size_t i = 1; i < size; ++i)
      if (of_index[i] + price[zero + i] < of_index[best] + price[zero + best]) best = i;
    chosen[column] = static_cast<std::uint8_t>(best);
  }
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
  const SymbolBlock block = block_of(indices.size());
  const SymbolEncoder encoder(TableSet({difference_table(decay)}));
  const auto coded = encoder.encode(block, values, std::vector<std::uint8_t>(block.columns, 1));
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
  const SymbolBlock block = block_of(out.size());
  std::vector<std::int16_t> values(block.symbols());
  if (decay == 0 ? !bytes.empty() : decay > decays) return damaged();
  if (decay > 0) {
    const TableSet tables({difference_table(decay)});
    const std::vector<std::uint8_t> all(block.columns, 1);
    if (auto status = decode_symbols(bytes, block, all, tables, values); !status) return status;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int index = i < out.size() ? predicted[i] + values[i] : 0;
    if (i >= out.size() ? values[i] != 0 : index < 0 || index >= static_cast<int>(size)) return damaged();
    if (i < out.size()) out[i] = static_cast<std::uint8_t>(index);
  }
  return {};
}

}  // namespace krul
