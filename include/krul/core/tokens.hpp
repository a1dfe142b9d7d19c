#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/core/error.hpp"

namespace krul {

using Token = std::int32_t;
using Position = std::uint32_t;  ///< index of a token in its conversation, from 0

/// Half-open run of token positions.
struct TokenRange {
  std::size_t begin = 0;
  std::size_t end = 0;
  [[nodiscard]] constexpr std::size_t size() const noexcept { return end - begin; }
  [[nodiscard]] constexpr bool empty() const noexcept { return end <= begin; }
  friend constexpr bool operator==(const TokenRange&, const TokenRange&) = default;
};

/// Half-open run of rows of a batch.
struct RowRange {
  std::size_t begin = 0;
  std::size_t end = 0;
  [[nodiscard]] constexpr std::size_t size() const noexcept { return end - begin; }
  friend constexpr bool operator==(const RowRange&, const RowRange&) = default;
};

/// Which token positions are there: sorted, disjoint, non-touching ranges.
/// Every operation is linear in the number of ranges, which stays at a handful.
class TokenSet {
 public:
  /// @post contains(range)
  void insert(TokenRange range) {
    if (range.empty()) return;
    std::vector<TokenRange> merged;
    for (const auto& other : ranges_) {
      if (other.end < range.begin || other.begin > range.end) {
        merged.push_back(other);
      } else {
        range = {std::min(range.begin, other.begin), std::max(range.end, other.end)};
      }
    }
    merged.insert(std::upper_bound(merged.begin(), merged.end(), range,
                                   [](const TokenRange& a, const TokenRange& b) { return a.begin < b.begin; }),
                  range);
    ranges_ = std::move(merged);
  }

  /// Forgets every position from `length` on.
  void truncate(std::size_t length) {
    std::erase_if(ranges_, [&](const TokenRange& range) { return range.begin >= length; });
    if (!ranges_.empty()) ranges_.back().end = std::min(ranges_.back().end, length);
  }

  [[nodiscard]] bool contains(TokenRange range) const noexcept {
    if (range.empty()) return true;
    return std::any_of(ranges_.begin(), ranges_.end(),
                       [&](const TokenRange& other) { return other.begin <= range.begin && range.end <= other.end; });
  }

  /// The parts of `range` that are not there, in order.
  [[nodiscard]] std::vector<TokenRange> missing(TokenRange range) const {
    std::vector<TokenRange> gaps;
    std::size_t at = range.begin;
    for (const auto& other : ranges_) {
      if (other.end <= at) continue;
      if (other.begin >= range.end) break;
      if (other.begin > at) gaps.push_back({at, other.begin});
      at = other.end;
    }
    if (at < range.end) gaps.push_back({at, range.end});
    return gaps;
  }

  [[nodiscard]] const std::vector<TokenRange>& ranges() const noexcept { return ranges_; }

 private:
  std::vector<TokenRange> ranges_;
};

/// How many leading tokens two texts share.
[[nodiscard]] inline std::size_t common_prefix(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace krul
