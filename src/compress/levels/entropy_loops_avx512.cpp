// The loops of the entropy coder by AVX-512: 32 streams at once.
#include "../entropy/decode_escape.hpp"
#include "price_columns.hpp"

namespace krul::detail {
namespace {

/// The streams of a step: 16-bit lane 2 i of a vector is that of `even`'s lane i, lane 2 i + 1 that of `odd`'s. In
/// memory the even ones come first.
struct Streams {
  __m512i even, odd;
};

inline Streams load_streams(const std::array<std::uint32_t, 32>& from) {
  return {_mm512_loadu_si512(&from[0]), _mm512_loadu_si512(&from[16])};
}

inline void store_streams(Streams x, std::array<std::uint32_t, 32>& to) {
  _mm512_storeu_si512(&to[0], x.even);
  _mm512_storeu_si512(&to[16], x.odd);
}

/// Which lanes a step uses.
struct UsedLanes {
  __mmask16 even, odd;
  __mmask32 all;
};

/// An AliasTable in registers.
struct DecodeRegisters {
  __m512i divider[2], alias[2], bias[2], own_frequency[2], alias_frequency[2];
};

inline void load_words(const AliasTable::Words& words, __m512i (&to)[2]) {
  to[0] = _mm512_load_si512(words.data());
  to[1] = _mm512_load_si512(words.data() + 32);
}

inline DecodeRegisters load_table(const AliasTable& table) {
  DecodeRegisters registers;
  load_words(table.divider, registers.divider);
  load_words(table.alias, registers.alias);
  load_words(table.bias, registers.bias);
  load_words(table.own_frequency, registers.own_frequency);
  load_words(table.alias_frequency, registers.alias_frequency);
  return registers;
}

/// words[index modulo 64] for each lane
inline __m512i look_up(const __m512i (&words)[2], __m512i index) {
  return _mm512_permutex2var_epi16(words[0], index, words[1]);
}

/// The low words of both halves.
inline __m512i low_words(Streams x) {
  return _mm512_mask_mov_epi16(x.even, 0xAAAAAAAAU, _mm512_slli_epi32(x.odd, 16));
}

/// Streams below 2^16 take the next words.
inline __m512i take_words(__m512i x, __mmask16 lanes, const std::byte*& at) {
  const __mmask16 low = _mm512_mask_cmplt_epu32_mask(lanes, x, _mm512_set1_epi32(1 << 16));
  const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  at += 2 * static_cast<std::size_t>(__builtin_popcount(low));
  return _mm512_mask_or_epi32(x, low, _mm512_slli_epi32(x, 16), _mm512_maskz_expand_epi32(low, words));
}

/// The bucket symbols q + reach of a step.
template <bool Full>
inline __m512i take_symbols(Streams& x, const DecodeRegisters& table, UsedLanes lanes, const std::byte*& at) {
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
inline __m512i take_low_bits(Streams& x, unsigned count, UsedLanes lanes, const std::byte*& at) {
  const __m512i bits = _mm512_and_si512(low_words(x), _mm512_set1_epi16(static_cast<short>((1U << count) - 1)));
  const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(count));
  const __m512i even = _mm512_srl_epi32(x.even, shift);
  const __m512i odd = _mm512_srl_epi32(x.odd, shift);
  x.even = take_words(Full ? even : _mm512_mask_mov_epi32(x.even, lanes.even, even), lanes.even, at);
  x.odd = take_words(Full ? odd : _mm512_mask_mov_epi32(x.odd, lanes.odd, odd), lanes.odd, at);
  return bits;
}

/// Rare, so it goes through memory.
[[gnu::noinline]] bool escapes_of_step(std::uint32_t tokens, const AliasTable& table, Streams& x, std::int16_t* out,
                                       const std::byte*& at) {
  std::array<std::uint32_t, 32> streams;
  store_streams(x, streams);
  const bool sound = take_escapes(tokens, table, streams, out, at);
  x = load_streams(streams);
  return sound;
}

/// One step of a column: symbols to out, as many as there are lanes.
template <bool Full>
inline bool decode_step(Streams& x, const AliasTable& table, const DecodeRegisters& registers, UsedLanes lanes,
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

DecodeOutcome decode_column(DecodeState& state, const AliasTable& table, std::size_t tokens, std::int16_t* out) {
  constexpr std::size_t step = 32;
  constexpr UsedLanes full{0xffff, 0xffff, 0xffffffff};
  const auto rest = static_cast<std::uint32_t>(tokens % step);
  const UsedLanes part{static_cast<__mmask16>((1U << (rest + 1) / 2) - 1), static_cast<__mmask16>((1U << rest / 2) - 1),
                       static_cast<__mmask32>((1U << rest) - 1)};
  Streams x = load_streams(state.streams);
  bool sound = true;
  const DecodeRegisters registers = load_table(table);
  std::size_t left = tokens;
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
  store_streams(x, state.streams);
  return sound ? DecodeOutcome::sound : DecodeOutcome::bad_symbol;
}

/// What an EncodeTable has for each symbol, in registers.
struct EncodeRegisters {
  __m512i frequency[2], begin[2];
};

inline EncodeRegisters load_table(const EncodeTable& table) {
  EncodeRegisters registers;
  for (std::size_t i = 0; i < 2; ++i) {
    registers.frequency[i] = _mm512_load_si512(table.frequency.data() + 32 * i);
    registers.begin[i] = _mm512_load_si512(table.begin.data() + 32 * i);
  }
  return registers;
}

/// Takes the low words off those states of `full`; in memory they lie in the order of streams.
inline __m512i lower(__m512i x, __mmask16 full, BackwardWords& words) {
  const auto count = static_cast<unsigned>(__builtin_popcount(full));
  const __m256i low = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(full, x));
  _mm256_mask_storeu_epi16(words.take(count), static_cast<__mmask16>((1U << count) - 1), low);
  return _mm512_mask_srli_epi32(x, full, x, 16);
}

/// Pushes a symbol of that frequency, whose slots begin there, onto each stream of `lanes`.
inline __m512i push(__m512i x, __mmask16 lanes, __m512i frequency, __m512i begin, const EncodeTable& table,
                    BackwardWords& words) {
  const __mmask16 full = _mm512_mask_cmpge_epu32_mask(lanes, _mm512_srli_epi32(x, 18), frequency);
  const __m512i lowered = lower(x, full, words);
  // Quotients are below 2^18 and floats are good to 2^-23 of them: at most one too many or too few.
  __m512i quotient = _mm512_cvttps_epi32(_mm512_div_ps(_mm512_cvtepu32_ps(lowered), _mm512_cvtepi32_ps(frequency)));
  __m512i rest = _mm512_sub_epi32(lowered, _mm512_mullo_epi32(quotient, frequency));
  const __m512i one = _mm512_set1_epi32(1);
  const __mmask16 below = _mm512_movepi32_mask(rest);
  quotient = _mm512_mask_sub_epi32(quotient, below, quotient, one);
  rest = _mm512_mask_add_epi32(rest, below, rest, frequency);
  const __mmask16 above = _mm512_cmpge_epi32_mask(rest, frequency);
  quotient = _mm512_mask_add_epi32(quotient, above, quotient, one);
  rest = _mm512_mask_sub_epi32(rest, above, rest, frequency);
  const __m512i slot =
      _mm512_and_si512(_mm512_mask_i32gather_epi32(x, lanes, _mm512_add_epi32(begin, rest), table.slots.data(), 2),
                       _mm512_set1_epi32(0xffff));
  return _mm512_mask_or_epi32(x, lanes, _mm512_slli_epi32(quotient, SymbolTable::precision), slot);
}

/// Pushes the low `count` bits of symbols as they are.
inline __m512i push_low_bits(__m512i x, __mmask16 lanes, __m512i symbols, unsigned count, BackwardWords& words) {
  const __m128i room = _mm_cvtsi32_si128(static_cast<int>(32 - count)),
                shift = _mm_cvtsi32_si128(static_cast<int>(count));
  const __mmask16 full = _mm512_mask_test_epi32_mask(lanes, _mm512_srl_epi32(x, room), _mm512_set1_epi32(-1));
  const __m512i bits = _mm512_and_si512(symbols, _mm512_set1_epi32((1 << count) - 1));
  return _mm512_mask_or_epi32(x, lanes, _mm512_sll_epi32(lower(x, full, words), shift), bits);
}

/// Pushes up to 32 symbols of a column.
inline void push_step(EncodeState& state, Streams& x, const EncodedColumn& symbols, const EncodeTable& table,
                      const EncodeRegisters& registers) {
  const std::size_t count = symbols.tokens;
  const auto even = static_cast<__mmask16>((1U << (count + 1) / 2) - 1),
             odd = static_cast<__mmask16>((1U << count / 2) - 1);
  const __m512i symbol =
      _mm512_maskz_loadu_epi16(static_cast<__mmask32>((std::uint64_t{1} << count) - 1), symbols.symbols);
  const __m512i escape = _mm512_set1_epi16(static_cast<short>(2 * table.reach + 1));
  const __m512i shifted = _mm512_add_epi16(_mm512_sra_epi16(symbol, _mm_cvtsi32_si128(table.shift)),
                                           _mm512_set1_epi16(static_cast<short>(table.reach)));
  if (_mm512_cmpge_epu16_mask(shifted, escape) != 0) [[unlikely]] {
    store_streams(x, state.streams);
    push_escapes(state, symbols.symbols, count, table);
    x = load_streams(state.streams);
  }
  if (table.shift > 0) {
    x.odd = push_low_bits(x.odd, odd, _mm512_srli_epi32(symbol, 16), table.shift, state.words);
    x.even = push_low_bits(x.even, even, symbol, table.shift, state.words);
  }
  const __m512i place = _mm512_min_epu16(shifted, escape), low16 = _mm512_set1_epi32(0xffff);
  const __m512i frequency = _mm512_permutex2var_epi16(registers.frequency[0], place, registers.frequency[1]);
  const __m512i begin = _mm512_permutex2var_epi16(registers.begin[0], place, registers.begin[1]);
  x.odd = push(x.odd, odd, _mm512_srli_epi32(frequency, 16), _mm512_srli_epi32(begin, 16), table, state.words);
  x.even = push(x.even, even, _mm512_and_si512(frequency, low16), _mm512_and_si512(begin, low16), table, state.words);
}

void encode_column(EncodeState& state, const EncodeTable& table, const EncodedColumn& column) {
  constexpr std::size_t step = EncodeState::step;
  Streams x = load_streams(state.streams);
  const EncodeRegisters registers = load_table(table);
  for (std::size_t begin = (column.tokens + step - 1) / step * step; begin > 0;) {
    begin -= step;
    const std::size_t left = column.tokens - begin;
    push_step(state, x, {column.symbols + begin, left < step ? left : step}, table, registers);
  }
  store_streams(x, state.streams);
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
