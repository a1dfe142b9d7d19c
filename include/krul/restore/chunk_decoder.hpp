#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "krul/backend/kv_cache.hpp"
#include "krul/compress/any_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/core/workers.hpp"
#include "krul/restore/link_lane.hpp"

namespace krul {

/// Turns what was read into rows of the cache.
class ChunkDecoder {
 public:
  /// @param history  N: tokens of the saved state that are wanted; rows behind them are decoded and dropped
  ChunkDecoder(const Geometry& geometry, const Manifest& manifest, std::size_t history)
      : geometry_(geometry), manifest_(manifest), history_(history) {}

  /// The wanted tokens of a block.
  [[nodiscard]] TokenRange tokens_of(std::size_t block) const noexcept {
    return {block * manifest_.block, std::min((block + 1) * manifest_.block, history_)};
  }

  /// Decodes the good chunks of an arrival in parallel and writes them; appends the others' blocks to `broken`.
  /// @post every wanted row of a good chunk is present in its layer; no other row has changed
  template <KvCache Cache>
  void decode(const Arrival& arrival, Cache& cache, Workers& workers, std::vector<std::size_t>& broken) {
    const ReadRequest& request = arrival.request;
    std::vector<std::size_t> offsets(request.blocks, 0);
    for (std::size_t i = 1; i < request.blocks; ++i)
      offsets[i] = offsets[i - 1] + manifest_.chunk(request.layer, request.first_block + i - 1).bytes;

    std::vector<char> decoded(request.blocks, 0);
    std::vector<Rows> rows(HostViewableCache<Cache> ? 0 : request.blocks);
    workers.parallel_for(request.blocks, [&](std::size_t i, std::size_t) {
      if (!arrival.good[i]) return;
      const std::size_t block = request.first_block + i;
      const auto bytes = std::span(arrival.bytes).subspan(offsets[i], manifest_.chunk(request.layer, block).bytes);
      if constexpr (HostViewableCache<Cache>) {
        const TokenRange tokens = tokens_of(block);
        const std::size_t at = tokens.begin * geometry_.kv_row_bytes(),
                          length = tokens.size() * geometry_.kv_row_bytes();
        const MutableKvRows view = cache.view(request.layer);
        decoded[i] =
            decode_chunk(block, request.layer, bytes, {view.keys.subspan(at, length), view.values.subspan(at, length)});
      } else {
        const std::size_t length = tokens_of(block).size() * geometry_.kv_row_bytes();
        rows[i] = {std::vector<std::byte>(length), std::vector<std::byte>(length)};
        decoded[i] = decode_chunk(block, request.layer, bytes, {rows[i].keys, rows[i].values});
      }
    });
    for (std::size_t i = 0; i < request.blocks; ++i) {
      const std::size_t block = request.first_block + i;
      if (!decoded[i]) {
        broken.push_back(block);
      } else if constexpr (HostViewableCache<Cache>) {
        cache.mark_present(request.layer, tokens_of(block));
      } else {
        cache.wait(cache.write_kv(request.layer, tokens_of(block), {rows[i].keys, rows[i].values}));
      }
    }
  }

 private:
  struct Rows {
    std::vector<std::byte> keys, values;
  };

  /// @param to  the wanted rows of the block
  bool decode_chunk(std::size_t block, std::size_t layer, std::span<const std::byte> bytes, MutableKvRows to) const {
    const auto codec = row_codec_from_id(std::byte{manifest_.chunk(layer, block).codec});
    if (!codec) return false;
    const LayerPairCompressor<Separate, AnyRowCodec> compressor({}, *codec);
    const std::size_t stored = std::min<std::size_t>(manifest_.block, manifest_.rows - block * manifest_.block);
    if (stored == tokens_of(block).size()) return compressor.decode(geometry_, bytes, to).has_value();
    Rows whole{std::vector<std::byte>(stored * geometry_.kv_row_bytes()),
               std::vector<std::byte>(stored * geometry_.kv_row_bytes())};
    if (!compressor.decode(geometry_, bytes, MutableKvRows{whole.keys, whole.values})) return false;
    std::copy_n(whole.keys.begin(), to.keys.size(), to.keys.begin());
    std::copy_n(whole.values.begin(), to.values.size(), to.values.begin());
    return true;
  }

  Geometry geometry_;
  const Manifest& manifest_;
  std::size_t history_;
};

}  // namespace krul
