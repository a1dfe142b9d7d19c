#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "krul/compress/entropy/detail/decode_state.hpp"
#include "krul/compress/entropy/symbol_block.hpp"
#include "krul/compress/entropy/table_set.hpp"
#include "krul/core/error.hpp"
#include "krul/core/processor.hpp"

namespace krul {

namespace detail {
struct EntropyLoops;
}

/// Decodes one block a few columns at a time, so that a caller can turn them into what it needs (floats times a step,
/// pairs of bf16) while they are in the first-level cache. Keeps views of bytes, tables and indices.
class SymbolDecoder {
 public:
  /// @param bytes            what SymbolEncoder::encode returned; may be anything
  /// @param table_of_column  [C]; may be anything
  /// @return truncated if there are not even states, corrupt if an index is not in the set
  /// @throws PreconditionError if the length of table_of_column is not C
  [[nodiscard]] static Result<SymbolDecoder> open(std::span<const std::byte> bytes, SymbolBlock block,
                                                  std::span<const std::uint8_t> table_of_column, const TableSet& tables,
                                                  InstructionLevel level = instruction_level());
  /// The same without a first block: begin_block follows.
  /// @param streams  of the block that wants most
  [[nodiscard]] static Result<SymbolDecoder> open(std::span<const std::byte> bytes, std::size_t streams,
                                                  const TableSet& tables, InstructionLevel level = instruction_level());

  /// Goes on with the next of several blocks.
  /// @param table_of_column  [C]; may be anything
  /// @return corrupt if an index is not in the set
  /// @throws PreconditionError if columns of the block before are left, the length of table_of_column is not C, or the
  ///         block wants more streams than there are
  [[nodiscard]] Status begin_block(SymbolBlock block, std::span<const std::uint8_t> table_of_column);

  /// Decodes the next out.size() / T columns.
  /// @param out  [columns, T]
  /// @return corrupt or truncated if no encoder wrote these bytes; then `out` holds no meaning, and the decoder is done
  /// @throws PreconditionError if out is not whole columns, or more than are left
  [[nodiscard]] Status read(std::span<std::int16_t> out);

  /// After the last column: were these all the bytes, and do all streams end where they began?
  /// @throws PreconditionError if columns are left
  [[nodiscard]] Status finish() const;

 private:
  SymbolDecoder() = default;

  detail::DecodeState state_;
  std::span<const std::uint8_t> table_of_column_;  ///< of the columns that are left
  std::span<const detail::AliasTable> tables_;
  std::size_t tokens_ = 0, streams_ = 0;
  const detail::EntropyLoops* loops_ = nullptr;
};

/// All columns at once.
/// @param out  [C, T]
/// @return as SymbolDecoder::open, read and finish
/// @throws PreconditionError if a span's length does not fit
[[nodiscard]] Status decode_symbols(std::span<const std::byte> bytes, SymbolBlock block,
                                    std::span<const std::uint8_t> table_of_column, const TableSet& tables,
                                    std::span<std::int16_t> out);

}  // namespace krul
