// The loops of the entropy coder, one stream after another.
#include "../entropy/decode_escape.hpp"
#include "price_columns.hpp"

namespace krul::detail {
namespace {

/// Calls visit(stream, token) for the tokens of a step, in the order of streams.
template <class Visit>
inline void forwards(std::size_t tokens, Visit&& visit) {
  for (std::size_t i = 0; 2 * i < tokens; ++i) visit(i, 2 * i);
  for (std::size_t i = 0; 2 * i + 1 < tokens; ++i) visit(16 + i, 2 * i + 1);
}

DecodeOutcome decode_column(DecodeState& state, const AliasTable& table, std::size_t tokens, std::int16_t* out) {
  auto streams = state.streams;  // a copy, so that stores of symbols cannot be taken for stores of states
  bool sound = true;
  const unsigned shift = table.shift;
  const int reach = table.reach;
  for (std::size_t left = tokens; left > 0;) {
    const std::size_t here = left < 32 ? left : 32;
    if (!state.prepare_step()) return DecodeOutcome::truncated;
    const std::byte* at = state.base() + state.at;
    unsigned escapes = 0;
    forwards(here, [&](std::size_t stream, std::size_t t) {
      std::uint32_t x = streams[stream];
      const std::uint32_t slot = x & (SymbolTable::total - 1);
      const std::uint32_t b = slot >> AliasTable::bucket_bits;
      const bool own = slot < table.divider[b];
      const std::uint32_t symbol = own ? b : table.alias[b];
      const std::uint32_t frequency = own ? table.own_frequency[b] : table.alias_frequency[b];
      const std::uint32_t offset = (slot - (own ? b << AliasTable::bucket_bits : table.bias[b])) & 0xffff;
      streams[stream] = take_word(frequency * (x >> SymbolTable::precision) + offset, at);
      const int q = static_cast<int>(symbol) - reach;
      out[t] = static_cast<std::int16_t>(q);
      escapes |= static_cast<unsigned>(q > reach) << t;
    });
    if (shift > 0)
      forwards(here, [&](std::size_t stream, std::size_t t) {
        const std::uint32_t bits = take_bits(streams[stream], shift, at);
        out[t] = static_cast<std::int16_t>(static_cast<std::uint32_t>(out[t]) << shift | bits);
      });
    if (escapes != 0) sound &= take_escapes(escapes, table, streams, out, at);
    state.at = static_cast<std::size_t>(at - state.base());
    out += here;
    left -= here;
  }
  state.streams = streams;
  return sound ? DecodeOutcome::sound : DecodeOutcome::bad_symbol;
}

void encode_column(EncodeState& state, const EncodeTable& table, const EncodedColumn& column) {
  constexpr std::size_t step = EncodeState::step;
  const unsigned shift = table.shift, escape = 2U * table.reach + 1U;
  for (std::size_t begin = (column.tokens + step - 1) / step * step; begin > 0;) {
    begin -= step;
    const std::size_t left = column.tokens - begin, count = left < step ? left : step;
    const std::int16_t* const here = column.symbols + begin;
    std::uint8_t place[step];
    bool escapes = false;
    for (std::size_t t = 0; t < count; ++t) {
      const auto shifted = static_cast<unsigned>((here[t] >> shift) + table.reach);
      place[t] = static_cast<std::uint8_t>(shifted < escape ? shifted : escape);
      escapes |= shifted >= escape;
    }
    if (escapes) push_escapes(state, here, count, table);
    if (shift > 0)
      backwards(count, [&](std::size_t stream, std::size_t t) {
        push_bits(state.streams[stream], static_cast<std::uint32_t>(here[t]) & ((1U << shift) - 1), shift, state.words);
      });
    backwards(count, [&](std::size_t stream, std::size_t t) {
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

constexpr EntropyLoops loops{.level = InstructionLevel::KRUL_LEVEL,
                             .decode_column = decode_column,
                             .encode_column = encode_column,
                             .add_costs = add_costs};

}  // namespace

template <>
const EntropyLoops* entropy_loops<InstructionLevel::KRUL_LEVEL>() {
  return &loops;
}

}  // namespace krul::detail
