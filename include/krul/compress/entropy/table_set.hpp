#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/compress/entropy/detail/alias_table.hpp"
#include "krul/compress/entropy/symbol_table.hpp"
#include "krul/core/error.hpp"

namespace krul {

/// The tables that a column of symbols may choose from, by an index of one byte.
///
/// Index 0 is no table: a column of zeros, for which nothing is coded. Index i >= 1 is the i-th table. They should be
/// ordered by scale, since indices are coded as differences. Immutable; about 50 kB with 63 tables.
class TableSet {
 public:
  static constexpr std::size_t largest_size = 64;  ///< index 0 included

  /// @throws PreconditionError unless there are 1 to 63 tables
  explicit TableSet(std::vector<SymbolTable> tables);

  /// 31 standard deviations, 2^-4 to 2^7.25 steps in ratios of 2^(3/8), each as Laplace and as Gaussian. Needs no
  /// calibration and is the same everywhere. Takes milliseconds: make it once.
  [[nodiscard]] static TableSet universal();

  [[nodiscard]] std::size_t size() const noexcept { return tables_.size() + 1; }  ///< number of indices
  /// @pre 1 <= index < size()
  [[nodiscard]] const SymbolTable& table(std::size_t index) const { return tables_.at(index - 1); }

  /// One byte with the number of tables, and the tables.
  [[nodiscard]] std::vector<std::byte> serialize() const;

  /// Reads a set from the front of `from` and removes it there. At most 63 tables are allocated.
  /// @return truncated or corrupt if these bytes are no set
  [[nodiscard]] static Result<TableSet> parse(std::span<const std::byte>& from);

  /// For the decoder: [size() - 1], by index - 1.
  [[nodiscard]] std::span<const detail::AliasTable> alias_tables() const noexcept { return alias_; }

  friend bool operator==(const TableSet& a, const TableSet& b) { return a.tables_ == b.tables_; }

 private:
  std::vector<SymbolTable> tables_;
  std::vector<detail::AliasTable> alias_;
};

}  // namespace krul
