#include "krul/compress/joint_transform.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "krul/compress/joint/block_rotation.hpp"
#include "krul/compress/entropy/symbol_decoder.hpp"
#include "krul/compress/entropy/symbol_encoder.hpp"
#include "krul/compress/entropy/table_choice.hpp"
#include "krul/core/half.hpp"

namespace krul {
namespace {

constexpr std::size_t header_bytes = 8 + 1 + 1;

/// How the row at position 0 is stored.
enum FirstRow : std::uint8_t { absent, stored, of_profile };

/// The columns of a tensor that are coded at a step, and the tables to expect for them.
std::vector<std::uint8_t> expected_tables(const Profile::Tensor& tensor, StepScale step) {
  std::vector<std::uint8_t> expected;
  for (const std::uint8_t index : tensor.tables) {
    const std::uint8_t moved = step.expected_table(index);
    if (moved < JointTransform::least_table) break;  // the others are no greater
    expected.push_back(moved);
  }
  return expected;
}

/// to [T, blocks * D] = from [T, stride] times a symmetric matrix for each block of D columns.
void multiply_blocks(const float* from, std::size_t stride, std::size_t tokens, std::span<const float> matrices,
                     std::size_t size, float* to) {
  const std::size_t blocks = matrices.size() / (size * size), width = blocks * size;
  for (std::size_t block = 0; block < blocks; ++block) {
    const float* matrix = &matrices[block * size * size];
    for (std::size_t token = 0; token < tokens; ++token) {
      const float* row = from + token * stride + block * size;
      float* out = to + token * width + block * size;
      std::fill_n(out, size, 0.0F);
      for (std::size_t k = 0; k < size; ++k) {
        const float value = row[k];
        const float* line = matrix + k * size;
        for (std::size_t i = 0; i < size; ++i) out[i] += value * line[i];
      }
    }
  }
}

/// R f for each token, [padded rows, padded columns]; empty without features.
std::vector<float> predict(const Profile::Tensor& tensor, const Bf16Rows& features) {
  if (tensor.prediction.columns() == 0) return {};
  std::vector<float> predicted(features.padded_rows() * tensor.prediction.panels() * Bf16Panels::width);
  multiply(features, tensor.prediction, predicted);
  return predicted;
}

Bf16Rows feature_rows(std::span<const float> given, std::size_t tokens, std::size_t features) {
  Bf16Rows rows;
  rows.reset(tokens, features);
  if (features > 0) rows.round_from(given, features);
  return rows;
}

/// The profile's row 0 of one layer's K (0) or V (1), [G, D] in the cache's element type.
std::vector<std::byte> first_row_of(const Profile& profile, const Geometry& geometry, std::size_t layer,
                                    std::size_t tensor) {
  const std::size_t width = geometry.kv_values();
  std::vector<float> values(width);
  const auto halves = std::span(profile.data().first_row).subspan((layer * 2 + tensor) * width, width);
  std::transform(halves.begin(), halves.end(), values.begin(), [](std::uint16_t half) { return float_from_f16(half); });
  std::vector<std::byte> bytes(geometry.kv_row_bytes());
  from_float(geometry.cache_type, values, bytes);
  return bytes;
}

/// Whether a row is as good as the profile's: kernels that add in another order differ by far less.
bool is_first_row(const Geometry& geometry, std::span<const std::byte> row, std::span<const std::byte> expected) {
  constexpr float least_difference = 0.02F;
  std::vector<float> a(geometry.kv_values()), b(a.size());
  to_float(geometry.cache_type, row, a);
  to_float(geometry.cache_type, expected, b);
  float difference = 0, length = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    length += b[i] * b[i];
  }
  return difference <= least_difference * least_difference * length;
}

std::size_t rows_of(const Geometry& geometry, std::span<const std::byte> keys) {
  return keys.size() / geometry.kv_row_bytes();
}

/// What a symbol stands for. Rounding to zero makes values smaller on the whole, and attention adds up what errors have
/// in common: a little outward evens it out.
float outward(std::int16_t symbol) {
  constexpr float by = 0.05F;
  const auto value = static_cast<float>(symbol);
  return symbol == 0 ? 0 : value + std::copysign(by, value);
}

/// K (or V) of a group, for all that encode and decode have in common.
struct Side {
  const Profile::Tensor& tensor;
  bool keys;
};

}  // namespace

