#include "krul/cuda/row_decoder.hpp"

#include <doctest/doctest.h>

#include "cuda/cache_types.hpp"
#include "cuda/chunk_decoding.hpp"
#include "cuda/ordered_device.hpp"

using namespace krul;
using cuda::test::CodedChunk, cuda::test::OrderedDevice;

namespace {

using ChunkDecoding = cuda::test::ChunkDecoding<OrderedDevice>;

constexpr std::uint8_t row_coding(std::size_t round) {
  return static_cast<std::uint8_t>(round % 5 + 1);
}

}  // namespace

TEST_CASE("a device decodes chunks of one layer to the bits of the processor, and finds what is damaged") {
  std::mt19937_64 random(1);
  std::size_t sound = 0, damaged = 0;
  for (std::size_t round = 0; round < 450; ++round) {
    CAPTURE(round);
    CodedChunk chunk(row_coding(round), cuda::test::cache_types[round / 5 % 3], random);
    if (round % 2 != 0) chunk.damage(random);
    OrderedDevice device(round);
    CHECK(is_decoded_alike(device, chunk, random));
    (chunk.sound ? sound : damaged) += 1;
  }
  MESSAGE(sound << " of 450 are sound");
  CHECK(sound > 200);
  CHECK(damaged > 100);
}

TEST_CASE("chunks that are not one layer's, or do not fit, are refused") {
  for (unsigned coding = 0; coding < 256; ++coding)
    CHECK(cuda::RowDecoder<OrderedDevice>::takes(static_cast<std::uint8_t>(coding)) == (coding >= 1 && coding <= 5));
  std::mt19937_64 random(2);
  CodedChunk chunk(0x05, ElementType::f16, random);
  OrderedDevice device(1);
  ChunkDecoding decoding(device, chunk.geometry);
  const std::size_t layers[] = {1, 2};
  CHECK(decoding.decode(chunk, layers, 0).error().code == ErrorCode::corrupt);
  CHECK_THROWS_AS(static_cast<void>(decoding.decode(chunk, std::span(layers).first(1), ChunkDecoding::capacity)),
                  PreconditionError);
  const std::size_t none[] = {5};
  CHECK_THROWS_AS(static_cast<void>(decoding.decode(chunk, none, 0)), PreconditionError);
  ChunkDecoding small(device, chunk.geometry, 64);
  CHECK(small.decode(chunk, std::span(layers).first(1), 0).error().code == ErrorCode::too_large);
  chunk.bytes.push_back({});
  CHECK(decoding.decode(chunk, std::span(layers).first(1), 0).error().code == ErrorCode::corrupt);
  chunk.coding = 0x32;
  CHECK_THROWS_AS(static_cast<void>(decoding.decode(chunk, std::span(layers).first(1), 0)), PreconditionError);
  decoding.decoder.finish();
  for (std::size_t layer = 0; layer < 5; ++layer) CHECK(decoding.holds(layer, {}, nullptr));
}
