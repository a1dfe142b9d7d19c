#include "krul/compress/joint_transform.hpp"

#include <algorithm>
#include <cmath>

#include "krul/compress/entropy/symbol_decoder.hpp"
#include "krul/compress/entropy/symbol_encoder.hpp"
#include "krul/compress/entropy/table_choice.hpp"
#include "krul/compress/joint/block_rotation.hpp"
#include "krul/core/half.hpp"
#include "small_product.hpp"

namespace krul {
namespace {

constexpr std::size_t header_bytes = 8 + 1 + 1;

/// How the row at position 0 is stored.
enum FirstRow : std::uint8_t { absent, stored, of_profile };

/// The columns of a tensor that count at a step.
struct Columns {
  std::size_t count = 0, wide = 0;     ///< leading ones, and how many of them are wide
  std::vector<std::size_t> coded;      ///< those that are coded
  std::vector<std::uint8_t> expected;  ///< the tables to expect for them
};

Columns columns_at(const Profile::Tensor& tensor, StepScale step) {
  Columns columns;
  for (std::size_t i = 0; i < tensor.spreads.size(); ++i) {
    if (step.expected_table(tensor.spreads[i]) < JointTransform::least_spread) break;
    columns.count = i + 1;
    const std::uint8_t table = step.expected_table(tensor.tables[i]);
    if (table < JointTransform::least_table) continue;
    columns.coded.push_back(i);
    columns.expected.push_back(table);
  }
  columns.wide = std::min(columns.count, tensor.wide_columns());
  return columns;
}

std::size_t padded(std::size_t columns) {
  return (columns + Int8Panels::width - 1) / Int8Panels::width * Int8Panels::width;
}

/// to [T, n] = y [T, n], each block of D columns times a symmetric matrix.
void multiply_blocks(std::span<const float> from, std::size_t tokens, std::span<const float> matrices, std::size_t size,
                     std::vector<float>& to) {
  to.assign(from.size(), 0);
  const std::size_t width = matrices.size() / size;
  for (std::size_t first = 0; first < width; first += size)
    detail::add_product({tokens, size, size}, {from.data() + first, width}, {&matrices[first * size], size}, 1,
                        {to.data() + first, width});
}

/// y [T, n] += sign * values [T, columns] times the first wide columns.
void add_wide(const Profile::Tensor& tensor, std::span<const float> values, std::size_t tokens, float sign,
              std::span<float> y) {
  const std::size_t n = tensor.mean.size(), columns = tokens == 0 ? 0 : values.size() / tokens;
  detail::add_product({tokens, n, columns}, {values.data(), columns}, {tensor.wide.data(), n}, sign, {y.data(), n});
}

/// [T, tensor.wide_stride()]: the wide columns times y [T, n].
std::vector<float> project_wide(const Profile::Tensor& tensor, std::span<const float> y, std::size_t tokens) {
  const std::size_t n = tensor.mean.size(), stride = tensor.wide_stride();
  std::vector<float> result(tokens * stride);
  detail::add_product({tokens, stride, n}, {y.data(), n}, {tensor.wide_transposed.data(), stride}, 1,
                      {result.data(), stride});
  return result;
}

/// R f of the columns that count, for each token.
class Prediction {
 public:
  Prediction(const Profile::Tensor& tensor, const Int8Rows& features, std::size_t columns)
      : stride_(padded(columns)), scales_(tensor.prediction_scales) {
    if (tensor.prediction.columns() == 0 || columns == 0) return;
    values_.resize(features.padded_rows() * stride_);
    multiply(features, tensor.prediction, values_);
  }
  [[nodiscard]] float operator()(std::size_t token, std::size_t column) const {
    return values_.empty() ? 0 : scales_[column] * values_[token * stride_ + column];
  }

