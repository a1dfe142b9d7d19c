#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/compress/entropy/symbol_block.hpp"
#include "krul/compress/entropy/table_set.hpp"

namespace krul {

/// Codes blocks of symbols, and says what they would cost. Made once from a TableSet: 2 MB with 63 tables.
class SymbolEncoder {
 public:
  explicit SymbolEncoder(const TableSet& tables);

  /// @param symbols          [C, T]: a column after another
  /// @param table_of_column  [C], indices into the set; 0 for columns of zeros
  /// @return the block's bytes, which only decode with the same block, tables and indices
  /// @throws PreconditionError if a span's length does not fit, an index is not in the set, or a column of index 0 has
  ///         another symbol than 0
  [[nodiscard]] std::vector<std::byte> encode(SymbolBlock block, std::span<const std::int16_t> symbols,
                                              std::span<const std::uint8_t> table_of_column) const;

  /// What a column would take with each index, in bits / 1024; index 0 is priced out of reach if not all are zero.
  /// @param costs  [size()], overwritten
  /// @throws PreconditionError if the column has more than 2^16 symbols or the length of costs does not fit
  void costs(std::span<const std::int16_t> column, std::span<std::uint32_t> costs) const;

  /// The index with which a column takes fewest bits; of equal ones the lowest.
  [[nodiscard]] std::uint8_t best_table(std::span<const std::int16_t> column) const;

  [[nodiscard]] std::size_t size() const noexcept { return tables_.size() + 1; }  ///< number of indices

 private:
  /// What a push of symbol i onto a state needs.
  struct Table {
    SymbolTable symbols;
    std::vector<std::uint16_t> begin;    ///< [n]: where the slots of symbol i begin in `slots`
    std::vector<std::uint64_t> inverse;  ///< [n]: of the frequency of symbol i
    std::vector<std::uint16_t> slots;    ///< [2^14]: slot of each offset, symbol after symbol
  };
  static constexpr int dense = 128;                           ///< symbols in [-dense, dense) have their costs at hand
  static constexpr std::size_t row = TableSet::largest_size;  ///< costs of one symbol: one for each index

  std::vector<Table> tables_;               ///< [size() - 1]
  std::vector<std::uint32_t> dense_costs_;  ///< [2 * dense + 1, row]; the last row is zeros
};

}  // namespace krul
