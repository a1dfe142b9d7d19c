#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/compress/entropy/detail/alias_table.hpp"
#include "krul/compress/entropy/detail/decode_state.hpp"
#include "krul/cuda/kernel_block.hpp"
#include "krul/cuda/kernels/device_bits.hpp"

namespace krul::cuda {

/// One of the blocks of symbols that share their streams.
struct SymbolRun {
  std::uint32_t columns, tokens;  ///< C, T
  const std::uint8_t* tables;     ///< [C] indices; 0: a column of zeros
  std::int16_t* symbols;          ///< [C, T], written
};

/// The coded symbols of one chunk: SymbolBlock says how they lie.
struct SymbolStreams {
  const std::byte* bytes;
  std::uint32_t size;
  std::uint32_t streams;  ///< of the run that wants most
  const SymbolRun* runs;
  std::uint32_t run_count;
};

/// Decodes the symbols of chunks, a warp a chunk and a lane a stream: a warp takes its words in the order of its lanes,
/// which is the order in which they lie. What follows an escape is taken lane by lane.
///
/// The symbols and the outcome are those of SymbolDecoder, of sound bytes and of others; no byte beyond the end is
/// read. Launched with a thread for each of the chunks' streams, 32 of them a chunk.
/// @complexity a step of 32 symbols takes two loads from a table, one word each, and two votes
/// @source ours; a warp for 32 interleaved streams: F. Giesen, arXiv:1402.3392 (second-hand)
struct DecodeSymbols {
  const krul::detail::AliasTable* tables;
  std::uint32_t table_count;
  const SymbolStreams* chunks;
  std::uint32_t chunk_count;
  krul::detail::DecodeOutcome* outcomes;  ///< [chunks], written

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    const unsigned chunk = block.index() * (block.threads() / warp_lanes) + warp_of(block);
    if (chunk >= chunk_count) return;  // a whole warp
    const auto outcome = Decoder<Block>(block, chunks[chunk]).run(tables, table_count);
    if (lane_of(block) == 0) outcomes[chunk] = outcome;
  }

 private:
  template <KernelBlock Block>
  class Decoder {
   public:
    KRUL_DEVICE Decoder(Block& block, const SymbolStreams& chunk)
        : block_(block), chunk_(chunk), lane_(lane_of(block)), token_(lane_ < 16 ? 2 * lane_ : 2 * (lane_ - 16) + 1) {}

    KRUL_DEVICE krul::detail::DecodeOutcome run(const krul::detail::AliasTable* tables, std::uint32_t table_count) {
      using enum krul::detail::DecodeOutcome;
      if (chunk_.size < 4 * chunk_.streams) return truncated;
      read_state();
      at_ = 4 * chunk_.streams;
      if (block_.ballot(state_ < lowest_state) != 0) return bad_symbol;
      for (std::uint32_t i = 0; i < chunk_.run_count; ++i) {
        const SymbolRun& run = chunk_.runs[i];
        for (std::uint32_t column = 0; column < run.columns; ++column) {
          const std::uint32_t table = run.tables[column];
          if (table > table_count) return bad_symbol;
          const bool enough = decode_column(table == 0 ? nullptr : tables + (table - 1), run.tokens,
                                            run.symbols + std::size_t{column} * run.tokens);
          if (!enough) return truncated;
        }
        if (block_.ballot(bad_) != 0) return bad_symbol;
      }
      if (at_ > chunk_.size) return truncated;
      const bool ends = block_.ballot(state_ != lowest_state) == 0 && at_ == chunk_.size;
      return ends ? sound : bad_symbol;
    }

   private:
    static constexpr std::uint32_t lowest_state = 1U << 16;

    KRUL_DEVICE void read_state() {
      // The even streams come first, then the odd ones, as far as they exist.
      const std::uint32_t even = (chunk_.streams + 1) / 2;
      const std::uint32_t place = lane_ < 16 ? lane_ : even + lane_ - 16;
      const bool exists = lane_ < 16 ? lane_ < even : lane_ - 16 < chunk_.streams - even;
      if (!exists) return;
      const std::byte* const from = chunk_.bytes + 4 * place;
      state_ = two_bytes(from) | two_bytes(from + 2) << 16;
    }

