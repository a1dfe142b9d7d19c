#include "krul/cuda/pair_decoder.hpp"

#include <doctest/doctest.h>

#include "cuda/cache_types.hpp"
#include "cuda/chunk_decoding.hpp"
#include "cuda/engine_pages.hpp"
#include "cuda/ordered_device.hpp"

using namespace krul;
using cuda::test::CodedChunk, cuda::test::OrderedDevice, cuda::test::Unordered;

namespace {

using ChunkDecoding = cuda::test::ChunkDecoding<OrderedDevice>;

/// Codings of merged and of reused pairs, all row codecs in turn.
constexpr std::uint8_t pair_coding(std::size_t round) {
  return static_cast<std::uint8_t>((round / 5 % 2 + 1) << 4 | (round % 5 + 1));
}

}  // namespace

TEST_CASE("a device decodes chunks of pairs of layers to the bits of the processor") {
  std::mt19937_64 random(1);
  std::size_t sound = 0;
  for (std::size_t round = 0; round < 300; ++round) {
    CAPTURE(round);
    const CodedChunk chunk(pair_coding(round), cuda::test::cache_types[round / 10 % 3], random);
    OrderedDevice device(round);
    CHECK(is_decoded_alike(device, chunk, random));
    sound += chunk.sound ? 1 : 0;
  }
  MESSAGE(sound << " of 300 are sound");
  CHECK(sound > 200);
}

TEST_CASE("of damaged chunks of pairs a device says what the processor says, and no other row changes") {
  std::mt19937_64 random(2);
  std::size_t sound = 0;
  for (std::size_t round = 0; round < 450; ++round) {
    CAPTURE(round);
    CodedChunk chunk(pair_coding(round), cuda::test::cache_types[round / 10 % 3], random);
    chunk.damage(random);
    OrderedDevice device(round);
    CHECK(is_decoded_alike(device, chunk, random));
    sound += chunk.sound ? 1 : 0;
  }
  MESSAGE(sound << " of 450 are sound nevertheless");
  CHECK(sound > 50);
  CHECK(sound < 300);
}

TEST_CASE("chunks share rooms, and a damaged one does not hide others, in every order of streams") {
  std::mt19937_64 random(3);
  const CodedChunk good(0x14, ElementType::f16, random);
  REQUIRE(good.sound);
  CodedChunk damaged = good;
  const std::size_t last = damaged.bytes.size() - 1;
  damaged.bytes[last] = std::byte{0x80};  // a code of -128
  damaged.decode();
  REQUIRE_FALSE(damaged.sound);
  const std::size_t layers[][2] = {{0, 3}, {1, 4}, {0, 2}};
  const auto run = [&](OrderedDevice& device) {
    ChunkDecoding decoding(device, good.geometry);
    const TokenRange tokens{3, 3 + good.tokens};
    bool same = decoding.decode(good, layers[0], 3) && decoding.decode(damaged, layers[1], 3);
    // Into a layer that has such rows already.
    same = same && decoding.decode(good, layers[2], 3);
    decoding.decoder.finish();
    for (const std::size_t layer : {0U, 2U, 3U}) same = same && decoding.present(layer, tokens);
    for (const std::size_t layer : {1U, 4U}) same = same && !decoding.present(layer, tokens);
    for (const auto& [layer, of_chunk] : {std::pair{0U, 0U}, std::pair{2U, 1U}, std::pair{3U, 1U}})
      same = same && decoding.holds(layer, tokens, &good.rows[of_chunk]);
    return same;
  };
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    OrderedDevice device(seed);
    CHECK(run(device));
  }
  OrderedDevice counted(1);
  REQUIRE(run(counted));
  std::size_t missed = 0;
  for (std::size_t left_out = 0; left_out < counted.waits(); ++left_out) {
    CAPTURE(left_out);
    OrderedDevice device(1, left_out);
    try {
      const bool same = run(device);
      CHECK(same);
    } catch (const Unordered&) {
      ++missed;
    }
  }
  CHECK(missed + 6 >= counted.waits());  // others cover these
}

