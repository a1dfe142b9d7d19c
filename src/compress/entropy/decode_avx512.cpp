#include "krul/compress/entropy/detail/decode_state.hpp"

#if defined(__x86_64__)

#include <algorithm>
#include <array>
#include <bit>

#include "avx512_streams.hpp"
#include "decode_escape.hpp"

namespace krul::detail {
namespace {

/// Which lanes a step uses.
struct Lanes {
  __mmask16 even, odd;
  __mmask32 all;
};

/// An AliasTable in registers.
struct Registers {
  __m512i divider[2], alias[2], bias[2], own_frequency[2], alias_frequency[2];
};

KRUL_AVX512_INLINE void load_words(const AliasTable::Words& words, __m512i (&to)[2]) {
  to[0] = _mm512_load_si512(words.data());
  to[1] = _mm512_load_si512(words.data() + 32);
}

KRUL_AVX512_INLINE Registers load_table(const AliasTable& table) {
  Registers registers;
  load_words(table.divider, registers.divider);
  load_words(table.alias, registers.alias);
  load_words(table.bias, registers.bias);
  load_words(table.own_frequency, registers.own_frequency);
  load_words(table.alias_frequency, registers.alias_frequency);
  return registers;
}

/// words[index modulo 64] for each lane
KRUL_AVX512_INLINE __m512i look_up(const __m512i (&words)[2], __m512i index) {
  return _mm512_permutex2var_epi16(words[0], index, words[1]);
}

/// The low words of both halves.
KRUL_AVX512_INLINE __m512i low_words(Streams x) {
  return _mm512_mask_mov_epi16(x.even, 0xAAAAAAAAU, _mm512_slli_epi32(x.odd, 16));
}

/// Streams below 2^16 take the next words.
KRUL_AVX512_INLINE __m512i take_words(__m512i x, __mmask16 lanes, const std::byte*& at) {
  const __mmask16 low = _mm512_mask_cmplt_epu32_mask(lanes, x, _mm512_set1_epi32(1 << 16));
  const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  at += 2 * static_cast<std::size_t>(std::popcount(static_cast<std::uint32_t>(low)));
  return _mm512_mask_or_epi32(x, low, _mm512_slli_epi32(x, 16), _mm512_maskz_expand_epi32(low, words));
}

/// The bucket symbols q + reach of a step.
template <bool Full>
KRUL_AVX512_INLINE __m512i take_symbols(Streams& x, const Registers& table, Lanes lanes, const std::byte*& at) {
  const __m512i low16 = _mm512_set1_epi32(0xffff);
  const __m512i slot = _mm512_and_si512(low_words(x), _mm512_set1_epi16(SymbolTable::total - 1));
  const __m512i bucket = _mm512_srli_epi16(slot, AliasTable::bucket_bits);
  const __mmask32 other = _mm512_cmpge_epu16_mask(slot, look_up(table.divider, bucket));
  const __m512i offset =
      _mm512_mask_sub_epi16(_mm512_and_si512(slot, _mm512_set1_epi16(0xff)), other, slot, look_up(table.bias, bucket));
  const __m512i frequency =
      _mm512_mask_mov_epi16(look_up(table.own_frequency, bucket), other, look_up(table.alias_frequency, bucket));
  const __m512i even = _mm512_add_epi32(
      _mm512_mullo_epi32(_mm512_srli_epi32(x.even, SymbolTable::precision), _mm512_and_si512(frequency, low16)),
      _mm512_and_si512(offset, low16));
  const __m512i odd = _mm512_add_epi32(
      _mm512_mullo_epi32(_mm512_srli_epi32(x.odd, SymbolTable::precision), _mm512_srli_epi32(frequency, 16)),
      _mm512_srli_epi32(offset, 16));
  x.even = take_words(Full ? even : _mm512_mask_mov_epi32(x.even, lanes.even, even), lanes.even, at);
  x.odd = take_words(Full ? odd : _mm512_mask_mov_epi32(x.odd, lanes.odd, odd), lanes.odd, at);
  return _mm512_mask_mov_epi16(bucket, other, look_up(table.alias, bucket));
}

/// The low `count` bits of a step's symbols.
template <bool Full>
KRUL_AVX512_INLINE __m512i take_low_bits(Streams& x, unsigned count, Lanes lanes, const std::byte*& at) {
  const __m512i bits = _mm512_and_si512(low_words(x), _mm512_set1_epi16(static_cast<short>((1U << count) - 1)));
  const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(count));
  const __m512i even = _mm512_srl_epi32(x.even, shift);
  const __m512i odd = _mm512_srl_epi32(x.odd, shift);
  x.even = take_words(Full ? even : _mm512_mask_mov_epi32(x.even, lanes.even, even), lanes.even, at);
  x.odd = take_words(Full ? odd : _mm512_mask_mov_epi32(x.odd, lanes.odd, odd), lanes.odd, at);
  return bits;
}

/// Rare, so it goes through memory.
__attribute__((noinline)) KRUL_AVX512 bool escapes_of_step(std::uint32_t tokens, const AliasTable& table, Streams& x,
                                                           std::int16_t* out, const std::byte*& at) {
  std::array<std::uint32_t, 32> streams;
  store_streams(x, streams);
  const bool sound = take_escapes(tokens, table, streams, out, at);
  x = load_streams(streams);
  return sound;
}

/// One step of a column: symbols to out, as many as there are lanes.
template <bool Full>
KRUL_AVX512_INLINE bool decode_step(Streams& x, const AliasTable& table, const Registers& registers, Lanes lanes,
                                    std::int16_t* out, const std::byte*& at) {
  const __m512i reach = _mm512_set1_epi16(static_cast<short>(table.reach));
  __m512i symbol = _mm512_sub_epi16(take_symbols<Full>(x, registers, lanes, at), reach);
  const __mmask32 escapes = _mm512_mask_cmpgt_epi16_mask(lanes.all, symbol, reach);
  if (table.shift > 0)
    symbol = _mm512_or_si512(_mm512_sll_epi16(symbol, _mm_cvtsi32_si128(table.shift)),
                             take_low_bits<Full>(x, table.shift, lanes, at));
  if constexpr (Full)
    _mm512_storeu_si512(out, symbol);
  else
    _mm512_mask_storeu_epi16(out, lanes.all, symbol);
  if (escapes != 0) [[unlikely]]
    return escapes_of_step(escapes, table, x, out, at);
  return true;
}

}  // namespace

