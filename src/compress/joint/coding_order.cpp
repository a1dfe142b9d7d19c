#include "coding_order.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

#include "krul/compress/entropy/symbol_block.hpp"

namespace krul::detail {

CodingOrder::CodingOrder(StepScale step, std::span<const std::uint8_t> classes, std::size_t count)
    : tokens(count), steps(count, step.factor()), per_step(count, 1 / step.factor()) {
  std::iota(tokens.begin(), tokens.end(), 0U);
  if (classes.empty()) {
    runs.push_back({0, count});
    return;
  }
  // At a high rate it would be 2 ln 2 / 12; what errors have in common counts against it. Without classes all round to
  // nearest, so that rows which are coded again more coarsely come to what they would have come to at once.
  bit = 0.06F;
  std::ranges::stable_sort(tokens, {}, [&](std::uint32_t token) { return classes[token]; });
  std::array<float, StepClasses::count> factors;
  for (std::uint8_t of = 0; of < StepClasses::count; ++of) factors[of] = StepClasses::step(step, of).factor();
  for (std::size_t i = 0; i < count; ++i) {
    steps[i] = factors[classes[tokens[i]]];
    per_step[i] = 1 / steps[i];
  }
  for (std::size_t first = 0; first < count; first += SymbolBlock::most_streams) {
    const std::size_t here = std::min(SymbolBlock::most_streams, count - first);
    std::size_t sum = 0;
    for (std::size_t i = first; i < first + here; ++i) sum += classes[tokens[i]];
    runs.push_back({first, here, int{classes[tokens[first]]} - StepClasses::usual - StepClasses::columns_finer,
                    static_cast<int>((sum + here / 2) / here) - StepClasses::usual});
  }
}

void append_classes(std::span<const std::uint8_t> classes, std::vector<std::byte>& to) {
  const auto [lowest, highest] = std::ranges::minmax(classes);
  const auto width = static_cast<unsigned>(std::bit_width(static_cast<unsigned>(highest - lowest)));
  to.push_back(static_cast<std::byte>(lowest | width << 4));
  unsigned bits = 0, held = 0;
  for (const std::uint8_t of : classes) {
    bits |= static_cast<unsigned>(of - lowest) << held;
    held += width;
    if (held >= 8) {
      to.push_back(static_cast<std::byte>(bits));
      bits >>= 8;
      held -= 8;
    }
  }
  if (held > 0) to.push_back(static_cast<std::byte>(bits));
}

Result<std::vector<std::uint8_t>> read_classes(std::size_t rows, std::span<const std::byte>& from) {
  const auto too_short = [] {
    return fail(ErrorCode::truncated, "the classes of a chunk's rows end too early: recompute these tokens");
  };
  if (from.empty()) return too_short();
  const unsigned lowest = std::to_integer<unsigned>(from[0]) & 15, width = std::to_integer<unsigned>(from[0]) >> 4;
  const auto damaged = [] {
    return fail(ErrorCode::corrupt,
                "the classes of a chunk's rows are none that an encoder writes: recompute these tokens");
  };
  if (width > 4) return damaged();
  const std::size_t bytes = (rows * width + 7) / 8;
  if (from.size() < 1 + bytes) return too_short();
  std::vector<std::uint8_t> classes(rows);
  for (std::size_t row = 0; row < rows; ++row) {
    unsigned of = lowest;
    for (unsigned bit = 0; bit < width; ++bit) {
      const std::size_t at = row * width + bit;
      of += (std::to_integer<unsigned>(from[1 + at / 8]) >> at % 8 & 1U) << bit;
    }
    if (of >= StepClasses::count) return damaged();
    classes[row] = static_cast<std::uint8_t>(of);
  }
  from = from.subspan(1 + bytes);
  return classes;
}

}  // namespace krul::detail