TEST_CASE("a pair is decoded into pages") {
  std::mt19937_64 random(4);
  for (std::size_t round = 0; round < 30; ++round) {
    CAPTURE(round);
    const CodedChunk chunk(pair_coding(round), cuda::test::cache_types[round / 10 % 3], random);
    if (!chunk.sound) continue;
    OrderedDevice device(round);
    using Pages = cuda::test::EnginePages<OrderedDevice>;
    const Pages pages(device, chunk.geometry,
                      {.page_tokens = 4,
                       .pages = 16,
                       .order = round % 2 == 0 ? cuda::PageOrder::nhd : cuda::PageOrder::hnd,
                       .combined = round % 3 == 0});
    ChunkDecoding decoding(device, chunk.geometry);
    auto cache = pages.cache(device, chunk.geometry, decoding.ring, 4);
    cuda::PairDecoder<OrderedDevice> decoder(decoding.rooms, chunk.geometry);
    const TokenRange tokens{5, 5 + chunk.tokens};
    REQUIRE(decoder.decode(chunk.coding, {1, 3}, chunk.bytes, tokens, cache));
    REQUIRE(decoding.rooms->finish());
    for (const std::size_t i : {0U, 1U}) {
      OwnedKvRows found(chunk.geometry, chunk.tokens);
      cache.wait(cache.read_kv(2 * i + 1, tokens, found.view()));
      CHECK(found == chunk.rows[i]);
    }
  }
}

TEST_CASE("a chunk of no tokens is sound, and nothing runs") {
  std::mt19937_64 random(6);
  CodedChunk chunk(0x14, ElementType::f32, random);
  chunk.tokens = 0;
  OrderedDevice device(1);
  ChunkDecoding decoding(device, chunk.geometry);
  const std::size_t layers[] = {0, 1};
  CHECK(decoding.decode(chunk, layers, 0).error().code == ErrorCode::corrupt);
  chunk.bytes.resize(1);
  CHECK(decoding.decode(chunk, layers, 0));
  CHECK(decoding.rooms->finish());
}

TEST_CASE("chunks that are no pair's, or do not fit, are refused") {
  for (unsigned coding = 0; coding < 256; ++coding) {
    const bool is_pairs = (coding >> 4 == 1 || coding >> 4 == 2) && (coding & 15U) >= 1 && (coding & 15U) <= 5;
    CHECK(cuda::PairDecoder<OrderedDevice>::takes(static_cast<std::uint8_t>(coding)) == is_pairs);
  }
  std::mt19937_64 random(5);
  const CodedChunk chunk(0x12, ElementType::bf16, random);
  OrderedDevice device(1);
  ChunkDecoding decoding(device, chunk.geometry);
  const auto decode = [&](std::initializer_list<std::size_t> layers, std::size_t begin = 0) {
    const std::vector<std::size_t> of_chunk(layers);
    return decoding.decode(chunk, of_chunk, begin);
  };
  // As a manifest may say that was not written by a save.
  CHECK(decode({}).error().code == ErrorCode::corrupt);
  CHECK(decode({1}).error().code == ErrorCode::corrupt);
  CHECK(decode({0, 1, 2}).error().code == ErrorCode::corrupt);
  CHECK_THROWS_AS(static_cast<void>(decode({1, 5})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(decode({1, 1})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(decode({1, 2}, ChunkDecoding::capacity - chunk.tokens + 1)), PreconditionError);
  decoding.decoder.finish();
  for (std::size_t layer = 0; layer < 5; ++layer) CHECK(decoding.holds(layer, {}, nullptr));
  ChunkDecoding small(device, chunk.geometry, 64);
  const std::size_t layers[] = {0, 1};
  CHECK(small.decode(chunk, layers, 0).error().code == ErrorCode::too_large);
}
