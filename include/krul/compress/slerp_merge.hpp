#pragma once

#include <limits>

#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/detail/merge_kernels.hpp"
#include "krul/compress/detail/merged_tokens.hpp"
#include "krul/compress/detail/shared_chunk.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/core/half.hpp"

namespace krul {

/// Both layers of a pair point the same way: a token keeps one direction and each layer's own length.
///
/// For a token with rows x (shallower) and y (deeper) at the angle W, K and V each by itself,
///
///   e = sin((1-t) W) / sin W * y / |y|  +  sin(t W) / sin W * x / |x|,      x' = e |x|,  y' = e |y|
///
/// so t is how far the direction lies from the deeper layer's to the shallower one's. Tokens whose layers differ most
/// are retained, both rows as they are: those with W > W_max - gamma (W_max - W_min) within the chunk, and those that
/// cannot be merged: a row is zero, not finite or of a size that the stored length cannot hold, or the rows are
/// opposite.
///
/// What comes back: retained tokens, and a tensor that is not merged, with the row codec's error and nothing else. Of a
/// merged token the lengths are kept within 2^-11 and the rounding to the cache's type; its two rows have one
/// direction, which is e within the row codec's error. How far e is from x and y is the layers' matter. Merging what
/// came back again retains the same tokens unless the codec's error exceeds their margin, and moves nothing by more
/// than these errors.
///
/// The rotary embedding turns both layers' K of a token by the same orthogonal map, which changes neither W nor a
/// length: rows may be merged before or after it. A chunk is described in docs/format.md.
///
/// @source MiniCache (arXiv:2405.14366; second-hand): formula, t, gamma. Retaining the most different tokens, where the
///         formula as printed selects the most similar ones; the threshold within a chunk; lengths per head: ours
class SlerpMerge {
 public:
  /// What one length and one angle of a token are taken over.
  enum class Width : std::uint8_t {
    token,  ///< all G * D values
    head,   ///< each head's D values; a token's angle is then the largest of its heads'
  };
  struct Settings {
    double t = 0.6;       ///< 0: the deeper layer's direction, 1: the shallower one's
    double gamma = 0.05;  ///< share of the range of angles, from the largest down, that is retained
    Width width = Width::token;
    bool merge_keys = true;  ///< a tensor that is not merged is stored for both layers
    bool merge_values = true;
  };

  SlerpMerge() noexcept = default;
  /// @throws PreconditionError unless t and gamma are in [0, 1] and K or V is merged
  explicit SlerpMerge(Settings settings) : settings_(settings) {
    expects(settings.t >= 0 && settings.t <= 1 && settings.gamma >= 0 && settings.gamma <= 1,
            "SlerpMerge: t and gamma are shares from 0 to 1");
    expects(settings.merge_keys || settings.merge_values, "SlerpMerge: merge K, V or both, or use Separate");
  }

  [[nodiscard]] constexpr std::string_view name() const noexcept { return sharings_by_number[1]; }
  /// The first layer of a group is the shallower one.
  [[nodiscard]] constexpr std::size_t layers() const noexcept { return 2; }
  /// Holds for all settings.
  template <RowCodec Codec>
  [[nodiscard]] std::size_t largest_bytes(const Codec& codec, const Geometry& geometry, std::size_t rows) const {
    const std::size_t coded = codec.bytes(geometry, rows);
    return 1 + 2 * (detail::bitmap_bytes(rows) + coded + std::max(coded, rows * geometry.kv_heads * 2 * scale_bytes));
  }

  template <RowCodec Codec>
  [[nodiscard]] std::vector<std::byte> encode(const Codec& codec, const Geometry& geometry,
                                              std::span<const KvRows> group) const {
    const unsigned flags = (settings_.merge_keys ? 1U : 0U) | (settings_.merge_values ? 2U : 0U) |
                           (settings_.width == Width::head ? detail::lengths_per_head : 0U);
    std::vector<std::byte> chunk{static_cast<std::byte>(flags)};
    const auto tensors = detail::tensors_of(group);
    for (std::size_t tensor = 0; tensor < 2; ++tensor) {
      if ((flags >> tensor & 1U) != 0) {
        merge(codec, geometry, tensors[tensor], chunk);
      } else {
        for (const auto rows : tensors[tensor]) detail::append_coded(codec, geometry, rows, chunk);
      }
    }
    return chunk;
  }

