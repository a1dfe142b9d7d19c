#include <algorithm>
#include <array>

#include "decode_escape.hpp"
#include "krul/compress/entropy/detail/decode_state.hpp"

namespace krul::detail {
namespace {

/// Calls visit(stream, token) for the tokens of a step, in the order of streams.
template <class Visit>
inline void forwards(std::size_t tokens, Visit&& visit) {
  for (std::size_t i = 0; 2 * i < tokens; ++i) visit(i, 2 * i);
  for (std::size_t i = 0; 2 * i + 1 < tokens; ++i) visit(16 + i, 2 * i + 1);
}

}  // namespace

DecodeOutcome decode_portable(DecodeState& state, const DecodeColumns& columns) noexcept {
  auto streams = state.streams;  // a copy, so that stores of symbols cannot be taken for stores of states
  bool sound = true;
  std::int16_t* out = columns.out;
  for (const std::uint8_t index : columns.table_of_column) {
    if (index == 0) {
      out = std::fill_n(out, columns.tokens, std::int16_t{0});
      continue;
    }
    const AliasTable& table = columns.tables[index - 1U];
    const unsigned shift = table.shift;
    const int reach = table.reach;
    for (std::size_t left = columns.tokens; left > 0;) {
      const std::size_t here = std::min<std::size_t>(32, left);
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
  }
  state.streams = streams;
  return sound ? DecodeOutcome::sound : DecodeOutcome::bad_symbol;
}

}  // namespace krul::detail
