#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

#include "krul/compress/entropy/symbol_decoder.hpp"
#include "krul/compress/entropy/symbol_encoder.hpp"
#include "krul/core/processor.hpp"

namespace krul::testing {

inline const TableSet& universal_tables() {
  static const TableSet set = TableSet::universal();
  return set;
}
inline const SymbolEncoder& universal_encoder() {
  static const SymbolEncoder encoder(universal_tables());
  return encoder;
}

/// A block with the indices that code it.
struct SymbolSample {
  SymbolBlock block;
  std::vector<std::int16_t> symbols;
  std::vector<std::uint8_t> tables;

  std::span<const std::int16_t> column(std::size_t index) const {
    return std::span(symbols).subspan(index * block.tokens, block.tokens);
  }
};

/// What symbols can be like. "any" also has indices that do not fit the symbols.
inline constexpr std::array<std::string_view, 4> symbol_families{"small", "zeros", "wide", "any"};

inline SymbolSample symbol_sample(std::string_view family, SymbolBlock block, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  SymbolSample made{block, {}, {}};
  for (std::size_t column = 0; column < block.columns; ++column) {
    const double power = std::uniform_real_distribution<double>(-4, 2)(random);
    const double deviation = family == "zeros" ? 0.02 : std::exp2(family == "wide" ? power + 6 : power);
    for (std::size_t t = 0; t < block.tokens; ++t)
      made.symbols.push_back(family == "any" ? static_cast<std::int16_t>(random())
                                             : static_cast<std::int16_t>(std::lround(deviation * normal(random))));
    made.tables.push_back(family == "any" ? static_cast<std::uint8_t>(1 + random() % (universal_tables().size() - 1))
                                          : universal_encoder().best_table(made.column(column)));
  }
  return made;
}

}  // namespace krul::testing
