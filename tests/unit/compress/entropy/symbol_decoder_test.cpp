#include "krul/compress/entropy/symbol_decoder.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <string>

#include "krul/reference/entropy.hpp"
#include "support/entropy_samples.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

struct Decoded {
  std::vector<std::int16_t> symbols;
  Status status;
};

/// Reads `columns` at a time. The bytes are copied to memory of their exact size, for tools that watch its ends.
Decoded decode(std::span<const std::byte> coded, SymbolBlock block, std::span<const std::uint8_t> tables,
               InstructionLevel level, std::size_t columns) {
  const std::vector<std::byte> bytes(coded.begin(), coded.end());
  Decoded result{std::vector<std::int16_t>(block.symbols()), {}};
  auto decoder = SymbolDecoder::open(bytes, block, tables, universal_tables(), level);
  if (!decoder) {
    result.status = propagate(decoder);
    return result;
  }
  for (std::size_t at = 0; at < block.columns && result.status; at += columns) {
    const std::size_t here = std::min(columns, block.columns - at);
    result.status = decoder->read(std::span(result.symbols).subspan(at * block.tokens, here * block.tokens));
  }
  if (result.status) result.status = decoder->finish();
  return result;
}

std::string hexadecimal(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes)
    for (const unsigned shift : {4U, 0U}) text += "0123456789abcdef"[std::to_integer<unsigned>(byte) >> shift & 15];
  return text;
}

/// 8 columns x 37 tokens of every kind, by integers alone.
SymbolSample golden_sample() {
  SymbolSample sample{{8, 37}, {}, {1, 0, 9, 20, 31, 40, 50, 62}};
  std::uint32_t state = 1;
  for (std::size_t column = 0; column < 8; ++column)
    for (std::size_t t = 0; t < 37; ++t) {
      state = state * 1664525 + 1013904223;
      const auto spread = static_cast<std::int32_t>(1U << column);
      const auto a = static_cast<std::int32_t>(state >> 20) % (2 * spread) - spread;
      sample.symbols.push_back(static_cast<std::int16_t>(column == 1 ? 0 : a * (t == 19 ? 100 : 1) / 2));
    }
  return sample;
}

constexpr std::string_view golden_bytes =
    "153b0100e4c36500f9032a2756343006ac7e0c00533a5b007a197d9e6cfe04006dbaf900630106006834db009204041576410800"
    "a0a07300263e01007146edc4a9030700bec0a76377149103a1d2a2e309e9643cbbae25088bc10700305e3c008363ed3c00038301"
    "a0aebb00e3801a008f7e070029cd151127be0100b41303002602190048c66a01f66d0d39772200c0016c18d978fca5de05230043"
    "84e98e00c3682f01008c4726aeddaa4caad30f4f2a9d55c2a183343ce8ce2d919370ef115abc002f0bcf348feed90e9118167c0f"
    "55b32242655d8a05e61d09656085b41b2f42ca62fc2ebf1b8bc4c002c38b344b6687a2073b1e9b9edccd9983d1bd76264e22ca7d"
    "003f500b81711a584739bf35247708bf0737ac74cc3757b80975190c";

}  // namespace

TEST_CASE("every level decodes what was coded, whatever the shape") {
  for (const std::size_t tokens : {1U, 2U, 15U, 16U, 17U, 31U, 32U, 33U, 63U, 64U, 65U, 256U})
    for (const std::size_t columns : {1U, 3U, 40U})
      for (const auto family : symbol_families) {
        CAPTURE(tokens);
        CAPTURE(columns);
        CAPTURE(family);
        const auto sample = symbol_sample(family, {columns, tokens}, 1);
        const auto bytes = universal_encoder().encode(sample.block, sample.symbols, sample.tables);
        const auto twin = reference::decode_symbols(bytes, sample.block, sample.tables, universal_tables());
        CHECK(std::equal(twin.begin(), twin.end(), sample.symbols.begin(), sample.symbols.end()));
        for (const auto level : Processor::detect().levels)
          for (const std::size_t at_once : {std::size_t{1}, std::size_t{7}, columns}) {
            CAPTURE(name(level));
            const auto decoded = decode(bytes, sample.block, sample.tables, level, at_once);
            CHECK(decoded.status);
            CHECK(decoded.symbols == sample.symbols);
          }
        std::vector<std::int16_t> all(sample.symbols.size());
        CHECK(decode_symbols(bytes, sample.block, sample.tables, universal_tables(), all));
        CHECK(all == sample.symbols);
      }
}

TEST_CASE("every symbol of 16 bits can be coded with every table") {
  SymbolSample sample{{universal_tables().size() - 1, 8}, {}, {}};
  for (std::uint8_t index = 1; index < universal_tables().size(); ++index) {
    sample.tables.push_back(index);
    for (const int symbol : {-32768, 32767, -32767, 0, 1, -1, 300, -301})
      sample.symbols.push_back(static_cast<std::int16_t>(symbol));
  }
  const auto bytes = universal_encoder().encode(sample.block, sample.symbols, sample.tables);
  for (const auto level : Processor::detect().levels)
    CHECK(decode(bytes, sample.block, sample.tables, level, 4).symbols == sample.symbols);
}

