#include "encode_state.hpp"

#if defined(__x86_64__)

#include "avx512_streams.hpp"

namespace krul::detail {
namespace {

/// What an EncodeTable has for each symbol, in registers.
struct Registers {
  __m512i frequency[2], begin[2];
};

KRUL_AVX512_INLINE Registers load_table(const EncodeTable& table) {
  Registers registers;
  for (std::size_t i = 0; i < 2; ++i) {
    registers.frequency[i] = _mm512_load_si512(table.frequency.data() + 32 * i);
    registers.begin[i] = _mm512_load_si512(table.begin.data() + 32 * i);
  }
  return registers;
}

/// Takes the low words off those states of `full`; in memory they lie in the order of streams.
KRUL_AVX512_INLINE __m512i lower(__m512i x, __mmask16 full, BackwardWords& words) {
  const auto count = static_cast<unsigned>(std::popcount(static_cast<std::uint32_t>(full)));
  const __m256i low = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(full, x));
  _mm256_mask_storeu_epi16(words.take(count), static_cast<__mmask16>((1U << count) - 1), low);
  return _mm512_mask_srli_epi32(x, full, x, 16);
}

/// Pushes a symbol of that frequency, whose slots begin there, onto each stream of `lanes`.
KRUL_AVX512_INLINE __m512i push(__m512i x, __mmask16 lanes, __m512i frequency, __m512i begin, const EncodeTable& table,
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
KRUL_AVX512_INLINE __m512i push_low_bits(__m512i x, __mmask16 lanes, __m512i symbols, unsigned count,
                                         BackwardWords& words) {
  const __m128i room = _mm_cvtsi32_si128(static_cast<int>(32 - count)),
                shift = _mm_cvtsi32_si128(static_cast<int>(count));
  const __mmask16 full = _mm512_mask_test_epi32_mask(lanes, _mm512_srl_epi32(x, room), _mm512_set1_epi32(-1));
  const __m512i bits = _mm512_and_si512(symbols, _mm512_set1_epi32((1 << count) - 1));
  return _mm512_mask_or_epi32(x, lanes, _mm512_sll_epi32(lower(x, full, words), shift), bits);
}

/// Pushes up to 32 symbols of a column.
KRUL_AVX512_INLINE void push_step(EncodeState& state, Streams& x, std::span<const std::int16_t> symbols,
                                  const EncodeTable& table, const Registers& registers) {
  const std::size_t count = symbols.size();
  const auto even = static_cast<__mmask16>((1U << (count + 1) / 2) - 1),
             odd = static_cast<__mmask16>((1U << count / 2) - 1);
  const __m512i symbol =
      _mm512_maskz_loadu_epi16(static_cast<__mmask32>((std::uint64_t{1} << count) - 1), symbols.data());
  const __m512i escape = _mm512_set1_epi16(static_cast<short>(2 * table.reach + 1));
  const __m512i shifted = _mm512_add_epi16(_mm512_sra_epi16(symbol, _mm_cvtsi32_si128(table.shift)),
                                           _mm512_set1_epi16(static_cast<short>(table.reach)));
  state.words.reserve(EncodeState::step_words);
  if (_mm512_cmpge_epu16_mask(shifted, escape) != 0) [[unlikely]] {
    store_streams(x, state.streams);
    push_escapes(state, symbols, table);
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

}  // namespace

KRUL_AVX512 void encode_avx512(EncodeState& state, const EncodeColumns& columns) {
  constexpr std::size_t step = EncodeState::step;
  Streams x = load_streams(state.streams);
  for (std::size_t column = columns.table_of_column.size(); column-- > 0;) {
    const std::size_t index = columns.table_of_column[column];
    if (index == 0) continue;
    const EncodeTable& table = columns.tables[index - 1];
    const Registers registers = load_table(table);
    const std::span<const std::int16_t> symbols(columns.symbols + column * columns.tokens, columns.tokens);
    for (std::size_t begin = (columns.tokens + step - 1) / step * step; begin > 0;) {
      begin -= step;
      push_step(state, x, symbols.subspan(begin, std::min(step, symbols.size() - begin)), table, registers);
    }
  }
  store_streams(x, state.streams);
}

}  // namespace krul::detail

#else

namespace krul::detail {

void encode_avx512(EncodeState& state, const EncodeColumns& columns) {
  encode_portable(state, columns);
}

}  // namespace krul::detail

#endif