 private:
  std::size_t stride_;
  std::span<const float> scales_;
  std::vector<float> values_;
};

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
  return header_bytes + layers() * 2 * geometry.kv_row_bytes() + 2 * columns + 256 + SymbolBlock::most_streams * 4 +
         columns * rows * 5;
}

void JointTransform::append_first_row(const Geometry& geometry, std::span<const KvRows> group, std::size_t rows,
                                      std::vector<std::byte>& chunk) const {
  chunk.push_back(std::byte{absent});
  if (rows == 0) return;
  bool as_expected = true;
  for (std::size_t layer = 0; layer < layers(); ++layer)
    for (std::size_t tensor = 0; tensor < 2; ++tensor) {
      const auto row = (tensor == 0 ? group[layer].keys : group[layer].values).first(geometry.kv_row_bytes());
      as_expected =
          as_expected &&
          is_first_row(geometry, row,
                       first_row_of(*profile_, geometry, profile_->data().groups[group_].first_layer + layer, tensor));
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
  const Int8Rows given(tokens, features, context.features.subspan(apart * features));
  const float factor = step_.factor(), per_step = 1 / factor;

  std::vector<std::int16_t> symbols;  // [columns, T]
  std::vector<std::uint8_t> expected;
  std::vector<float> values(tokens * layers() * width), weighted, coefficients;
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
    multiply_blocks(values, tokens, side.tensor.weights, geometry.head_dim, weighted);
    const Columns columns = columns_at(side.tensor, step_);
    const Prediction predicted(side.tensor, given, columns.count);
    const auto round_to_symbol = [&](float value) {
      return static_cast<std::int16_t>(std::lrintf(std::clamp(value * per_step, -32767.0F, 32767.0F)));
    };
    // The wide columns' coded values leave y, and with them whatever else of y they did not hold exactly stays in it.
    const std::vector<float> wide_values = project_wide(side.tensor, weighted, tokens);
    std::vector<float> as_coded(tokens * columns.wide);
    std::size_t next = 0;  // coded column
    for (std::size_t column = 0; column < columns.wide; ++column) {
      const bool is_coded = next < columns.coded.size() && columns.coded[next] == column;
      if (is_coded) ++next;
      for (std::size_t token = 0; token < tokens; ++token) {
        const float value = wide_values[token * side.tensor.wide_stride() + column],
                    expected_value = predicted(token, column);
        const std::int16_t symbol = is_coded ? round_to_symbol(value - expected_value) : std::int16_t{0};
        if (is_coded) symbols.push_back(symbol);
        as_coded[token * columns.wide + column] = factor * outward(symbol) + expected_value;
      }
    }
    add_wide(side.tensor, as_coded, tokens, -1, weighted);
    const Int8Rows rows(tokens, n, weighted);
    const std::size_t stride = padded(columns.count - columns.wide);
    coefficients.resize(rows.padded_rows() * stride);
    multiply(rows, side.tensor.analysis, coefficients);
    for (; next < columns.coded.size(); ++next) {
      const std::size_t column = columns.coded[next], narrow = column - columns.wide;
      const float scale = side.tensor.scales[narrow];
      for (std::size_t token = 0; token < tokens; ++token)
        symbols.push_back(round_to_symbol(scale * coefficients[token * stride + narrow] - predicted(token, column)));
    }
    expected.insert(expected.end(), columns.expected.begin(), columns.expected.end());
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
    return fail(ErrorCode::unsupported, "rows were coded with another profile than " + profile_->hash() +
                                            ": give krul theirs, or recompute them");
  if (context.features.size() != all * features)
    return fail(ErrorCode::unsupported, "the features of the tokens are missing: recompute these tokens");
  const StepScale step{static_cast<std::int8_t>(std::to_integer<int>(chunk[8]))};
  const std::size_t apart = context.first == 0 ? 1 : 0, tokens = all - apart;
  const auto form = std::to_integer<std::uint8_t>(chunk[9]);
  chunk = chunk.subspan(header_bytes);
  if (apart == 0 ? form != absent : form != stored && form != of_profile)
    return fail(ErrorCode::corrupt,
                "a chunk of a group of layers has a first row that no encoder writes: recompute these tokens");
  if (form == stored && chunk.size() < layers() * 2 * row_bytes) return too_short();
  if (apart > 0)
    for (std::size_t layer = 0; layer < layers(); ++layer)
      for (std::size_t tensor = 0; tensor < 2; ++tensor) {
        const auto to = (tensor == 0 ? group[layer].keys : group[layer].values).first(row_bytes);
        if (form == stored) {
          std::copy_n(chunk.begin(), row_bytes, to.begin());
          chunk = chunk.subspan(row_bytes);
        } else {
          const auto row =
              first_row_of(*profile_, geometry, profile_->data().groups[group_].first_layer + layer, tensor);
          std::copy(row.begin(), row.end(), to.begin());
        }
      }
  if (chunk.size() < 2) return too_short();
  const std::size_t length = std::to_integer<std::size_t>(chunk[0]) | std::to_integer<std::size_t>(chunk[1]) << 8;
  chunk = chunk.subspan(2);
  if (length > chunk.size()) return too_short();

  const Side sides[] = {{profile_->keys(group_), true}, {profile_->values(group_), false}};
  const Columns columns_of[] = {columns_at(sides[0].tensor, step), columns_at(sides[1].tensor, step)};
  std::vector<std::uint8_t> expected = columns_of[0].expected;
  expected.insert(expected.end(), columns_of[1].expected.begin(), columns_of[1].expected.end());
  std::vector<std::uint8_t> tables(expected.size());
  if (auto status = decode_tables(chunk.first(length), expected, profile_->tables().size(), tables); !status)
    return status;
  auto decoder = SymbolDecoder::open(chunk.subspan(length), {expected.size(), tokens}, tables, profile_->tables());
  if (!decoder) return propagate(decoder);

  const detail::BlockRotation rotation(geometry.rotary, static_cast<Position>(context.first + apart), tokens);
  const Int8Rows given(tokens, features, context.features.subspan(apart * features));
  const float factor = step.factor();
  std::vector<std::int16_t> symbols;
  std::vector<float> narrow_values, wide_values, values, plain, row(width);
  for (const Side side : sides) {
    const Columns& columns = columns_of[side.keys ? 0 : 1];
    const std::size_t n = layers() * width, depth = columns.count - columns.wide, stride = padded(n);
    symbols.assign(columns.coded.size() * tokens, 0);
    if (auto status = decoder->read(symbols); !status) return status;
    const Prediction predicted(side.tensor, given, columns.count);
    wide_values.resize(tokens * columns.wide);
    narrow_values.resize(tokens * depth);
    for (std::size_t column = 0, next = 0; column < columns.count; ++column) {
      const std::int16_t* coded = nullptr;
      if (next < columns.coded.size() && columns.coded[next] == column) coded = &symbols[next++ * tokens];
      const bool is_wide = column < columns.wide;
      const std::size_t apart_by = is_wide ? columns.wide : depth;
      const float scale = is_wide ? 1 : side.tensor.scales[column - columns.wide];
      float* to = is_wide ? &wide_values[column] : &narrow_values[column - columns.wide];
      for (std::size_t token = 0; token < tokens; ++token)
        to[token * apart_by] = scale * ((coded ? factor * outward(coded[token]) : 0) + predicted(token, column));
    }
    const Int8Rows rows(tokens, depth, narrow_values);
    values.resize(rows.padded_rows() * stride);
    multiply(rows, side.tensor.synthesis, values);
    if (stride != n)
      for (std::size_t token = 1; token < tokens; ++token) std::copy_n(&values[token * stride], n, &values[token * n]);
    values.resize(tokens * n);
    add_wide(side.tensor, wide_values, tokens, 1, values);
    multiply_blocks(values, tokens, side.tensor.unweights, geometry.head_dim, plain);
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      const auto bytes = side.keys ? group[layer].keys : group[layer].values;
      const float* mean = &side.tensor.mean[layer * width];
      for (std::size_t token = 0; token < tokens; ++token) {
        const float* from = &plain[token * n + layer * width];
        for (std::size_t i = 0; i < width; ++i) row[i] = from[i] + mean[i];
        if (side.keys) rotation.turn(token, row, geometry.head_dim);
        from_float(geometry.cache_type, row, bytes.subspan((token + apart) * row_bytes, row_bytes));
      }
    }
  }
  return decoder->finish();
}

}  // namespace krul
