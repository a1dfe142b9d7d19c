#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/compress/entropy/detail/encode_table.hpp"
#include "krul/compress/entropy/symbol_block.hpp"
#include "krul/compress/entropy/table_set.hpp"
#include "krul/core/processor.hpp"

namespace krul {

/// A block, its symbols, and the table of each column.
struct TabledSymbols {
  SymbolBlock block;
  std::span<const std::int16_t> symbols;          ///< [C, T]: a column after another
  std::span<const std::uint8_t> table_of_column;  ///< [C], indices into the set; 0 for columns of zeros
};

/// Codes blocks of symbols, and says what they would cost. Made once from a TableSet: 2 MB with 63 tables.
class SymbolEncoder {
 public:
  explicit SymbolEncoder(const TableSet& tables);

  /// @param symbols          [C, T]: a column after another
  /// @param table_of_column  [C], indices into the set; 0 for columns of zeros
  /// @return the block's bytes, which only decode with the same block, tables and indices
  /// @throws PreconditionError if a span's length does not fit, an index is not in the set, or a column of index 0
  ///         has another symbol than 0
  [[nodiscard]] std::vector<std::byte> encode(SymbolBlock block, std::span<const std::int16_t> symbols,
                                              std::span<const std::uint8_t> table_of_column,
                                              InstructionLevel level = instruction_level()) const;
  /// The same of several blocks, one after the other.
  [[nodiscard]] std::vector<std::byte> encode(std::span<const TabledSymbols> blocks,
                                              InstructionLevel level = instruction_level()) const;

  /// How many neighbouring indices are priced at once: more take four times as long.
  static constexpr std::size_t priced_at_once = 16;

  /// More than a column of 2^16 symbols takes with any table: below 44 bits a symbol.
  static constexpr std::uint32_t out_of_reach = 0xf0000000U;

  /// What a column would take with the indices first, first + 1, ..., in bits / 1024; index 0 is priced out_of_reach if
  /// not all are zero.
  /// @param costs  [n], overwritten
  /// @throws PreconditionError if the column has more than 2^16 symbols or an index is not in the set
  void costs(std::span<const std::int16_t> column, std::size_t first, std::span<std::uint32_t> costs) const;

  /// The index with which a column takes fewest bits; of equal ones the lowest.
  [[nodiscard]] std::uint8_t best_table(std::span<const std::int16_t> column) const;

  [[nodiscard]] std::size_t size() const noexcept { return tables_.size() + 1; }  ///< number of indices
  /// The largest size of a symbol that index >= 1 codes without an escape.
  [[nodiscard]] int reach(std::size_t index) const { return tables_.at(index - 1).reach << tables_[index - 1].shift; }

 private:
  static constexpr int dense = 128;                           ///< symbols in [-dense, dense) have their costs at hand
  static constexpr std::size_t row = TableSet::largest_size;  ///< costs of one symbol: one for each index

  /// Of symbols that are at hand; returns whether there are others.
  bool add_dense_costs(std::span<const std::int16_t> column, std::size_t first, std::span<std::uint32_t> costs) const;

  std::vector<SymbolTable> symbols_;         ///< [size() - 1]
  std::vector<detail::EncodeTable> tables_;  ///< [size() - 1]
  std::vector<std::uint32_t> dense_costs_;   ///< [2 * dense + 2, row]; the last two rows are zeros
};

}  // namespace krul
