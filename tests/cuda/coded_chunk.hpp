#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "krul/backend/owned_kv_rows.hpp"
#include "krul/compress/any_codec.hpp"
#include "krul/compress/coding_set.hpp"
#include "krul/compress/direct_reuse.hpp"
#include "krul/compress/slerp_merge.hpp"

namespace krul::cuda::test {

/// A chunk of one layer or of a pair, of random shape and values, and what the processor makes of it.
struct CodedChunk {
  Geometry geometry;
  std::uint8_t coding = 0;
  std::size_t tokens = 0;
  std::vector<std::byte> bytes;
  std::vector<OwnedKvRows> rows = {};  ///< [layers of the chunk] as decoded
  bool sound = false;                  ///< and whether they may be used

  CodedChunk(std::uint8_t coding, ElementType type, std::mt19937_64& random)
      : geometry{.layers = 5, .kv_heads = 1 + random() % 4, .head_dim = 1 + random() % 70, .cache_type = type},
        coding(coding),
        tokens(1 + random() % 19) {
    const std::size_t layers = coding >> 4 == 0 ? 1 : 2;
    for (std::size_t layer = 0; layer < layers; ++layer) rows.emplace_back(geometry, tokens);
    for (const auto tensor : {&OwnedKvRows::keys, &OwnedKvRows::values}) fill(tensor, random);
    bytes = encode(random);
    decode();
  }

  /// Decodes what the bytes have become.
  void decode() {
    std::vector<MutableKvRows> to;
    for (OwnedKvRows& each : rows) to.push_back(each.view());
    sound = CodingSet().find({coding}).value().decode(geometry, bytes, to).has_value();
    for (const MutableKvRows& each : to)
      sound = sound && are_finite(geometry.cache_type, each.keys) && are_finite(geometry.cache_type, each.values);
  }
  /// Changes the bytes as a broken disc does, or somebody who knows what is where.
  void damage(std::mt19937_64& random) {
    const auto any = [&] { return static_cast<std::byte>(random()); };
    switch (random() % 5) {
      case 0:
        bytes.resize(random() % bytes.size());
        break;
      case 1:
        bytes.push_back(any());
        break;
      case 2:  // flags, where there are some
        bytes[0] = static_cast<std::byte>(random() % 9);
        break;
      case 3:  // what is retained and scales, or peaks
        bytes[std::min<std::size_t>(random() % 12, bytes.size() - 1)] = any();
        break;
      default:
        for (int i = 0; i < 4; ++i) bytes[random() % bytes.size()] = any();
    }
    decode();
  }

 private:
  /// Rows of which the deeper layer's are somewhat like the shallower one's, and some that nobody can merge.
  void fill(std::vector<std::byte> OwnedKvRows::*tensor, std::mt19937_64& random) {
    std::normal_distribution<float> value(0, std::exp2(static_cast<float>(random() % 20) - 10));
    std::vector<float> values(tokens * geometry.kv_values()), others(values.size());
    for (float& each : values) each = value(random);
    for (std::size_t i = 0; i < values.size(); ++i) others[i] = 0.8F * values[i] + 0.3F * value(random);
    if (random() % 4 == 0) std::fill_n(values.begin(), geometry.kv_values(), 0.0F);
    if (random() % 4 == 0)
      std::fill_n(others.end() - static_cast<std::ptrdiff_t>(geometry.head_dim), geometry.head_dim, 0.0F);
    if (random() % 12 == 0) values[random() % values.size()] = std::numeric_limits<float>::infinity();
    from_float(geometry.cache_type, values, rows.front().*tensor);
    if (rows.size() == 2) from_float(geometry.cache_type, others, rows.back().*tensor);
  }
  [[nodiscard]] std::vector<std::byte> encode(std::mt19937_64& random) const {
    std::vector<KvRows> from;
    for (const OwnedKvRows& each : rows) from.push_back(each.view());
    const AnyRowCodec codec = row_codec_from_number(coding & 0xfU).value();
    const std::uint64_t which = random() % 3;  // K, V, or both
    if (coding >> 4 == 0) return LayerPairCompressor(Separate{}, codec).encode(geometry, from);
    if (coding >> 4 == 2) {
      const DirectReuse::Settings settings{
          .kept = random() % 2 == 0 ? DirectReuse::Kept::deeper : DirectReuse::Kept::shallower,
          .share_keys = which != 1,
          .share_values = which != 0};
      return LayerPairCompressor(DirectReuse(settings), codec).encode(geometry, from);
    }
    const SlerpMerge::Settings settings{.t = static_cast<double>(random() % 11) / 10,
                                        .gamma = static_cast<double>(random() % 11) / 10,
                                        .width = random() % 2 == 0 ? SlerpMerge::Width::head : SlerpMerge::Width::token,
                                        .merge_keys = which != 1,
                                        .merge_values = which != 0};
    return LayerPairCompressor(SlerpMerge(settings), codec).encode(geometry, from);
  }
};

}  // namespace krul::cuda::test
