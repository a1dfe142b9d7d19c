#include "krul/compress/entropy/symbol_table.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include "fixed_point.hpp"

namespace krul {
namespace {

constexpr std::uint32_t total = SymbolTable::total;

/// What follows an escape of remainder r, in bits.
unsigned escape_bits(std::uint64_t remainder) {
  return 4 + static_cast<unsigned>(std::bit_width(remainder + 1)) - 1;
}

std::uint64_t remainder_of(int q, int reach) {
  return 2 * static_cast<std::uint64_t>(std::abs(q) - reach - 1) + (q < 0 ? 1 : 0);
}

std::uint32_t bits_q16(std::uint64_t frequency) {
  return (SymbolTable::precision << 16) - detail::log2_q16(frequency);
}

/// Counts small enough that products with frequencies fit 64 bits. What was seen stays seen.
std::vector<std::uint64_t> bounded(std::span<const std::uint64_t> counts) {
  constexpr std::uint64_t most = std::uint64_t{1} << 46;
  const auto largest = counts.empty() ? 0 : *std::max_element(counts.begin(), counts.end());
  const std::uint64_t limit = most / std::max<std::size_t>(counts.size(), 1);
  const std::uint64_t divisor = largest / limit + 1;
  std::vector<std::uint64_t> result(counts.begin(), counts.end());
  for (auto& count : result) count = count / divisor + (count % divisor != 0 ? 1 : 0);
  return result;
}

/// Counts of q = first_q, first_q + 1, ... for counts of first, first + 1, ...
struct Folded {
  std::vector<std::uint64_t> counts;
  int first;
};

Folded fold(std::span<const std::uint64_t> counts, int first, unsigned shift) {
  Folded folded{{}, first >> shift};
  const int last = first + static_cast<int>(counts.size()) - 1;
  folded.counts.resize(static_cast<std::size_t>((last >> shift) - folded.first + 1));
  for (std::size_t i = 0; i < counts.size(); ++i)
    folded.counts[static_cast<std::size_t>(((first + static_cast<int>(i)) >> shift) - folded.first)] += counts[i];
  return folded;
}

/// Counts as from_counts wants them.
std::vector<std::uint64_t> within(const Folded& folded, int reach) {
  std::vector<std::uint64_t> counts(2 * static_cast<std::size_t>(reach) + 2);
  for (std::size_t i = 0; i < folded.counts.size(); ++i) {
    const int q = folded.first + static_cast<int>(i);
    counts[std::abs(q) <= reach ? static_cast<std::size_t>(q + reach) : counts.size() - 1] += folded.counts[i];
  }
  return counts;
}

/// About what a source would take, in average bits / 65536 a symbol.
std::uint64_t estimate(const Folded& folded, int reach, unsigned shift, std::uint64_t sum) {
  const auto counts = within(folded, reach);
  const std::uint64_t shared = total - counts.size();  // every symbol is given one
  std::uint64_t cost = 0;
  for (const auto count : counts) {
    const std::uint64_t share = count * shared / sum;
    cost += share * bits_q16(share + 1);
  }
  std::uint64_t escaped = 0;  // bits
  for (std::size_t i = 0; i < folded.counts.size(); ++i)
    if (const int q = folded.first + static_cast<int>(i); std::abs(q) > reach)
      escaped += folded.counts[i] * escape_bits(remainder_of(q, reach));
  return cost / shared + (escaped * 1024 / sum << 6) + (std::uint64_t{shift} << 16);
}

}  // namespace

Result<SymbolTable> SymbolTable::from_frequencies(std::span<const std::uint16_t> frequencies, unsigned shift) {
  const std::size_t count = frequencies.size();
  const bool fits = count >= 4 && count <= 2 * largest_reach + 2 && count % 2 == 0 && shift <= largest_shift;
  if (!fits || std::find(frequencies.begin(), frequencies.end(), 0) != frequencies.end() ||
      std::accumulate(frequencies.begin(), frequencies.end(), 0U) != total)
    return fail(ErrorCode::corrupt, "frequencies are no symbol table: fetch or calibrate the tables again");
  return SymbolTable({frequencies.begin(), frequencies.end()}, shift);
}

SymbolTable SymbolTable::from_counts(std::span<const std::uint64_t> given, unsigned shift) {
  expects(given.size() >= 4 && given.size() <= 2 * largest_reach + 2 && given.size() % 2 == 0 && shift <= largest_shift,
          "SymbolTable: needs 2 * reach + 2 counts with a reach of 1 to 31, and a shift of at most 10");
  auto counts = bounded(given);
  auto sum = std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
  if (sum == 0) {
    std::fill(counts.begin(), counts.end(), 1);
    sum = counts.size();
  }
  std::vector<std::uint16_t> shares;
  for (const auto count : counts)
    shares.push_back(static_cast<std::uint16_t>(std::max<std::uint64_t>(count * total / sum, 1)));
  // log2((f + 1) / f) is nearly 2 / (2 f + 1): the order of savings by integers alone.
  const auto saves_more = [&](std::size_t a, std::size_t b, int change) {
    const auto gap = [&](std::size_t i) { return static_cast<std::uint64_t>(2 * shares[i] + change); };
    return counts[a] * gap(b) > counts[b] * gap(a);
  };
  for (auto held = std::accumulate(shares.begin(), shares.end(), 0U); held != total;) {
    std::size_t best = shares.size();
    if (held < total) {
      for (std::size_t i = 0; i < shares.size(); ++i)
        if (best == shares.size() || saves_more(i, best, +1)) best = i;
      ++shares[best], ++held;
    } else {
      for (std::size_t i = 0; i < shares.size(); ++i)
        if (shares[i] > 1 && (best == shares.size() || saves_more(best, i, -1))) best = i;
      --shares[best], --held;
    }
  }
  return SymbolTable(std::move(shares), shift);
}

SymbolTable SymbolTable::fit(std::span<const std::uint64_t> given, int first) {
  expects(first >= std::numeric_limits<std::int16_t>::min() && given.size() <= 65536 &&
              first + static_cast<int>(given.size()) - 1 <= std::numeric_limits<std::int16_t>::max(),
          "SymbolTable::fit: counts are of values of 16 bits");
  const auto counts = bounded(given);
  const auto sum = std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
  if (sum == 0) return from_counts(std::vector<std::uint64_t>{0, 1, 0, 0});
  std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
  int best_reach = 1;
  unsigned best_shift = 0;
  for (unsigned shift = 0; shift <= largest_shift; ++shift) {
    const auto folded = fold(counts, first, shift);
    for (const int reach : {1, 2, 3, 5, 7, 11, 15, 23, 31}) {
      const auto cost = estimate(folded, reach, shift, sum);
      if (cost < least) least = cost, best_reach = reach, best_shift = shift;
    }
    const int last = first + static_cast<int>(counts.size()) - 1;
    if (std::max(-(first >> shift), last >> shift) <= static_cast<int>(largest_reach)) break;  // all within reach
  }
  return from_counts(within(fold(counts, first, best_shift), best_reach), best_shift);
}

SymbolTable SymbolTable::discretised(TableShape shape, std::uint32_t deviation) {
  expects(deviation >= 1 && deviation <= 1U << 24, "SymbolTable: a deviation is 1 to 2^24, in 1 / 65536");
  // Samples of the density at x = (j + 1/2) / 256 scales, until it is below 2^-31.
  const bool laplace = shape == TableShape::laplace;
  const std::uint64_t scale = laplace ? std::uint64_t{deviation} * 46341 >> 16 : deviation;  // deviation / sqrt(2)
  const std::uint64_t samples = laplace ? 22 * 256 : 1704;
  const auto value_of = [&](std::uint64_t j) { return (((2 * j + 1) * scale >> 9) + 32768) >> 16; };
  const auto largest = static_cast<int>(value_of(samples - 1));
  std::vector<std::uint64_t> weights(2 * static_cast<std::size_t>(largest) + 1);
  for (std::uint64_t j = 0; j < samples; ++j) {
    const std::uint64_t odd = 2 * j + 1;
    const std::uint64_t weight = detail::exp_of_minus_q24(laplace ? odd << 15 : odd * odd << 5);
    const auto value = static_cast<std::ptrdiff_t>(value_of(j));
    weights[static_cast<std::size_t>(largest + value)] += weight;
    weights[static_cast<std::size_t>(largest - value)] += weight;
  }
  return fit(weights, -largest);
}

std::uint32_t SymbolTable::cost(std::int16_t symbol) const noexcept {
  const int q = symbol >> shift_;
  const int reach_here = static_cast<int>(reach());
  const bool direct = std::abs(q) <= reach_here;
  const std::uint32_t raw = shift_ + (direct ? 0 : escape_bits(remainder_of(q, reach_here)));
  const std::size_t index = direct ? static_cast<std::size_t>(q + reach_here) : frequencies_.size() - 1;
  return (raw << 10) + ((bits_q16(frequencies_[index]) + 32) >> 6);
}

void SymbolTable::serialize(std::vector<std::byte>& to) const {
  to.push_back(static_cast<std::byte>(reach()));
  to.push_back(static_cast<std::byte>(shift_));
  // The last one is what is left. 7 bits a byte, the high bit says that another one follows.
  for (const std::uint16_t frequency : frequencies().first(frequencies_.size() - 1)) {
    const unsigned value = frequency - 1U;
    if (value < 128) {
      to.push_back(static_cast<std::byte>(value));
    } else {
      to.push_back(static_cast<std::byte>(128 + (value & 127)));
      to.push_back(static_cast<std::byte>(value >> 7));
    }
  }
}

Result<SymbolTable> SymbolTable::parse(std::span<const std::byte>& from) {
  std::size_t at = 0;
  bool short_of_bytes = false;
  const auto next = [&]() -> unsigned {
    if (at < from.size()) return std::to_integer<unsigned>(from[at++]);
    short_of_bytes = true;
    return 0;
  };
  const unsigned reach = next();
  const unsigned shift = next();
  if (reach > largest_reach) return fail(ErrorCode::corrupt, "a symbol table has too many symbols: fetch it again");
  std::vector<std::uint16_t> frequencies;
  std::uint32_t sum = 0;
  for (unsigned i = 0; i <= 2 * reach; ++i) {
    unsigned value = next();
    if (value >= 128) value = (value & 127) + (next() << 7);
    sum += value + 1;
    frequencies.push_back(static_cast<std::uint16_t>(value + 1));
  }
  if (short_of_bytes) return fail(ErrorCode::truncated, "a symbol table ends too early: fetch it again");
  frequencies.push_back(static_cast<std::uint16_t>(sum < total ? total - sum : 0));  // 0 is refused
  auto table = from_frequencies(frequencies, shift);
  if (table) from = from.subspan(at);
  return table;
}

}  // namespace krul
