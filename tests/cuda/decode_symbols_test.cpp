#include "krul/cuda/kernels/decode_symbols.hpp"

#include <doctest/doctest.h>

#include "cuda/fibre_grid.hpp"
#include "krul/compress/entropy/symbol_decoder.hpp"
#include "krul/compress/entropy/symbol_encoder.hpp"

using namespace krul;
using cuda::DecodeSymbols, cuda::SymbolRun, cuda::SymbolStreams;
using krul::detail::DecodeOutcome;

namespace {

/// Runs of symbols as a chunk holds them, and their bytes.
struct Coded {
  std::vector<SymbolBlock> blocks;
  std::vector<std::vector<std::int16_t>> symbols;
  std::vector<std::vector<std::uint8_t>> tables;
  std::vector<std::byte> bytes;
  std::size_t streams = 0;
};

const TableSet& universal() {
  static const TableSet tables = TableSet::universal();
  return tables;
}

Coded random_chunk(const SymbolEncoder& encoder, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  Coded coded;
  std::vector<TabledSymbols> parts;
  const std::size_t runs = 1 + below(4);
  for (std::size_t i = 0; i < runs; ++i) {
    const SymbolBlock block{below(12), 1 + below(i % 2 == 0 ? 33 : 100)};
    auto& symbols = coded.symbols.emplace_back(block.symbols());
    auto& tables = coded.tables.emplace_back(block.columns);
    for (std::size_t column = 0; column < block.columns; ++column) {
      tables[column] = static_cast<std::uint8_t>(below(universal().size()));
      // Some of them far beyond what the table expects: escapes.
      const double spread = std::exp2(static_cast<double>(below(14)) - 3);
      std::normal_distribution<double> value(0, spread);
      for (std::size_t t = 0; t < block.tokens && tables[column] > 0; ++t)
        symbols[column * block.tokens + t] = static_cast<std::int16_t>(std::clamp(value(random), -32768.0, 32767.0));
    }
    coded.blocks.push_back(block);
    coded.streams = std::max(coded.streams, block.streams());
  }
  for (std::size_t i = 0; i < runs; ++i) parts.push_back({coded.blocks[i], coded.symbols[i], coded.tables[i]});
  coded.bytes = encoder.encode(parts);
  return coded;
}

/// What a device is given, and what it gives back.
struct OnDevice {
  std::vector<std::vector<std::int16_t>> symbols;
  std::vector<SymbolRun> runs;
  SymbolStreams chunk;

  OnDevice(const Coded& coded, std::span<const std::byte> bytes) {
    for (const SymbolBlock& block : coded.blocks) symbols.emplace_back(block.symbols(), std::int16_t{-1});
    for (std::size_t i = 0; i < coded.blocks.size(); ++i)
      runs.push_back({static_cast<std::uint32_t>(coded.blocks[i].columns),
                      static_cast<std::uint32_t>(coded.blocks[i].tokens), coded.tables[i].data(), symbols[i].data()});
    chunk = {bytes.data(), static_cast<std::uint32_t>(bytes.size()), static_cast<std::uint32_t>(coded.streams),
             runs.data(), static_cast<std::uint32_t>(runs.size())};
  }
};

DecodeSymbols kernel_of(std::span<const SymbolStreams> chunks, std::span<DecodeOutcome> outcomes) {
  const auto tables = universal().alias_tables();
  return {tables.data(), static_cast<std::uint32_t>(tables.size()), chunks.data(),
          static_cast<std::uint32_t>(chunks.size()), outcomes.data()};
}

/// What the processor's decoder says of the same bytes.
DecodeOutcome outcome_on_cpu(const Coded& coded, std::span<const std::byte> bytes) {
  const auto outcome = [](const Status& status) {
    if (status) return DecodeOutcome::sound;
    return status.error().code == ErrorCode::truncated ? DecodeOutcome::truncated : DecodeOutcome::bad_symbol;
  };
  auto decoder = SymbolDecoder::open(bytes, coded.streams, universal());
  if (!decoder) return outcome(propagate(decoder));
  for (std::size_t i = 0; i < coded.blocks.size(); ++i) {
    if (auto status = decoder->begin_block(coded.blocks[i], coded.tables[i]); !status) return outcome(status);
    std::vector<std::int16_t> out(coded.blocks[i].symbols());
    if (auto status = decoder->read(out); !status) return outcome(status);
  }
  return outcome(decoder->finish());
}

}  // namespace

TEST_CASE("a device decodes the symbols that were coded") {
  const SymbolEncoder encoder(universal());
  std::mt19937_64 random(11);
  for (int round = 0; round < 60; ++round) {
    std::vector<Coded> coded;
    for (int i = 0; i < 5; ++i) coded.push_back(random_chunk(encoder, random));
    std::vector<OnDevice> device;
    for (const Coded& each : coded) device.emplace_back(each, each.bytes);
    std::vector<SymbolStreams> chunks;
    for (const OnDevice& each : device) chunks.push_back(each.chunk);
    std::vector<DecodeOutcome> outcomes(chunks.size(), DecodeOutcome::bad_symbol);
    // Three warps a block: the last one of the second has nothing to do.
    cuda::test::run_grid(kernel_of(chunks, outcomes), {2, 96}, static_cast<std::uint64_t>(round));
    for (std::size_t i = 0; i < coded.size(); ++i) {
      CHECK(outcomes[i] == DecodeOutcome::sound);
      CHECK(device[i].symbols == coded[i].symbols);
    }
  }
}

TEST_CASE("of damaged bytes a device says what the processor says, and reads nothing beyond them") {
  const SymbolEncoder encoder(universal());
  std::mt19937_64 random(12);
  int found = 0;
  for (int round = 0; round < 200; ++round) {
    const Coded coded = random_chunk(encoder, random);
    // In memory of their own, so that a sanitizer sees what lies beyond.
    std::vector<std::byte> bytes(coded.bytes.begin(), coded.bytes.end());
    if (bytes.empty()) continue;
    switch (round % 3) {
      case 0:
        bytes.resize(random() % bytes.size());
        break;
      case 1:
        bytes[random() % bytes.size()] ^= static_cast<std::byte>(1U << random() % 8);
        break;
      default:
        bytes.push_back(std::byte{0});
    }
    bytes.shrink_to_fit();
    const OnDevice device(coded, bytes);
    DecodeOutcome outcome = DecodeOutcome::sound;
    cuda::test::run_grid(kernel_of({&device.chunk, 1}, {&outcome, 1}), {1, 32}, static_cast<std::uint64_t>(round));
    CHECK(outcome == outcome_on_cpu(coded, bytes));
    found += outcome != DecodeOutcome::sound ? 1 : 0;
  }
  CHECK(found > 150);
}

TEST_CASE("an index of a table that is not there is damage") {
  const SymbolEncoder encoder(universal());
  std::mt19937_64 random(13);
  Coded coded = random_chunk(encoder, random);
  while (coded.tables[0].empty()) coded = random_chunk(encoder, random);
  coded.tables[0][0] = static_cast<std::uint8_t>(universal().size());
  const OnDevice device(coded, coded.bytes);
  DecodeOutcome outcome = DecodeOutcome::sound;
  cuda::test::run_grid(kernel_of({&device.chunk, 1}, {&outcome, 1}), {1, 32}, 1);
  CHECK(outcome == DecodeOutcome::bad_symbol);
}