    KRUL_DEVICE std::uint32_t word_at(std::uint32_t at) const {
      return at + 2 <= chunk_.size ? two_bytes(chunk_.bytes + at) : 0;
    }
    /// At most one word for each lane that is low, in the order of lanes.
    KRUL_DEVICE void take_words(bool active) {
      const bool low = active && state_ < lowest_state;
      const std::uint32_t takers = block_.ballot(low);
      const std::uint32_t before = count_bits(takers & ((1U << lane_) - 1));
      if (low) state_ = state_ << 16 | word_at(at_ + 2 * before);
      at_ += 2 * count_bits(takers);
    }
    /// The next bits of this lane alone.
    KRUL_DEVICE std::uint32_t take_bits(unsigned count) {
      const std::uint32_t bits = state_ & ((1U << count) - 1);
      state_ >>= count;
      if (state_ < lowest_state) {
        state_ = state_ << 16 | word_at(at_);
        at_ += 2;
      }
      return bits;
    }

    /// @return false if the bytes ended before a step
    KRUL_DEVICE bool decode_column(const krul::detail::AliasTable* table, std::uint32_t tokens, std::int16_t* symbols) {
      for (std::uint32_t first = 0; first < tokens; first += warp_lanes) {
        if (table != nullptr && at_ > chunk_.size) return false;
        const bool active = first + token_ < tokens;
        std::int32_t symbol = 0;
        if (table != nullptr) symbol = step(*table, active);
        if (active) symbols[first + token_] = static_cast<std::int16_t>(symbol);
      }
      return true;
    }

    KRUL_DEVICE std::int32_t step(const krul::detail::AliasTable& table, bool active) {
      using Table = krul::detail::AliasTable;
      std::int32_t symbol = 0;
      bool escaped = false;
      if (active) {
        const std::uint32_t slot = state_ & (SymbolTable::total - 1), bucket = slot >> Table::bucket_bits;
        const bool own = slot < table.divider.data()[bucket];
        const std::uint32_t found = own ? bucket : table.alias.data()[bucket];
        const std::uint32_t frequency = own ? table.own_frequency.data()[bucket] : table.alias_frequency.data()[bucket];
        const std::uint32_t offset =
            (slot - (own ? bucket << Table::bucket_bits : table.bias.data()[bucket])) & 0xffffU;
        state_ = frequency * (state_ >> SymbolTable::precision) + offset;
        symbol = static_cast<std::int32_t>(found) - static_cast<std::int32_t>(table.reach);
        escaped = symbol > static_cast<std::int32_t>(table.reach);
      }
      take_words(active);
      if (table.shift > 0) {
        if (active) {
          symbol = static_cast<std::int32_t>(static_cast<std::uint32_t>(symbol) << table.shift |
                                             (state_ & ((1U << table.shift) - 1)));
          state_ >>= table.shift;
        }
        take_words(active);
      }
      for (std::uint32_t escapes = block_.ballot(escaped); escapes != 0; escapes &= escapes - 1) {
        const unsigned taker = lowest_bit(escapes);
        if (lane_ == taker) symbol = take_escape(table, symbol);
        at_ = block_.shuffle(at_, taker);
      }
      return symbol;
    }

    /// What follows an escape, in the place of the symbol.
    KRUL_DEVICE std::int32_t take_escape(const krul::detail::AliasTable& table, std::int32_t symbol) {
      const std::uint32_t count = take_bits(4);
      const std::uint32_t remainder = (1U << count) + take_bits(count) - 1;
      const auto size = static_cast<std::int32_t>(table.reach + 1U + (remainder >> 1));
      const std::int32_t q = (remainder & 1) != 0 ? -size : size;
      const auto low = static_cast<std::int32_t>(static_cast<std::uint32_t>(symbol) & ((1U << table.shift) - 1));
      const std::int64_t whole = (std::int64_t{q} << table.shift) + low;
      bad_ = bad_ || whole != std::int64_t{static_cast<std::int16_t>(whole)};
      return static_cast<std::int32_t>(static_cast<std::int16_t>(whole));
    }

    Block& block_;
    const SymbolStreams& chunk_;
    unsigned lane_, token_;
    std::uint32_t state_ = lowest_state;  // streams that do not exist stay as one ends
    std::uint32_t at_ = 0;                // the same in all lanes
    bool bad_ = false;
  };
};

}  // namespace krul::cuda
