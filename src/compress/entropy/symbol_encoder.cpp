#include "krul/compress/entropy/symbol_encoder.hpp"

#include <algorithm>
#include <array>

#include "entropy_loops.hpp"

namespace krul {
namespace {

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
                                             std::span<const std::uint8_t> table_of_column,
                                             InstructionLevel level) const {
  const TabledSymbols all{block, symbols, table_of_column};
  return encode({&all, 1}, level);
}

std::vector<std::byte> SymbolEncoder::encode(std::span<const TabledSymbols> blocks, InstructionLevel level) const {
  std::size_t streams = 0, symbols = 0;
  for (const TabledSymbols& one : blocks) {
    expects(one.symbols.size() == one.block.symbols() && one.table_of_column.size() == one.block.columns,
            "SymbolEncoder: needs the symbols of the block, and an index for each column");
    for (std::size_t column = 0; column < one.block.columns; ++column) {
      expects(one.table_of_column[column] < size(), "SymbolEncoder: no table of that index");
      expects(one.table_of_column[column] != 0 ||
                  all_zero(one.symbols.subspan(column * one.block.tokens, one.block.tokens)),
              "SymbolEncoder: a column of index 0 is not zero");
    }
    streams = std::max(streams, one.block.streams());
    symbols += one.block.symbols();
  }
  detail::EncodeState state{.words = detail::BackwardWords(detail::EncodeState::step_words + symbols / 8)};
  state.streams.fill(detail::lowest_state);
  const auto& loops = detail::entropy_loops(level);
  constexpr std::size_t step = detail::EncodeState::step;
  for (std::size_t which = blocks.size(); which-- > 0;) {
    const TabledSymbols& one = blocks[which];
    for (std::size_t column = one.block.columns; column-- > 0;) {
      if (one.table_of_column[column] == 0) continue;
      state.words.reserve((one.block.tokens + step - 1) / step * detail::EncodeState::step_words);
      loops.encode_column(state, tables_[one.table_of_column[column] - 1U],
                          {one.symbols.data() + column * one.block.tokens, one.block.tokens});
    }
  }

  std::vector<std::byte> bytes;
  if (streams == 0) return bytes;
  const auto words = state.words.words();
  bytes.resize(4 * streams + 2 * words.size());
  std::byte* to = bytes.data();
  const auto put = [&](std::uint32_t value, unsigned count) {
    for (unsigned i = 0; i < count; ++i) *to++ = static_cast<std::byte>(value >> (8 * i));
  };
  const std::size_t even = (streams + 1) / 2;
  for (std::size_t i = 0; i < even; ++i) put(state.streams[i], 4);
  for (std::size_t i = 0; i < streams - even; ++i) put(state.streams[16 + i], 4);
  for (const std::uint16_t word : words) put(word, 2);
  return bytes;
}

bool SymbolEncoder::add_dense_costs(std::span<const std::int16_t> column, std::size_t first,
                                    std::span<std::uint32_t> costs) const {
  std::array<std::uint32_t, row> sums;
  const detail::ColumnCosts of_set{dense_costs_.data() + first, row, dense,
                                   costs.size() <= priced_at_once ? 1 : row / priced_at_once};
  const bool far =
      detail::entropy_loops(instruction_level()).add_costs(of_set, {column.data(), column.size()}, sums.data());
  std::copy_n(sums.begin(), costs.size(), costs.begin());
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
  } else if (add_dense_costs(column, first, costs)) {
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
