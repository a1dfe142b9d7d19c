#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/tokens.hpp"

namespace krul {

/// Rank of a merge: the lower, the earlier it is applied.
using MergeRank = std::uint32_t;
inline constexpr MergeRank no_merge = std::numeric_limits<MergeRank>::max();

/// Which pairs of neighbouring tokens merge, and how early: a hash table with linear probing that is at most half full.
class MergeTable {
 public:
  MergeTable() : MergeTable(0) {}

  /// Room for `merges` pairs.
  explicit MergeTable(std::size_t merges)
      : slots_(std::bit_ceil(2 * merges + 2)), shift_(64 - std::countr_zero(slots_.size())), room_(merges) {}

  /// Keeps the rank of a pair that is there already.
  /// @throws PreconditionError if more pairs are inserted than there is room for
  void insert(Token left, Token right, MergeRank rank) {
    Slot& slot = slots_[find_slot(left, right)];
    if (slot.rank != no_merge) return;
    expects(room_ > 0, "MergeTable::insert: the table is full");
    --room_;
    slot = {key(left, right), rank};
  }

  /// no_merge if the pair does not merge. Expected constant time.
  [[nodiscard]] MergeRank rank(Token left, Token right) const noexcept { return slots_[find_slot(left, right)].rank; }

 private:
  struct Slot {
    std::uint64_t key = 0;
    MergeRank rank = no_merge;
  };

  static std::uint64_t key(Token left, Token right) noexcept {
    return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32) | static_cast<std::uint32_t>(right);
  }

  /// Fibonacci hashing: the high bits of the product depend on all bits of the key.
  std::size_t find_slot(Token left, Token right) const noexcept {
    const std::uint64_t wanted = key(left, right);
    std::size_t at = (wanted * 0x9E3779B97F4A7C15U) >> shift_;
    while (slots_[at].rank != no_merge && slots_[at].key != wanted) at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  std::vector<Slot> slots_;
  int shift_;
  std::size_t room_;
};

}  // namespace krul