TEST_CASE("the bytes of a block never change") {
  const auto sample = golden_sample();
  const auto bytes = universal_encoder().encode(sample.block, sample.symbols, sample.tables);
  CHECK(hexadecimal(bytes) == golden_bytes);
  for (const auto level : Processor::detect().levels) {
    const auto decoded = decode(bytes, sample.block, sample.tables, level, 3);
    CHECK(decoded.status);
    CHECK(decoded.symbols == sample.symbols);
  }
}

TEST_CASE("blocks without symbols have no bytes") {
  for (const SymbolBlock block : {SymbolBlock{0, 64}, SymbolBlock{3, 0}}) {
    const std::vector<std::uint8_t> tables(block.columns, 1);
    CHECK(decode_symbols({}, block, tables, universal_tables(), {}));
    const std::vector<std::byte> more(4);
    CHECK(decode_symbols(more, block, tables, universal_tables(), {}).error().code == ErrorCode::corrupt);
  }
}

TEST_CASE("every cut is noticed on every level") {
  for (const std::size_t tokens : {5U, 40U}) {
    const auto sample = symbol_sample("small", {40, tokens}, 3);
    const auto bytes = universal_encoder().encode(sample.block, sample.symbols, sample.tables);
    for (std::size_t size = 0; size < bytes.size(); ++size)
      for (const auto level : Processor::detect().levels)
        CHECK(!decode(std::span(bytes).first(size), sample.block, sample.tables, level, 9).status);
  }
}

TEST_CASE("damage is the same at every level, and mostly noticed") {
  std::mt19937 random(4);
  int noticed = 0, rounds = 0;
  for (const auto family : symbol_families)
    for (const std::size_t tokens : {3U, 32U, 50U}) {
      const auto sample = symbol_sample(family, {30, tokens}, 4);
      const auto bytes = universal_encoder().encode(sample.block, sample.symbols, sample.tables);
      for (int round = 0; round < 200; ++round, ++rounds) {
        auto hurt = bytes;
        for (unsigned flips = 0; flips <= round % 4U; ++flips)
          hurt[random() % hurt.size()] ^= static_cast<std::byte>(1 + random() % 255);
        if (round % 5 == 0) hurt.resize(hurt.size() - random() % 10);
        if (round % 5 == 1) hurt.resize(hurt.size() + random() % 10, std::byte{1});
        const auto first = decode(hurt, sample.block, sample.tables, built_levels.front(), 6);
        noticed += first.status ? 0 : 1;
        for (const auto level : Processor::detect().levels) {
          const auto other = decode(hurt, sample.block, sample.tables, level, 6);
          REQUIRE(other.status.has_value() == first.status.has_value());
          if (!first.status) REQUIRE(other.status.error() == first.status.error());
          if (first.status) REQUIRE(other.symbols == first.symbols);
        }
      }
    }
  // What ends with the right states in the right place is damage of a stream's own last word, which is rare.
  CHECK(noticed > rounds * 9 / 10);
}

TEST_CASE("indices that are not in the set are damage") {
  const auto sample = symbol_sample("small", {4, 40}, 5);
  const auto bytes = universal_encoder().encode(sample.block, sample.symbols, sample.tables);
  auto tables = sample.tables;
  tables[2] = 63;
  for (const auto level : Processor::detect().levels)
    CHECK(decode(bytes, sample.block, tables, level, 4).status.error().code == ErrorCode::corrupt);
}

TEST_CASE("states that no encoder leaves are damage, and missing ones a cut") {
  const SymbolBlock block{1, 2};
  const std::vector<std::uint8_t> tables{1};
  const std::vector<std::byte> low(8, std::byte{0});
  CHECK(decode(low, block, tables, built_levels.front(), 1).status.error().code == ErrorCode::corrupt);
  CHECK(decode(std::span(low).first(7), block, tables, built_levels.front(), 1).status.error().code ==
        ErrorCode::truncated);
}

TEST_CASE("the decoder refuses what does not fit") {
  const auto sample = symbol_sample("small", {4, 40}, 6);
  const auto bytes = universal_encoder().encode(sample.block, sample.symbols, sample.tables);
  const auto open = [&](std::span<const std::uint8_t> tables) {
    return SymbolDecoder::open(bytes, sample.block, tables, universal_tables());
  };
  CHECK_THROWS_AS((void)open(std::span(sample.tables).first(3)), PreconditionError);
  auto decoder = open(sample.tables);
  REQUIRE(decoder);
  std::vector<std::int16_t> out(5 * 40);
  CHECK_THROWS_AS((void)decoder->read(std::span(out).first(41)), PreconditionError);
  CHECK_THROWS_AS((void)decoder->read(out), PreconditionError);
  CHECK_THROWS_AS((void)decoder->finish(), PreconditionError);
  CHECK_THROWS_AS((void)decode_symbols(bytes, sample.block, sample.tables, universal_tables(), out), PreconditionError);
}
