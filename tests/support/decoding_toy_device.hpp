#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/coding_set.hpp"
#include "krul/compress/decodes_chunks.hpp"
#include "support/toy_device.hpp"

namespace krul::test {

/// The toy device with kernels for one of krul's row codecs: a chunk takes as many seconds as its maker says.
struct DecodingToyDevice : ToyDevice {
  struct Decoder {
    const DecodingToyDevice* device;

    [[nodiscard]] bool takes(std::uint8_t coding) const { return coding == device->decoded; }
    [[nodiscard]] Status decode(const StoredChunk& chunk, Cache& cache) const {
      const auto coder = CodingSet().find({chunk.coding});
      std::vector<std::byte> keys(chunk.tokens.size() * device->geometry().kv_row_bytes()), values(keys.size());
      const MutableKvRows rows{keys, values};
      const BlockContext context{static_cast<Position>(chunk.tokens.begin), {}};
      if (!coder || !coder->decode(device->geometry(), chunk.bytes, std::span(&rows, 1), context))
        return fail(ErrorCode::corrupt, "no chunk");
      device->take(device->chunk_s);
      cache.inner.write_kv(chunk.layers.front(), chunk.tokens, {keys, values});
      return {};
    }
    void finish() const {}
  };

  std::uint8_t decoded = krul_coding_number("int8").value();
  int chunk_s = 1;

  [[nodiscard]] Decoder make_decoder(const std::shared_ptr<const Profile>&) { return {this}; }
};
static_assert(DecodesChunks<DecodingToyDevice>);

}  // namespace krul::test