KRUL_AVX512 DecodeOutcome decode_avx512(DecodeState& state, const DecodeColumns& columns) noexcept {
  constexpr std::size_t step = 32;
  constexpr Lanes full{0xffff, 0xffff, 0xffffffff};
  const auto rest = static_cast<std::uint32_t>(columns.tokens % step);
  const Lanes part{static_cast<__mmask16>((1U << (rest + 1) / 2) - 1), static_cast<__mmask16>((1U << rest / 2) - 1),
                   static_cast<__mmask32>((1U << rest) - 1)};
  Streams x = load_streams(state.streams);
  bool sound = true;
  std::int16_t* out = columns.out;
  for (const std::uint8_t index : columns.table_of_column) {
    if (index == 0) {
      out = std::fill_n(out, columns.tokens, std::int16_t{0});
      continue;
    }
    const AliasTable& table = columns.tables[index - 1U];
    const Registers registers = load_table(table);
    std::size_t left = columns.tokens;
    for (; left >= step; left -= step, out += step) {
      if (!state.prepare_step()) return DecodeOutcome::truncated;
      const std::byte* const base = state.base();
      const std::byte* at = base + state.at;
      sound &= decode_step<true>(x, table, registers, full, out, at);
      state.at = static_cast<std::size_t>(at - base);
    }
    if (left > 0) {
      if (!state.prepare_step()) return DecodeOutcome::truncated;
      const std::byte* const base = state.base();
      const std::byte* at = base + state.at;
      sound &= decode_step<false>(x, table, registers, part, out, at);
      state.at = static_cast<std::size_t>(at - base);
      out += left;
    }
  }
  store_streams(x, state.streams);
  return sound ? DecodeOutcome::sound : DecodeOutcome::bad_symbol;
}

}  // namespace krul::detail

#else

namespace krul::detail {

DecodeOutcome decode_avx512(DecodeState& state, const DecodeColumns& columns) noexcept {
  return decode_portable(state, columns);
}

}  // namespace krul::detail

#endif
