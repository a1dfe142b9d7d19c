#include "krul/compress/entropy/symbol_encoder.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "encode_state.hpp"

namespace krul {
namespace {

constexpr std::uint32_t lowest_state = 1U << 16;
static_assert(SymbolEncoder::out_of_reach > std::uint64_t{65536} * 44 * SymbolTable::cost_unit);

bool all_zero(std::span<const std::int16_t> column) {
  std::int16_t any = 0;
  for (const std::int16_t symbol : column) any = static_cast<std::int16_t>(any | symbol);
  return any == 0;
}

}  // namespace

SymbolEncoder::SymbolEncoder(const TableSet& set) : dense_costs_((2 * dense + 2) * row) {
  tables_.reserve(set.size() - 1);
  for (std::size_t index = 1; index < set.size(); ++index) {
    const auto& symbols = set.table(index);
    symbols_.push_back(symbols);
    tables_.emplace_back(symbols, set.alias_tables()[index - 1]);
    for (int symbol = -dense; symbol < dense; ++symbol)
      dense_costs_[static_cast<std::size_t>(symbol + dense) * row + index] =
          symbols.cost(static_cast<std::int16_t>(symbol));
  }
}

std::vector<std::byte> SymbolEncoder::encode(SymbolBlock block, std::span<const std::int16_t> symbols,
                                             std::span<const std::uint8_t> table_of_column, EntropyPath path) const {
  expects(symbols.size() == block.symbols() && table_of_column.size() == block.columns && available(path),
          "SymbolEncoder: needs the symbols of the block, an index for each column, and a path of this processor");
  for (std::size_t column = 0; column < block.columns; ++column) {
    expects(table_of_column[column] < size(), "SymbolEncoder: no table of that index");
    expects(table_of_column[column] != 0 || all_zero(symbols.subspan(column * block.tokens, block.tokens)),
            "SymbolEncoder: a column of index 0 is not zero");
  }
  detail::EncodeState state{.words = detail::BackwardWords(detail::EncodeState::step_words + block.symbols() / 8)};
  state.streams.fill(lowest_state);
  const detail::EncodeColumns work{table_of_column, tables_, block.tokens, symbols.data()};
  if (path == EntropyPath::avx512)
    detail::encode_avx512(state, work);
  else
    detail::encode_portable(state, work);

  std::vector<std::byte> bytes;
  if (block.symbols() == 0) return bytes;
  const auto words = state.words.words();
  bytes.resize(4 * block.streams() + 2 * words.size());
  std::byte* to = bytes.data();
  const auto put = [&](std::uint32_t value, unsigned count) {
    for (unsigned i = 0; i < count; ++i) *to++ = static_cast<std::byte>(value >> (8 * i));
  };
  const std::size_t even = (block.streams() + 1) / 2;
  for (std::size_t i = 0; i < even; ++i) put(state.streams[i], 4);
  for (std::size_t i = 0; i < block.streams() - even; ++i) put(state.streams[16 + i], 4);
  for (const std::uint16_t word : words) put(word, 2);
  return bytes;
}

template <std::size_t Vectors>
bool SymbolEncoder::add_dense_costs(std::span<const std::int16_t> column, std::size_t first,
                                    std::span<std::uint32_t> costs) const {
  // By the compilers' vector extension: sums stay in registers. What lies beyond the last index is added and forgotten.
  using Costs [[gnu::vector_size(4 * priced_at_once)]] = std::uint32_t;
  std::array<Costs, Vectors> sums{};
  bool far = false;
  for (const std::int16_t symbol : column) {
    const bool at_hand = symbol >= -dense && symbol < dense;
    far |= !at_hand;
    const auto* of_symbol = &dense_costs_[static_cast<std::size_t>(at_hand ? symbol + dense : 2 * dense) * row + first];
    for (std::size_t i = 0; i < Vectors; ++i) {
      Costs part;
      std::memcpy(&part, of_symbol + i * priced_at_once, sizeof part);
      sums[i] += part;
    }
  }
  std::memcpy(costs.data(), sums.data(), costs.size_bytes());
  return far;
}

void SymbolEncoder::costs(std::span<const std::int16_t> column, std::size_t first,
                          std::span<std::uint32_t> costs) const {
  expects(column.size() <= 65536 && first <= size() && costs.size() <= size() - first,
          "SymbolEncoder: needs a column of at most 2^16 symbols and indices of the set");
  if (costs.empty()) return;
  const bool zeros = all_zero(column);
  if (zeros) {
    const auto* of_zero = &dense_costs_[std::size_t{dense} * row + first];
    for (std::size_t i = 0; i < costs.size(); ++i) costs[i] = static_cast<std::uint32_t>(column.size()) * of_zero[i];
  } else if (costs.size() <= priced_at_once ? add_dense_costs<1>(column, first, costs)
                                            : add_dense_costs<row / priced_at_once>(column, first, costs)) {
    for (const std::int16_t symbol : column)
      if (symbol < -dense || symbol >= dense)
        for (std::size_t i = first == 0 ? 1 : 0; i < costs.size(); ++i)
          costs[i] += symbols_[first + i - 1].cost(symbol);
  }
  if (first == 0) costs[0] = zeros ? 0 : out_of_reach;
}

std::uint8_t SymbolEncoder::best_table(std::span<const std::int16_t> column) const {
  std::array<std::uint32_t, row> sums;
  const auto of_index = std::span(sums).first(size());
  costs(column, 0, of_index);
  return static_cast<std::uint8_t>(std::min_element(of_index.begin(), of_index.end()) - of_index.begin());
}

}  // namespace krul