std::size_t JointTransform::largest_bytes(const Geometry& geometry, std::size_t rows) const {
  if (!profile_) return header_bytes;
  const std::size_t columns = profile_->keys(group_).tables.size() + profile_->values(group_).tables.size();
  return header_bytes + layers() * 2 * geometry.kv_row_bytes() + 2 * columns + 256 + SymbolBlock::most_streams * 4 + columns * rows * 5;
}

void JointTransform::append_first_row(const Geometry& geometry, std::span<const KvRows> group, std::size_t rows,
                                      std::vector<std::byte>& chunk) const {
  chunk.push_back(std::byte{absent});
  if (rows == 0) return;
  bool as_expected = true;
  for (std::size_t layer = 0; layer < layers(); ++layer)
    for (std::size_t tensor = 0; tensor < 2; ++tensor) {
      const auto row = (tensor == 0 ? group[layer].keys : group[layer].values).first(geometry.kv_row_bytes());
      as_expected = as_expected && is_first_row(geometry, row,
                                                first_row_of(*profile_, geometry,
                                                             profile_->data().groups[group_].first_layer + layer, tensor));
      chunk.insert(chunk.end(), row.begin(), row.end());
    }
  if (as_expected) chunk.resize(chunk.size() - layers() * 2 * geometry.kv_row_bytes());
  chunk[header_bytes - 1] = as_expected ? std::byte{of_profile} : std::byte{stored};
}

std::vector<std::byte> JointTransform::encode(const Geometry& geometry, std::span<const KvRows> group,
                                              const BlockContext& context) const {
  expects(profile_ != nullptr && group.size() == layers(), "JointTransform: needs a profile and all layers of a group");
  const std::size_t all = rows_of(geometry, group[0].keys), width = geometry.kv_values(),
                    features = profile_->data().features, row_bytes = geometry.kv_row_bytes();
  expects(all > 0 && context.features.size() == all * features,
          "JointTransform: needs rows, and the features that the profile asks for");
  for (const auto& layer : group)
    expects(layer.keys.size() == all * row_bytes && layer.values.size() == layer.keys.size(),
            "JointTransform: K and V of every layer must hold the same whole number of rows");
  const std::size_t apart = context.first == 0 ? 1 : 0, tokens = all - apart;
  const detail::BlockRotation rotation(geometry.rotary, static_cast<Position>(context.first + apart), tokens);
  const Bf16Rows given = feature_rows(context.features.subspan(apart * features), tokens, features);
  const float per_step = 1 / step_.factor();

  std::vector<std::int16_t> symbols;  // [columns, T]
  std::vector<std::uint8_t> expected;
  std::vector<float> values(tokens * layers() * width), weighted(values.size()), coefficients;
  Bf16Rows rows;
  for (const Side side : {Side{profile_->keys(group_), true}, Side{profile_->values(group_), false}}) {
    const std::size_t n = layers() * width;
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      const auto bytes = side.keys ? group[layer].keys : group[layer].values;
      for (std::size_t token = 0; token < tokens; ++token) {
        const auto row = std::span(values).subspan(token * n + layer * width, width);
        to_float(geometry.cache_type, bytes.subspan((token + apart) * row_bytes, row_bytes), row);
        if (side.keys) rotation.turn_back(token, row, geometry.head_dim);
        for (std::size_t i = 0; i < width; ++i) row[i] -= side.tensor.mean[layer * width + i];
      }
    }
    multiply_blocks(values.data(), n, tokens, side.tensor.weights, geometry.head_dim, weighted.data());
    rows.reset(tokens, n);
    rows.round_from(weighted, n);
    const std::size_t stride = side.tensor.analysis.panels() * Bf16Panels::width;
    coefficients.resize(rows.padded_rows() * stride);
    multiply(rows, side.tensor.analysis, coefficients);
    const auto predicted = predict(side.tensor, given);
    const auto tables = expected_tables(side.tensor, step_);
    for (std::size_t column = 0; column < tables.size(); ++column)
      for (std::size_t token = 0; token < tokens; ++token) {
        float value = coefficients[token * stride + column];
        if (!predicted.empty()) value -= predicted[token * stride + column];
        symbols.push_back(static_cast<std::int16_t>(std::lrintf(std::clamp(value * per_step, -32767.0F, 32767.0F))));
      }
    expected.insert(expected.end(), tables.begin(), tables.end());
  }

  const SymbolBlock block{expected.size(), tokens};
  const SymbolEncoder& encoder = profile_->encoder();
  const auto chosen = choose_tables(encoder, block, symbols, expected);
  // A table of zeros needs zeros: choose_tables gives index 0 to no other column.
  const auto table_bytes = encode_tables(chosen, expected);
  const auto symbol_bytes = encoder.encode(block, symbols, chosen);
  std::vector<std::byte> chunk;
  chunk.reserve(header_bytes + 2 + table_bytes.size() + symbol_bytes.size());
  for (std::size_t i = 0; i < 8; ++i) chunk.push_back(static_cast<std::byte>(profile_->id() >> 8 * i));
  chunk.push_back(static_cast<std::byte>(step_.code));
  append_first_row(geometry, group, apart, chunk);
  for (std::size_t i = 0; i < 2; ++i) chunk.push_back(static_cast<std::byte>(table_bytes.size() >> 8 * i));
  chunk.insert(chunk.end(), table_bytes.begin(), table_bytes.end());
  chunk.insert(chunk.end(), symbol_bytes.begin(), symbol_bytes.end());
  return chunk;
}

