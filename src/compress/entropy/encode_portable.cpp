#include "encode_state.hpp"

namespace krul::detail {

void encode_portable(EncodeState& state, const EncodeColumns& columns) {
  constexpr std::size_t step = EncodeState::step;
  for (std::size_t column = columns.table_of_column.size(); column-- > 0;) {
    const std::size_t index = columns.table_of_column[column];
    if (index == 0) continue;
    const EncodeTable& table = columns.tables[index - 1];
    const std::span<const std::int16_t> symbols(columns.symbols + column * columns.tokens, columns.tokens);
    const unsigned shift = table.shift, escape = 2U * table.reach + 1U;
    for (std::size_t begin = (columns.tokens + step - 1) / step * step; begin > 0;) {
      begin -= step;
      const auto here = symbols.subspan(begin, std::min(step, symbols.size() - begin));
      state.words.reserve(EncodeState::step_words);
      std::array<std::uint8_t, step> place;
      bool escapes = false;
      for (std::size_t t = 0; t < here.size(); ++t) {
        const auto shifted = static_cast<unsigned>((here[t] >> shift) + table.reach);
        place[t] = static_cast<std::uint8_t>(std::min(shifted, escape));
        escapes |= shifted >= escape;
      }
      if (escapes) push_escapes(state, here, table);
      if (shift > 0)
        backwards(here.size(), [&](std::size_t stream, std::size_t t) {
          push_bits(state.streams[stream], static_cast<std::uint32_t>(here[t]) & ((1U << shift) - 1), shift,
                    state.words);
        });
      backwards(here.size(), [&](std::size_t stream, std::size_t t) {
        const std::uint32_t frequency = table.frequency[place[t]];
        const std::uint32_t lowered = state.words.lower(state.streams[stream], std::uint64_t{frequency} << 18);
        // lowered < frequency * 2^18, so the product fits, and is less than one too small for a quotient below 2^18.
        auto quotient = static_cast<std::uint32_t>(lowered * table.inverse[place[t]] >> EncodeTable::inverse_bits);
        std::uint32_t rest = lowered - quotient * frequency;
        const bool more = rest >= frequency;
        quotient += more;
        rest -= more ? frequency : 0;
        state.streams[stream] = quotient << SymbolTable::precision | table.slots[table.begin[place[t]] + rest];
      });
    }
  }
}

}  // namespace krul::detail