  template <RowCodec Codec>
  [[nodiscard]] Status decode(const Codec& codec, const Geometry& geometry, std::span<const std::byte> from,
                              std::span<const MutableKvRows> group) const {
    detail::ChunkReader reader(from);
    const auto flags = detail::take_flags(reader, 3U | detail::lengths_per_head);
    if (!flags) return propagate(flags);
    const auto tensors = detail::tensors_of(group);
    for (std::size_t tensor = 0; tensor < 2; ++tensor) {
      if ((*flags >> tensor & 1U) != 0) {
        const Width width = (*flags & detail::lengths_per_head) != 0 ? Width::head : Width::token;
        if (auto merged = expand(codec, geometry, width, reader, tensors[tensor]); !merged) return merged;
      } else {
        for (const auto rows : tensors[tensor])
          if (auto status = reader.decode(codec, geometry, rows); !status) return status;
      }
    }
    return reader.finish();
  }

 private:
  static constexpr std::size_t scale_bytes = detail::scale_bytes;
  static constexpr float unmergeable = std::numeric_limits<float>::infinity();

  /// Directions are stored with a root mean square near 1, so that their values suit a type of two bytes, and a row is
  /// its direction times an f16: its own root mean square but for what the codec did to the direction's. A factor two
  /// is left for that on both sides of the normal range of f16. Below a cosine of -1 + 2^-10, rounding in the cosine
  /// (2^-21) would move the direction by 2^-21 / (2 * 2^-10): as much as rounding to f16 does.
  static bool can_merge(const detail::VectorPair& pair, float root_width) noexcept {
    const auto fits = [&](float length) { return length >= root_width * 0x1p-13F && length <= root_width * 0x1p15F; };
    return fits(pair.first) && fits(pair.second) && pair.cosine > -1 + 0x1p-10F;
  }
  static float angle(const detail::VectorPair& pair) noexcept {
    return std::acos(std::clamp(pair.cosine, -1.0F, 1.0F));
  }

  /// Which tokens are retained, by the angles [T] of all of them; an infinite one says that a token cannot be merged.
  [[nodiscard]] std::vector<std::byte> choose_retained(std::span<const float> angles) const {
    float least = unmergeable, most = 0;
    for (const float each : angles) {
      if (each == unmergeable) continue;
      least = std::min(least, each);
      most = std::max(most, each);
    }
    const float threshold = std::lerp(most, std::min(least, most), static_cast<float>(settings_.gamma));
    std::vector<std::byte> bitmap(detail::bitmap_bytes(angles.size()));
    for (std::size_t token = 0; token < angles.size(); ++token)
      if (angles[token] > threshold) bitmap[token / 8] |= static_cast<std::byte>(1U << token % 8);
    return bitmap;
  }

  /// The direction of one pair of vectors [n], with a root mean square of 1.
  void merge_direction(const detail::VectorPair& pair, std::span<const float> x, std::span<const float> y,
                       std::span<float> to) const {
    const auto t = static_cast<float>(settings_.t);
    const float between = angle(pair);
    // Parallel vectors are the limit of the formula; what both weights have in common falls out with the length.
    const float weight_x = between > 0 ? std::sin(t * between) : t,
                weight_y = between > 0 ? std::sin((1 - t) * between) : 1 - t;
    const float length =
        std::sqrt(weight_x * weight_x + weight_y * weight_y + 2 * weight_x * weight_y * std::cos(between));
    const float scale = std::sqrt(static_cast<float>(to.size())) / length;
    const float factor_x = weight_x * scale / pair.first, factor_y = weight_y * scale / pair.second;
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = factor_x * x[i] + factor_y * y[i];
  }

