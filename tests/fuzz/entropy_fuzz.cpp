// Feeds hostile tables, indices and bytes to the entropy decoders. Not part of the default build; from the root of the
// repository:
//
//   clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -Iinclude
//       tests/fuzz/entropy_fuzz.cpp src/compress/entropy/*.cpp -o build/entropy_fuzz
//   mkdir -p build/entropy_corpus && build/entropy_fuzz -max_total_time=60 -rss_limit_mb=512 build/entropy_corpus
//
// Every level has to give the same symbols or the same error. What was decoded is coded again and has to come back.
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "krul/compress/entropy/byte_coder.hpp"
#include "krul/compress/entropy/symbol_decoder.hpp"
#include "krul/compress/entropy/symbol_encoder.hpp"
#include "krul/compress/entropy/table_choice.hpp"

namespace {

using namespace krul;

void require(bool condition) {
  if (!condition) std::abort();
}

struct Outcome {
  Status status;
  std::vector<std::int16_t> symbols;
};

Outcome decode(std::span<const std::byte> bytes, SymbolBlock block, std::span<const std::uint8_t> indices,
               const TableSet& tables, InstructionLevel level) {
  Outcome outcome{{}, std::vector<std::int16_t>(block.symbols())};
  auto decoder = SymbolDecoder::open(bytes, block, indices, tables, level);
  if (!decoder) {
    outcome.status = propagate(decoder);
    return outcome;
  }
  outcome.status = decoder->read(outcome.symbols);
  if (outcome.status) outcome.status = decoder->finish();
  return outcome;
}

void check_symbols(std::span<const std::byte> input) {
  if (input.size() < 2) return;
  SymbolBlock block{std::to_integer<std::size_t>(input[0]) % 32, std::to_integer<std::size_t>(input[1]) % 100};
  input = input.subspan(2);
  // Tables out of the input, and where they are none, one that is.
  auto tables = TableSet::parse(input);
  if (!tables) tables = TableSet({SymbolTable::from_counts(std::vector<std::uint64_t>{3, 9, 5, 1}, block.tokens % 11)});
  std::vector<std::uint8_t> indices(block.columns);
  for (std::size_t i = 0; i < indices.size() && i < input.size(); ++i)
    indices[i] = std::to_integer<std::uint8_t>(input[i]) % 4;
  input = input.subspan(std::min(input.size(), indices.size()));
  const auto portable = decode(input, block, indices, *tables, built_levels.front());
  for (const auto level : Processor::detect().levels) {
    const auto other = decode(input, block, indices, *tables, level);
    require(other.status.has_value() == portable.status.has_value());
    require(!portable.status ? other.status.error() == portable.status.error() : other.symbols == portable.symbols);
  }
  if (!portable.status) return;
  const auto bytes = SymbolEncoder(*tables).encode(block, portable.symbols, indices);
  require(std::equal(bytes.begin(), bytes.end(), input.begin(), input.end()));  // there is only one code
}

void check_indices(std::span<const std::byte> input) {
  if (input.empty()) return;
  std::vector<std::uint8_t> predicted(std::to_integer<std::size_t>(input[0]), 20), out(predicted.size());
  if (!decode_tables(input.subspan(1), predicted, 63, out)) return;
  require(std::all_of(out.begin(), out.end(), [](auto index) { return index < 63; }));
  std::vector<std::uint8_t> again(out.size());
  require(decode_tables(encode_tables(out, predicted), predicted, 63, again).has_value() && again == out);
}

void check_bytes(std::span<const std::byte> input) {
  if (input.empty()) return;
  std::vector<std::byte> out(4 * std::to_integer<std::size_t>(input[0]));
  if (!decode_bytes(input.subspan(1), out)) return;
  std::vector<std::byte> again(out.size());
  require(decode_bytes(encode_bytes(out), again).has_value() && again == out);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::vector<std::byte> exact(reinterpret_cast<const std::byte*>(data + 1),
                                     reinterpret_cast<const std::byte*>(data + size));
  switch (data[0] % 3) {
    case 0:
      check_symbols(exact);
      break;
    case 1:
      check_indices(exact);
      break;
    default:
      check_bytes(exact);
      break;
  }
  return 0;
}
