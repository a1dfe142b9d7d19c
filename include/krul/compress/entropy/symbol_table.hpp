#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/core/error.hpp"

namespace krul {

/// Family of a discretised generalised Gaussian: density ~ exp(-|x / a|^beta).
enum class TableShape : std::uint8_t {
  laplace,   ///< beta = 1
  gaussian,  ///< beta = 2
};

/// Integer frequencies of the symbols of one source: what an encoder and a decoder share.
///
/// A symbol s (an int16) is split into q = s >> shift, rounded down, and its `shift` low bits, which are coded as they
/// are. q in [-reach, reach] has a frequency of its own. Any other q is the escape, whose remainder
/// r = 2 (|q| - reach - 1) + (q < 0) follows as four bits with n = floor(log2(r + 1)) and then the n low bits of r + 1.
/// Every frequency is at least 1, so anything can be coded. All arithmetic is on integers.
///
/// @source J. Duda, arXiv:1311.2540 (what frequencies mean to rANS; second-hand); fit, escape and shift: ours
class SymbolTable {
 public:
  static constexpr unsigned precision = 14;  ///< frequencies sum to 2^14
  static constexpr std::uint32_t total = 1U << precision;
  static constexpr unsigned largest_reach = 31;  ///< 64 symbols with the escape: as many as a decoder has buckets
  static constexpr unsigned largest_shift = 10;
  static constexpr unsigned cost_unit = 1024;  ///< `cost` counts in bits / 1024

  /// @param frequencies  [2 * reach + 2]: of q = -reach .. reach, then of the escape
  /// @return corrupt unless there are 4 to 64 of them, an even number, each >= 1, with the sum `total`, and shift fits
  [[nodiscard]] static Result<SymbolTable> from_frequencies(std::span<const std::uint16_t> frequencies, unsigned shift);

  /// The table for these counts at a given reach and shift: shares in proportion, none below 1, the rest dealt out one
  /// by one to where it saves most.
  /// @param counts  [2 * reach + 2], as above; all zero means equal shares
  /// @throws PreconditionError if the number of counts or the shift does not fit
  /// @complexity O(n^2) in the number of counts
  [[nodiscard]] static SymbolTable from_counts(std::span<const std::uint64_t> counts, unsigned shift = 0);

  /// The cheapest table for a source: also chooses reach and shift.
  /// @param counts  [n]: how often the values first, first + 1, ... were seen
  /// @throws PreconditionError if a value is no int16
  [[nodiscard]] static SymbolTable fit(std::span<const std::uint64_t> counts, int first);

  /// The table of a source rounded to whole numbers.
  /// @param deviation  standard deviation before rounding, in 1 / 65536 steps; 1 .. 2^24
  /// @throws PreconditionError if the deviation is out of range
  [[nodiscard]] static SymbolTable discretised(TableShape shape, std::uint32_t deviation);

  [[nodiscard]] unsigned reach() const noexcept { return static_cast<unsigned>(frequencies_.size() / 2 - 1); }
  [[nodiscard]] unsigned shift() const noexcept { return shift_; }
  /// [2 * reach + 2]: of q = -reach .. reach, then of the escape
  [[nodiscard]] std::span<const std::uint16_t> frequencies() const noexcept { return frequencies_; }

  /// What coding `symbol` takes, in bits / 1024, to the nearest.
  [[nodiscard]] std::uint32_t cost(std::int16_t symbol) const noexcept;

  /// Appends reach, shift and frequencies: 2 bytes, and 1 or 2 for each q.
  void serialize(std::vector<std::byte>& to) const;

  /// Reads one table from the front of `from` and removes it there.
  /// @return truncated or corrupt if these bytes are no table
  [[nodiscard]] static Result<SymbolTable> parse(std::span<const std::byte>& from);

  friend bool operator==(const SymbolTable&, const SymbolTable&) = default;

 private:
  SymbolTable(std::vector<std::uint16_t> frequencies, unsigned shift)
      : frequencies_(std::move(frequencies)), shift_(static_cast<std::uint16_t>(shift)) {}

  std::vector<std::uint16_t> frequencies_;
  std::uint16_t shift_;
};

}  // namespace krul