  template <RowCodec Codec>
  void merge(const Codec& codec, const Geometry& geometry, const detail::RowPair& rows,
             std::vector<std::byte>& chunk) const {
    const std::size_t row = geometry.kv_row_bytes(), tokens = rows[0].size() / row;
    const std::size_t parts = settings_.width == Width::head ? geometry.kv_heads : 1;
    const std::size_t width = geometry.kv_values() / parts;
    const float root_width = std::sqrt(static_cast<float>(width));
    std::vector<float> x(geometry.kv_values()), y(x.size()), e(x.size());
    const auto part_of = [&](std::vector<float>& values, std::size_t part) {
      return std::span(values).subspan(part * width, width);
    };
    const auto load = [&](std::size_t token) {
      to_float(geometry.cache_type, rows[0].subspan(token * row, row), x);
      to_float(geometry.cache_type, rows[1].subspan(token * row, row), y);
    };

    std::vector<detail::VectorPair> pairs(tokens * parts);
    std::vector<float> angles(tokens, 0.0F);
    for (std::size_t token = 0; token < tokens; ++token) {
      load(token);
      for (std::size_t part = 0; part < parts; ++part) {
        auto& pair = pairs[token * parts + part];
        pair = detail::compare_vectors(part_of(x, part), part_of(y, part));
        angles[token] = std::max(angles[token], can_merge(pair, root_width) ? angle(pair) : unmergeable);
      }
    }
    const auto bitmap = choose_retained(angles);

    std::vector<std::byte> directions, kept;
    directions.reserve(rows[0].size());
    for (std::size_t token = 0; token < tokens; ++token) {
      if (detail::is_retained(bitmap, token)) {
        for (const auto& layer : rows) detail::append_coded(codec, geometry, layer.subspan(token * row, row), kept);
        continue;
      }
      load(token);
      for (std::size_t part = 0; part < parts; ++part)
        merge_direction(pairs[token * parts + part], part_of(x, part), part_of(y, part), part_of(e, part));
      directions.resize(directions.size() + row);
      from_float(geometry.cache_type, e, std::span(directions).last(row));
    }

    chunk.insert(chunk.end(), bitmap.begin(), bitmap.end());
    std::size_t scale_at = chunk.size();
    chunk.resize(scale_at + directions.size() / row * parts * 2 * scale_bytes);
    const std::size_t coded_at = chunk.size();
    detail::append_coded(codec, geometry, directions, chunk);
    chunk.insert(chunk.end(), kept.begin(), kept.end());

    // The scales make up for what the codec does to a direction's length, so the decoder only multiplies.
    const auto coded = std::span(chunk).subspan(coded_at, codec.bytes(geometry, directions.size() / row));
    expects(codec.decode(geometry, coded, directions).has_value(),
            "SlerpMerge: the row codec cannot read its own rows");
    for (std::size_t token = 0, next = 0; token < tokens; ++token) {
      if (detail::is_retained(bitmap, token)) continue;
      to_float(geometry.cache_type, std::span(directions).subspan(next++ * row, row), e);
      for (std::size_t part = 0; part < parts; ++part) {
        const auto& pair = pairs[token * parts + part];
        const float length = detail::length_of(part_of(e, part));
        for (const float of_layer : {pair.first, pair.second}) {
          detail::store_value<ElementType::f16>(of_layer / length, &chunk[scale_at]);
          scale_at += scale_bytes;
        }
      }
    }
  }

  template <RowCodec Codec>
  [[nodiscard]] static Status expand(const Codec& codec, const Geometry& geometry, Width width,
                                     detail::ChunkReader& reader, const detail::MutableRowPair& rows) {
    const std::size_t row = geometry.kv_row_bytes(), tokens = rows[0].size() / row;
    const std::size_t parts = width == Width::head ? geometry.kv_heads : 1;
    const auto head = detail::MergedTokens::take(reader, tokens, parts);
    if (!head) return propagate(head);
    const auto [bitmap, scales, merged] = *head;
    if (auto status = reader.decode(codec, geometry, rows[0].first(merged * row)); !status) return status;
    const std::size_t coded_row = codec.bytes(geometry, 1);
    auto kept = reader.take((tokens - merged) * 2 * coded_row);
    if (!kept) return propagate(kept);
    // From the last token to the first: then no row is written before the direction that lies there has been used.
    std::size_t next = merged;
    for (std::size_t token = tokens; token-- > 0;) {
      const std::array<std::span<std::byte>, 2> to{rows[0].subspan(token * row, row),
                                                   rows[1].subspan(token * row, row)};
      if (detail::is_retained(bitmap, token)) {
        for (const std::size_t layer : {1U, 0U}) {
          if (auto status = codec.decode(geometry, kept->last(coded_row), to[layer]); !status) return status;
          *kept = kept->first(kept->size() - coded_row);
        }
      } else {
        --next;
        scale_row(geometry, rows[0].subspan(next * row, row), scales.subspan(next * parts * 2 * scale_bytes), to,
                  parts);
      }
    }
    return {};
  }

  /// One token's direction [G, D] times its `parts` pairs of scales.
  static void scale_row(const Geometry& geometry, std::span<const std::byte> direction,
                        std::span<const std::byte> scales, const detail::MutableRowPair& to, std::size_t parts) {
    const std::size_t width = geometry.kv_values() / parts, part_bytes = direction.size() / parts;
    for (std::size_t part = 0; part < parts; ++part, scales = scales.subspan(2 * scale_bytes)) {
      const std::array<float, 2> of_layers{detail::load_value<ElementType::f16>(&scales[0]),
                                           detail::load_value<ElementType::f16>(&scales[scale_bytes])};
      const std::byte* from = &direction[part * part_bytes];
      const std::array<std::byte*, 2> target{&to[0][part * part_bytes], &to[1][part * part_bytes]};
      if (geometry.cache_type == ElementType::f32)
        detail::scale_to_both<ElementType::f32>(from, width, of_layers, target);
      else if (geometry.cache_type == ElementType::f16)
        detail::scale_to_both<ElementType::f16>(from, width, of_layers, target);
      else
        detail::scale_to_both<ElementType::bf16>(from, width, of_layers, target);
    }
  }

  Settings settings_ = {};
};
static_assert(SharingPolicy<SlerpMerge>);

}  // namespace krul