Status JointTransform::decode(const Geometry& geometry, std::span<const std::byte> chunk,
                              std::span<const MutableKvRows> group, const BlockContext& context) const {
  expects(profile_ != nullptr && group.size() == layers(), "JointTransform: needs a profile and all layers of a group");
  const std::size_t all = rows_of(geometry, group[0].keys), width = geometry.kv_values(),
                    features = profile_->data().features, row_bytes = geometry.kv_row_bytes();
  for (const auto& layer : group)
    expects(layer.keys.size() == all * row_bytes && layer.values.size() == layer.keys.size(),
            "JointTransform: K and V of every layer must hold the same whole number of rows");
  const auto too_short = [] {
    return fail(ErrorCode::truncated, "a chunk of a group of layers ends too early: recompute these tokens");
  };
  if (chunk.size() < header_bytes) return too_short();
  std::uint64_t id = 0;
  for (std::size_t i = 8; i-- > 0;) id = id << 8 | std::to_integer<std::uint64_t>(chunk[i]);
  if (id != profile_->id())
    return fail(ErrorCode::unsupported,
                "rows were coded with another profile than " + profile_->hash() + ": give krul theirs, or recompute them");
  if (context.features.size() != all * features)
    return fail(ErrorCode::unsupported, "the features of the tokens are missing: recompute these tokens");
  const StepScale step{static_cast<std::int8_t>(std::to_integer<int>(chunk[8]))};
  const std::size_t apart = context.first == 0 ? 1 : 0, tokens = all - apart;
  const auto form = std::to_integer<std::uint8_t>(chunk[9]);
  chunk = chunk.subspan(header_bytes);
  if (apart == 0 ? form != absent : form != stored && form != of_profile)
    return fail(ErrorCode::corrupt, "a chunk of a group of layers has a first row that no encoder writes: recompute these tokens");
  if (form == stored && chunk.size() < layers() * 2 * row_bytes) return too_short();
  if (apart > 0)
    for (std::size_t layer = 0; layer < layers(); ++layer)
      for (std::size_t tensor = 0; tensor < 2; ++tensor) {
        const auto to = (tensor == 0 ? group[layer].keys : group[layer].values).first(row_bytes);
        if (form == stored) {
          std::copy_n(chunk.begin(), row_bytes, to.begin());
          chunk = chunk.subspan(row_bytes);
        } else {
          const auto row = first_row_of(*profile_, geometry, profile_->data().groups[group_].first_layer + layer, tensor);
          std::copy(row.begin(), row.end(), to.begin());
        }
      }
  if (chunk.size() < 2) return too_short();
  const std::size_t length = std::to_integer<std::size_t>(chunk[0]) | std::to_integer<std::size_t>(chunk[1]) << 8;
  chunk = chunk.subspan(2);
  if (length > chunk.size()) return too_short();

  const Side sides[] = {{profile_->keys(group_), true}, {profile_->values(group_), false}};
  std::vector<std::uint8_t> expected = expected_tables(sides[0].tensor, step);
  const std::size_t key_columns = expected.size();
  const auto more = expected_tables(sides[1].tensor, step);
  expected.insert(expected.end(), more.begin(), more.end());
  std::vector<std::uint8_t> tables(expected.size());
  if (auto status = decode_tables(chunk.first(length), expected, profile_->tables().size(), tables);
      !status)
    return status;
  auto decoder = SymbolDecoder::open(chunk.subspan(length), {expected.size(), tokens}, tables,
                                     profile_->tables());
  if (!decoder) return propagate(decoder);

  const detail::BlockRotation rotation(geometry.rotary, static_cast<Position>(context.first + apart), tokens);
  const Bf16Rows given = feature_rows(context.features.subspan(apart * features), tokens, features);
  const float factor = step.factor();
  std::vector<std::int16_t> symbols;
  std::vector<float> coefficients, values, row(width);
  Bf16Rows rows;
  for (const Side side : sides) {
    const std::size_t columns = side.tensor.tables.size(), coded = side.keys ? key_columns : expected.size() - key_columns;
    symbols.assign(coded * tokens, 0);
    if (auto status = decoder->read(symbols); !status) return status;
    rows.reset(tokens, columns);
    const std::size_t padded = side.tensor.analysis.panels() * Bf16Panels::width;
    const auto predicted = predict(side.tensor, given);
    for (std::size_t pair = 0; pair < rows.pairs(); ++pair) {
      std::uint32_t* words = rows.pair(pair);
      for (std::size_t half = 0; half < 2; ++half) {
        const std::size_t column = 2 * pair + half;
        if (column >= columns || (column >= coded && predicted.empty())) continue;
        for (std::size_t token = 0; token < tokens; ++token) {
          float value = column < coded ? factor * outward(symbols[column * tokens + token]) : 0;
          if (!predicted.empty()) value += predicted[token * padded + column];
          words[token] |= static_cast<std::uint32_t>(bf16_from_float(value)) << (half == 0 ? 0 : 16);
        }
      }
    }
    const std::size_t n = layers() * width, stride = side.tensor.synthesis.panels() * Bf16Panels::width;
    coefficients.resize(rows.padded_rows() * stride);
    multiply(rows, side.tensor.synthesis, coefficients);
    values.resize(tokens * n);
    multiply_blocks(coefficients.data(), stride, tokens, side.tensor.unweights, geometry.head_dim, values.data());
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      const auto bytes = side.keys ? group[layer].keys : group[layer].values;
      const float* mean = &side.tensor.mean[layer * width];
      for (std::size_t token = 0; token < tokens; ++token) {
        const float* from = &values[token * n + layer * width];
        for (std::size_t i = 0; i < width; ++i) row[i] = from[i] + mean[i];
        if (side.keys) rotation.turn(token, row, geometry.head_dim);
        from_float(geometry.cache_type, row, bytes.subspan((token + apart) * row_bytes, row_bytes));
      }
    }
  }
  return decoder->finish();
}

}  // namespace krul
