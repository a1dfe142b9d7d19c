// Entropy coding of quantised coefficients: a copy of the symbols first, then the twin, then the coder by level. Blocks
// of 3,700 columns x 64 tokens; most columns of small scale. Counters: symbols/s, bits a symbol, and how much longer
// the bytes are than the ideal code of the tables that were chosen.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "krul/compress/entropy/byte_coder.hpp"
#include "krul/compress/entropy/symbol_decoder.hpp"
#include "krul/compress/entropy/symbol_encoder.hpp"
#include "krul/compress/entropy/table_choice.hpp"
#include "krul/core/half.hpp"
#include "krul/reference/entropy.hpp"

namespace {

using namespace krul;

/// Columns with deviations from 0.05 to 4 steps, even in the logarithm; scales of tokens differ by a third.
struct Sample {
  SymbolBlock block;
  std::vector<std::int16_t> symbols;
  std::vector<std::uint8_t> chosen;
  std::vector<std::byte> bytes;
  double ideal_bits = 0;
};

const TableSet& tables() {
  static const TableSet set = TableSet::universal();
  return set;
}
const SymbolEncoder& encoder() {
  static const SymbolEncoder made(tables());
  return made;
}

Sample sample(std::size_t tokens, double smallest = 0.05, double largest = 4) {
  Sample made{{3700, tokens}, {}, {}, {}, 0};
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  std::vector<double> of_token(tokens);
  for (double& scale : of_token) scale = std::exp(0.3 * normal(random));
  for (std::size_t column = 0; column < made.block.columns; ++column) {
    const double deviation = smallest * std::pow(largest / smallest, uniform(random));
    for (std::size_t t = 0; t < tokens; ++t)
      made.symbols.push_back(static_cast<std::int16_t>(std::lround(deviation * of_token[t] * normal(random))));
  }
  for (std::size_t column = 0; column < made.block.columns; ++column)
    made.chosen.push_back(encoder().best_table(std::span(made.symbols).subspan(column * tokens, tokens)));
  made.bytes = encoder().encode(made.block, made.symbols, made.chosen);
  made.ideal_bits = reference::ideal_bits(tables(), made.block, made.symbols, made.chosen);
  return made;
}

void set_counters(benchmark::State& state, const Sample& made) {
  const auto symbols = static_cast<double>(made.block.symbols());
  state.SetItemsProcessed(static_cast<std::int64_t>(made.block.symbols()) * state.iterations());
  state.counters["bits"] = 8 * static_cast<double>(made.bytes.size()) / symbols;
  state.counters["over_ideal_%"] = 100 * (8 * static_cast<double>(made.bytes.size()) / made.ideal_bits - 1);
}

void raw_copy(benchmark::State& state) {
  const Sample made = sample(64);
  std::vector<std::int16_t> out(made.symbols.size());
  for (auto _ : state) {
    std::memcpy(out.data(), made.symbols.data(), 2 * out.size());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(out.size()) * state.iterations());
}

void reference_decode(benchmark::State& state) {
  const Sample made = sample(64);
  for (auto _ : state)
    benchmark::DoNotOptimize(reference::decode_symbols(made.bytes, made.block, made.chosen, tables()));
  set_counters(state, made);
}

void decode(benchmark::State& state, InstructionLevel level, std::size_t tokens, double smallest, double largest) {
  const Sample made = sample(tokens, smallest, largest);
  std::vector<std::int16_t> out(16 * tokens);
  for (auto _ : state) {
    auto decoder = SymbolDecoder::open(made.bytes, made.block, made.chosen, tables(), level);
    for (std::size_t left = made.block.columns; left > 0;) {
      const std::size_t columns = std::min<std::size_t>(16, left);
      if (!decoder->read(std::span(out).first(columns * tokens))) state.SkipWithError("decode failed");
      left -= columns;
    }
    if (!decoder->finish()) state.SkipWithError("decode failed");
    benchmark::ClobberMemory();
  }
  set_counters(state, made);
}

void encode(benchmark::State& state) {
  const Sample made = sample(64);
  for (auto _ : state) benchmark::DoNotOptimize(encoder().encode(made.block, made.symbols, made.chosen));
  set_counters(state, made);
}

void best_table(benchmark::State& state) {
  const Sample made = sample(64);
  for (auto _ : state)
    for (std::size_t column = 0; column < made.block.columns; ++column)
      benchmark::DoNotOptimize(encoder().best_table(std::span(made.symbols).subspan(column * 64, 64)));
  set_counters(state, made);
}

/// Indices of a second block, predicted by those of the first.
void tables_of_columns(benchmark::State& state) {
  const Sample made = sample(64);
  std::vector<std::uint8_t> predicted = made.chosen, out(made.chosen.size());
  std::mt19937 random(2);
  for (auto& index : predicted) index = static_cast<std::uint8_t>(std::min<std::size_t>(62, index + random() % 3));
  const auto chosen = choose_tables(encoder(), made.block, made.symbols, predicted);
  const auto bytes = encode_tables(chosen, predicted);
  for (auto _ : state)
    if (!decode_tables(bytes, predicted, tables().size(), out)) state.SkipWithError("decode failed");
  state.SetItemsProcessed(static_cast<std::int64_t>(out.size()) * state.iterations());
  state.counters["bits"] = 8 * static_cast<double>(bytes.size()) / static_cast<double>(out.size());
}

std::vector<std::byte> high_bytes() {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<std::byte> bytes(std::size_t{64} * 3072);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(bf16_from_float(normal(random)) >> 8);
  return bytes;
}

void encode_high_bytes(benchmark::State& state) {
  const auto bytes = high_bytes();
  std::vector<std::byte> coded;
  for (auto _ : state) coded = encode_bytes(bytes);
  state.SetItemsProcessed(static_cast<std::int64_t>(bytes.size()) * state.iterations());
  state.counters["bits"] = 8 * static_cast<double>(coded.size()) / static_cast<double>(bytes.size());
}

void decode_high_bytes(benchmark::State& state) {
  const auto bytes = high_bytes();
  const auto coded = encode_bytes(bytes);
  std::vector<std::byte> out(bytes.size());
  for (auto _ : state)
    if (!decode_bytes(coded, out)) state.SkipWithError("decode failed");
  state.SetItemsProcessed(static_cast<std::int64_t>(bytes.size()) * state.iterations());
}

void make_universal(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(TableSet::universal());
}
void make_encoder(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(SymbolEncoder(tables()));
}

BENCHMARK(raw_copy);
BENCHMARK(reference_decode);
BENCHMARK_CAPTURE(decode, portable, InstructionLevel::portable, 64, 0.05, 4);
BENCHMARK_CAPTURE(decode, best, instruction_level(), 64, 0.05, 4);
BENCHMARK_CAPTURE(decode, best_8_tokens, instruction_level(), 8, 0.05, 4);
BENCHMARK_CAPTURE(decode, best_40_tokens, instruction_level(), 40, 0.05, 4);
BENCHMARK_CAPTURE(decode, best_wide, instruction_level(), 64, 4, 100);
BENCHMARK(encode);
BENCHMARK(best_table);
BENCHMARK(tables_of_columns);
BENCHMARK(encode_high_bytes);
BENCHMARK(decode_high_bytes);
BENCHMARK(make_universal);
BENCHMARK(make_encoder);

}  // namespace

BENCHMARK_MAIN();
