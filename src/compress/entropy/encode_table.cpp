#include "krul/compress/entropy/detail/encode_table.hpp"

namespace krul::detail {

EncodeTable::EncodeTable(const SymbolTable& symbols, const AliasTable& alias)
    : slots(SymbolTable::total + 1),
      reach(static_cast<std::uint16_t>(symbols.reach())),
      shift(static_cast<std::uint16_t>(symbols.shift())) {
  frequency.fill(1);
  std::uint16_t sum = 0;
  for (std::size_t i = 0; i < symbols.frequencies().size(); ++i) {
    frequency[i] = symbols.frequencies()[i];
    inverse[i] = (std::uint64_t{1} << inverse_bits) / frequency[i];
    begin[i] = sum;
    sum = static_cast<std::uint16_t>(sum + frequency[i]);
  }
  constexpr unsigned bits = AliasTable::bucket_bits;
  for (unsigned slot = 0; slot < SymbolTable::total; ++slot) {
    const unsigned b = slot >> bits;
    const bool own = slot < alias.divider[b];
    const auto offset = static_cast<std::uint16_t>(slot - (own ? b << bits : alias.bias[b]));
    slots[begin[own ? b : alias.alias[b]] + std::size_t{offset}] = static_cast<std::uint16_t>(slot);
  }
}

}  // namespace krul::detail
