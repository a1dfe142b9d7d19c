#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "cuda/coded_chunk.hpp"
#include "krul/cuda/device_decoder.hpp"

namespace krul::cuda::test {

/// A device with a cache in which every row has known bytes and none counts as present, and a decoder.
template <DeviceApi Device>
struct ChunkDecoding {
  using Ring = StagingRing<Device>;
  using Rooms = DecodingRooms<Device>;
  static constexpr std::size_t capacity = 30;

  std::shared_ptr<Ring> ring;
  DeviceKvCache<Device> cache;
  std::shared_ptr<Rooms> rooms;
  DeviceDecoder<Device> decoder;

  ChunkDecoding(Device& device, const Geometry& geometry, std::size_t room_bytes = std::size_t{1} << 18)
      : ring(std::make_shared<Ring>(device, device.make_stream().value(),
                                    typename Ring::Size{.slots = 3, .slot_bytes = 4096})),
        cache(device, geometry, capacity, ring),
        rooms(std::make_shared<Rooms>(device, ring, typename Rooms::Size{.rooms = 2, .room_bytes = room_bytes})),
        decoder(rooms, nullptr, geometry) {
    OwnedKvRows known(geometry, capacity);
    std::ranges::fill(known.keys, before);
    std::ranges::fill(known.values, before);
    for (std::size_t layer = 0; layer < cache.layers(); ++layer) cache.wait(cache.write_kv(layer, all, known.view()));
    cache.truncate(0);
  }

  /// Asks for a chunk into layers from a token on.
  [[nodiscard]] Status decode(const CodedChunk& chunk, std::span<const std::size_t> layers, std::size_t begin) {
    return decoder.decode(
        {.coding = chunk.coding, .layers = layers, .tokens = {begin, begin + chunk.tokens}, .bytes = chunk.bytes},
        cache);
  }
  /// Whether a layer's rows from a token on are all there.
  [[nodiscard]] bool present(std::size_t layer, TokenRange tokens) const {
    return cache.present(layer).contains(tokens);
  }
  /// Whether these rows of a layer, and no others, have changed: to what is expected, or if that is null to anything.
  [[nodiscard]] bool holds(std::size_t layer, TokenRange tokens, const OwnedKvRows* expected) {
    cache.mark_present(layer, all);
    OwnedKvRows found(rows_of_all());
    cache.wait(cache.read_kv(layer, all, found.view()));
    return holds(found.keys, tokens, expected == nullptr ? nullptr : &expected->keys) &&
           holds(found.values, tokens, expected == nullptr ? nullptr : &expected->values);
  }

 private:
  static constexpr std::byte before{0x5a};
  static constexpr TokenRange all{0, capacity};

  [[nodiscard]] OwnedKvRows rows_of_all() const {
    OwnedKvRows rows;
    rows.keys.resize(capacity * cache.row_bytes());
    rows.values.resize(rows.keys.size());
    return rows;
  }
  [[nodiscard]] bool holds(std::span<const std::byte> found, TokenRange tokens,
                           const std::vector<std::byte>* expected) const {
    const std::size_t begin = tokens.begin * cache.row_bytes(), end = tokens.end * cache.row_bytes();
    const auto unchanged = [](std::span<const std::byte> rows) {
      return std::ranges::all_of(rows, [](std::byte each) { return each == before; });
    };
    return unchanged(found.first(begin)) && unchanged(found.subspan(end)) &&
           (expected == nullptr || std::ranges::equal(found.subspan(begin, end - begin), *expected));
  }
};

/// Decodes a chunk on a device into some of its layers, and compares with the processor.
/// @return whether the verdict is the same, sound rows have the same bits, and no others have changed
template <DeviceApi Device>
[[nodiscard]] bool is_decoded_alike(Device& device, const CodedChunk& chunk, std::mt19937_64& random) {
  using Decoding = ChunkDecoding<Device>;
  Decoding decoding(device, chunk.geometry);
  std::vector<std::size_t> layers(chunk.geometry.layers);
  for (std::size_t i = 0; i < layers.size(); ++i) layers[i] = i;
  while (layers.size() > chunk.rows.size())
    layers.erase(layers.begin() + static_cast<std::ptrdiff_t>(random() % layers.size()));
  const std::size_t begin = random() % (Decoding::capacity - chunk.tokens + 1);
  const TokenRange tokens{begin, begin + chunk.tokens};
  const bool asked = decoding.decode(chunk, layers, begin).has_value();
  decoding.decoder.finish();
  bool alike = asked || !chunk.sound;
  for (std::size_t layer = 0, next = 0; layer < chunk.geometry.layers; ++layer) {
    const bool is_of_chunk = next < layers.size() && layers[next] == layer;
    alike = alike && decoding.present(layer, tokens) == (is_of_chunk && chunk.sound);
    alike = alike && decoding.holds(layer, is_of_chunk && asked ? tokens : TokenRange{},
                                    is_of_chunk && chunk.sound ? &chunk.rows[next] : nullptr);
    next += is_of_chunk ? 1 : 0;
  }
  return alike;
}

}  // namespace krul::cuda::test
