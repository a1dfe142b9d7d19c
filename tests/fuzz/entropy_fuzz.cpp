// Hostile tables, indices and bytes for the entropy decoders. Every level has to give the same symbols or the same
// error. What was decoded is coded again and has to come back.
#include <algorithm>
#include <vector>

#include "fuzz_target.hpp"
#include "krul/compress/entropy/byte_coder.hpp"
#include "krul/compress/entropy/symbol_decoder.hpp"
#include "krul/compress/entropy/symbol_encoder.hpp"
#include "krul/compress/entropy/table_choice.hpp"

namespace krul::fuzz {
namespace {

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

/// Tables that depend on a number a little.
TableSet usual_tables(std::size_t tokens) {
  return TableSet(
      {SymbolTable::from_counts(std::vector<std::uint64_t>{3, 9, 5, 1}, static_cast<unsigned>(tokens % 11))});
}

void check_symbols(std::span<const std::byte> input) {
  if (input.size() < 2) return;
  SymbolBlock block{std::to_integer<std::size_t>(input[0]) % 32, std::to_integer<std::size_t>(input[1]) % 100};
  input = input.subspan(2);
  // Tables out of the input, and where they are none, one that is.
  auto tables = TableSet::parse(input);
  if (!tables) tables = usual_tables(block.tokens);
  std::vector<std::uint8_t> indices(block.columns);
  for (std::size_t i = 0; i < indices.size() && i < input.size(); ++i)
    indices[i] = std::to_integer<std::uint8_t>(input[i]) % 4;
  input = input.subspan(std::min(input.size(), indices.size()));
  const auto portable = decode(input, block, indices, *tables, built_levels.front());
  for (const auto level : Processor::detect().levels) {
    const auto other = decode(input, block, indices, *tables, level);
    require(other.status.has_value() == portable.status.has_value(), "a level of the entropy decoder refuses");
    require(!portable.status ? other.status.error() == portable.status.error() : other.symbols == portable.symbols,
            "a level of the entropy decoder differs");
  }
  if (!portable.status) return;
  const auto bytes = SymbolEncoder(*tables).encode(block, portable.symbols, indices);
  require(std::equal(bytes.begin(), bytes.end(), input.begin(), input.end()), "a block has two codes");
}

void check_indices(std::span<const std::byte> input) {
  if (input.empty()) return;
  std::vector<std::uint8_t> predicted(std::to_integer<std::size_t>(input[0]), 20), out(predicted.size());
  if (!decode_tables(input.subspan(1), predicted, 63, out)) return;
  require(std::all_of(out.begin(), out.end(), [](auto index) { return index < 63; }), "no such table");
  std::vector<std::uint8_t> again(out.size());
  require(decode_tables(encode_tables(out, predicted), predicted, 63, again).has_value() && again == out,
          "indices do not come back");
}

void check_bytes(std::span<const std::byte> input) {
  if (input.empty()) return;
  std::vector<std::byte> out(4 * std::to_integer<std::size_t>(input[0]));
  if (!decode_bytes(input.subspan(1), out)) return;
  std::vector<std::byte> again(out.size());
  require(decode_bytes(encode_bytes(out), again).has_value() && again == out, "bytes do not come back");
}

void read_entropy(std::span<const std::byte> input) {
  if (input.empty()) return;
  const Bytes exact(input.begin() + 1, input.end());  // whose end sanitizers know
  switch (std::to_integer<unsigned>(input[0]) % 3) {
    case 0:
      return check_symbols(exact);
    case 1:
      return check_indices(exact);
    default:
      return check_bytes(exact);
  }
}

std::vector<Bytes> entropy_seeds() {
  std::vector<Bytes> seeds;
  for (const unsigned tokens : {1U, 11U, 33U, 66U}) {
    constexpr unsigned columns = 3;
    std::vector<std::int16_t> symbols;
    for (unsigned i = 0; i < columns * tokens; ++i)
      symbols.push_back(static_cast<std::int16_t>(i / tokens == 1 ? 0 : i % 5 == 0 ? 40 : i % 3));
    // Where no tables are read, those of the input's own kind are taken, and the indices are its first bytes.
    const TableSet tables = usual_tables(tokens);
    const std::vector<std::uint8_t> indices = {1, 0, 1};
    Bytes seed = joined({0, columns, tokens}, std::as_bytes(std::span(indices)));
    const auto coded = SymbolEncoder(tables).encode({columns, tokens}, symbols, indices);
    seed.insert(seed.end(), coded.begin(), coded.end());
    seeds.push_back(std::move(seed));
  }
  seeds.push_back(joined({0, 3, 7}, usual_tables(0).serialize()));
  const std::vector<std::uint8_t> indices = {20, 21, 19, 20, 62, 0}, predicted(6, 20);
  seeds.push_back(joined({1, 6}, encode_tables(indices, predicted)));
  Bytes text(40, std::byte{'a'});
  text[7] = std::byte{0xff};
  seeds.push_back(joined({2, 10}, encode_bytes(text)));
  return seeds;
}

}  // namespace

Target entropy_target() {
  return {"entropy", read_entropy, entropy_seeds};
}

}  // namespace krul::fuzz
