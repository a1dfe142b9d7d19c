#include "krul/compress/joint_transform.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "chunk_header.hpp"
#include "coding_order.hpp"
#include "column_band.hpp"
#include "float_room.hpp"
#include "head_products.hpp"
#include "krul/compress/entropy/symbol_decoder.hpp"
#include "krul/compress/entropy/symbol_encoder.hpp"
#include "krul/compress/entropy/table_choice.hpp"
#include "krul/compress/joint/block_rotation.hpp"
#include "krul/core/half.hpp"
#include "krul/core/processor.hpp"

namespace krul {
namespace {

using detail::absent, detail::stored, detail::of_profile, detail::with_classes, detail::CodingOrder,
    detail::first_row_of, detail::ColumnBand, detail::Columns, detail::FloatRoom, detail::Floats, detail::Into,
    detail::MutableFloats, detail::padded, detail::Prediction, detail::tables_at;

constexpr std::size_t header_bytes = detail::chunk_header_bytes;

/// The features of a block's tokens: tokens that come again have the same.
struct GivenRows {
  Int8Rows different;                ///< [U, F]
  std::vector<std::uint32_t> which;  ///< [T] of them each token has, in the order in which they are coded

  /// @param features  [T, F] as the tokens follow one another
  GivenRows(std::span<const float> features, const CodingOrder& order) : which(order.tokens.size()) {
    const std::size_t tokens = which.size();
    const std::size_t width = features.size() / std::max<std::size_t>(tokens, 1);
    std::vector<const float*> firsts;
    std::vector<float> values;
    values.reserve(features.size());
    for (std::size_t place = 0; place < tokens; ++place) {
      const auto row = features.subspan(order.tokens[place] * width, width);
      const auto same = std::find_if(firsts.begin(), firsts.end(), [&](const float* first) {
        return width == 0 || std::memcmp(first, row.data(), row.size_bytes()) == 0;
      });
      which[place] = static_cast<std::uint32_t>(same - firsts.begin());
      if (same != firsts.end()) continue;
      firsts.push_back(row.data());
      values.insert(values.end(), row.begin(), row.end());
    }
    different = Int8Rows(firsts.size(), width, values);
  }
};

/// R f of the columns that count.
Prediction predict(const Profile::Tensor& tensor, const GivenRows& given, std::size_t columns, FloatRoom& room) {
  if (tensor.prediction.columns() == 0 || columns == 0) return {};
  const std::size_t stride = padded(columns);
  // Sixteen columns are read at once, from any column on.
  const auto values = room.take(given.different.padded_rows() * stride + detail::panel_width);
  std::fill(values.end() - detail::panel_width, values.end(), 0.0F);
  multiply(given.different, tensor.prediction, values.first(values.size() - detail::panel_width));
  return {values, stride, tensor.prediction_scales, given.which};
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

/// K (or V) of a group, for all that encode and decode have in common.
struct Side {
  const Profile::Tensor& tensor;
  std::vector<Columns> of_run;
  bool keys;

  Side(const Profile::Tensor& of, StepScale step, const CodingOrder& order, bool is_keys) : tensor(of), keys(is_keys) {
    for (const CodingOrder::Run& run : order.runs)
      of_run.push_back(detail::columns_at(of, step, run, order.runs.front()));
  }

  /// Leaves out the narrow columns behind the last that is coded: nobody asks what they are before they are decoded.
  void leave_predicted() {
    for (Columns& columns : of_run) {
      while (columns.count > columns.wide && columns.coded[columns.count - 1] == 0) --columns.count;
    }
  }

  [[nodiscard]] std::size_t values() const { return tensor.mean.size(); }
  /// Of the first run, which has most.
  [[nodiscard]] const Columns& columns() const { return of_run.front(); }
  [[nodiscard]] std::size_t narrow() const { return columns().count - columns().wide; }
  [[nodiscard]] std::size_t wide_stride() const { return padded(columns().wide); }
  [[nodiscard]] std::size_t narrow_stride() const { return padded(narrow()); }
  [[nodiscard]] std::size_t narrow_of(std::size_t run) const { return of_run[run].count - of_run[run].wide; }
  [[nodiscard]] ColumnBand wide_band(std::size_t run) const { return {of_run[run], 0, of_run[run].wide, {}}; }
  [[nodiscard]] ColumnBand narrow_band(std::size_t run) const {
    const Columns& here = of_run[run];
    return {here, here.wide, here.count - here.wide, tensor.scales};
  }
  /// Floats that either way takes for so many tokens, all of them padded.
  [[nodiscard]] std::size_t room(std::size_t tokens) const {
    const std::size_t rows = Int8Rows::padded(tokens);
    return detail::panel_width + rows * (padded(columns().count) + 3 * padded(tensor.wide_columns()) + narrow_stride() +
                                         2 * padded(values()));
  }
};

std::array<Side, 2> sides_of(const Profile& profile, std::size_t group, StepScale step, const CodingOrder& order) {
  return {Side(profile.keys(group), step, order, true), Side(profile.values(group), step, order, false)};
}

std::vector<std::uint8_t> expected_tables(const std::array<Side, 2>& sides) {
  std::vector<std::uint8_t> expected = sides[0].columns().expected;
  expected.insert(expected.end(), sides[1].columns().expected.begin(), sides[1].columns().expected.end());
  return expected;
}

/// Symbols of K of each run, then of V of each run.
using SymbolsOfRuns = std::vector<std::vector<std::int16_t>>;

/// What has an index of its own for each column that the first run codes.
std::vector<ShiftedSymbols> parts_of(const std::array<Side, 2>& sides, const CodingOrder& order,
                                     const SymbolsOfRuns& symbols, std::vector<std::vector<std::uint32_t>>& places) {
  std::vector<ShiftedSymbols> parts;
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    const std::size_t side = i / order.runs.size(), run = i % order.runs.size();
    places.push_back(sides[side].of_run[run].places);
    if (side == 1)
      for (std::uint32_t& place : places.back())
        place += static_cast<std::uint32_t>(sides[0].columns().expected.size());
    parts.push_back(
        {{places.back().size(), order.runs[run].count}, symbols[i], places.back(), order.table_shift(order.runs[run])});
  }
  return parts;
}

}  // namespace

std::size_t JointTransform::largest_bytes(const Geometry& geometry, std::size_t rows) const {
  if (!profile_) return header_bytes;
  const std::size_t columns = profile_->keys(group_).tables.size() + profile_->values(group_).tables.size();
  return header_bytes + layers() * 2 * geometry.kv_row_bytes() + 1 + rows / 2 + 1 + 2 * columns + 256 +
         SymbolBlock::most_streams * 4 + columns * rows * 5;
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
  expects(context.classes.empty() ||
              (context.classes.size() == all && std::ranges::max(context.classes) < StepClasses::count),
          "JointTransform: classes are of all rows, and there are 16 of them");
  const std::size_t apart = context.first == 0 ? 1 : 0, tokens = all - apart;
  auto classes = context.classes.empty() ? context.classes : context.classes.subspan(apart);
  if (std::ranges::all_of(classes, [](std::uint8_t of) { return of == StepClasses::usual; })) classes = {};
  const CodingOrder order(step_, classes, tokens);
  const detail::BlockRotation rotation(geometry.rotary, static_cast<Position>(context.first + apart), tokens);
  const GivenRows given(context.features.subspan(apart * features), order);
  const auto& loops = detail::joint_loops(instruction_level());
  auto sides = sides_of(*profile_, group_, step_, order);
  for (Side& side : sides) side.leave_predicted();

  SymbolsOfRuns symbols;
  for (const Side& side : sides) {
    FloatRoom room(side.room(tokens));
    const std::size_t n = side.values(), stride = padded(n);
    const auto values = room.take(tokens * stride), weighted = room.take(tokens * stride);
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      const auto bytes = side.keys ? group[layer].keys : group[layer].values;
      for (std::size_t place = 0; place < tokens; ++place) {
        const std::size_t token = order.tokens[place];
        const auto row = values.subspan(place * stride + layer * width, width);
        to_float(geometry.cache_type, bytes.subspan((token + apart) * row_bytes, row_bytes), row);
        if (side.keys) rotation.turn_back(token, row, geometry.head_dim);
        loops.subtract(row.data(), &side.tensor.mean[layer * width], width);
      }
    }
    detail::multiply_heads(side.tensor.weights, geometry.head_dim, tokens, {values.data(), stride},
                           {weighted.data(), stride});
    const Prediction predicted = predict(side.tensor, given, side.columns().count, room);
    const std::size_t first_of_side = symbols.size();
    symbols.resize(first_of_side + order.runs.size());

    // The wide columns' coded values leave y, and with them whatever else of y they did not hold exactly stays in it.
    const std::size_t columns = side.wide_stride();
    const auto wide_values = room.take(tokens * columns), as_coded = room.take(tokens * columns);
    loops.small_product(Into::replaced, {tokens, columns, n}, {weighted.data(), stride},
                        {side.tensor.wide_transposed.data(), side.tensor.wide_stride()}, {wide_values.data(), columns});
    std::ranges::fill(as_coded, 0.0F);  // what a coarser run does not code
    for (std::size_t i = 0; i < order.runs.size(); ++i) {
      const std::size_t at = order.runs[i].first * columns;
      side.wide_band(i).quantise({wide_values.data() + at, columns}, {order, order.runs[i], predicted},
                                 symbols[first_of_side + i], {as_coded.data() + at, columns});
    }
    loops.small_product(Into::subtracted, {tokens, n, side.columns().wide}, {as_coded.data(), columns},
                        {side.tensor.wide.data(), n}, {weighted.data(), stride});

    // Each run by itself: a coarser one has fewer columns.
    const auto coefficients = room.take(Int8Rows::padded(tokens) * side.narrow_stride());
    for (std::size_t i = 0; i < order.runs.size(); ++i) {
      const CodingOrder::Run& run = order.runs[i];
      const Int8Rows rows(run.count, n, weighted.subspan(run.first * stride), stride);
      const std::size_t apart_by = padded(side.narrow_of(i));
      const auto of_run = coefficients.subspan(run.first * side.narrow_stride(), rows.padded_rows() * apart_by);
      multiply(rows, side.tensor.analysis, of_run);
      side.narrow_band(i).quantise({of_run.data(), apart_by}, {order, run, predicted}, symbols[first_of_side + i]);
    }
  }

  const std::vector<std::uint8_t> expected = expected_tables(sides);
  const SymbolEncoder& encoder = profile_->encoder();
  std::vector<std::vector<std::uint32_t>> places;
  const auto parts = parts_of(sides, order, symbols, places);
  const auto chosen = choose_tables(encoder, parts, expected);
  // A table of zeros needs zeros: choose_tables gives index 0 to no other column.
  const auto table_bytes = encode_tables(chosen, expected);
  std::vector<std::vector<std::uint8_t>> tables;
  std::vector<TabledSymbols> blocks;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    tables.push_back(tables_at(places[i], chosen, parts[i].shift, encoder.size()));
    blocks.push_back({parts[i].block, parts[i].symbols, tables.back()});
  }
  const auto symbol_bytes = encoder.encode(blocks);
  std::vector<std::byte> chunk;
  chunk.reserve(header_bytes + 2 + table_bytes.size() + symbol_bytes.size());
  for (std::size_t i = 0; i < 8; ++i) chunk.push_back(static_cast<std::byte>(profile_->id() >> 8 * i));
  chunk.push_back(static_cast<std::byte>(step_.code));
  append_first_row(geometry, group, apart, chunk);
  if (!classes.empty()) {
    chunk[header_bytes - 1] |= std::byte{with_classes};
    detail::append_classes(classes, chunk);
  }
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
  const std::size_t apart = context.first == 0 ? 1 : 0, tokens = all - apart;
  const auto header = detail::read_chunk_header(*profile_, group_, geometry, chunk, {apart, tokens});
  if (!header) return propagate(header);
  if (context.features.size() != all * features)
    return fail(ErrorCode::unsupported, "the features of the tokens are missing: recompute these tokens");
  for (std::size_t i = 0; i < (apart > 0 ? 2 * layers() : 0); ++i)
    std::ranges::copy(std::span(header->first_row).subspan(i * row_bytes, row_bytes),
                      (i % 2 == 0 ? group[i / 2].keys : group[i / 2].values).begin());

  const CodingOrder order(header->step, header->classes, tokens);
  const auto sides = sides_of(*profile_, group_, header->step, order);
  const std::vector<std::uint8_t> expected = expected_tables(sides);
  std::vector<std::uint8_t> chosen(expected.size());
  if (auto status = decode_tables(header->tables, expected, profile_->tables().size(), chosen); !status) return status;
  auto decoder = SymbolDecoder::open(header->symbols, SymbolBlock{expected.size(), order.runs.front().count}.streams(),
                                     profile_->tables());
  if (!decoder) return propagate(decoder);

  const detail::BlockRotation rotation(geometry.rotary, static_cast<Position>(context.first + apart), tokens);
  const GivenRows given(context.features.subspan(apart * features), order);
  const auto& loops = detail::joint_loops(instruction_level());
  for (const Side& side : sides) {
    const auto of_side = side.keys ? std::span(chosen).first(sides[0].columns().expected.size())
                                   : std::span(chosen).subspan(sides[0].columns().expected.size());
    FloatRoom room(side.room(tokens));
    const std::size_t n = side.values(), stride = padded(n), wide_stride = side.wide_stride(),
                      narrow_stride = side.narrow_stride();
    const Prediction predicted = predict(side.tensor, given, side.columns().count, room);
    const auto wide_values = room.take(tokens * wide_stride), coefficients = room.take(tokens * narrow_stride),
               values = room.take(Int8Rows::padded(tokens) * stride);
    if (order.runs.size() > 1) std::ranges::fill(wide_values, 0.0F);  // what a coarser run does not code
    for (std::size_t i = 0; i < order.runs.size(); ++i) {
      const CodingOrder::Run& run = order.runs[i];
      const auto& places = side.of_run[i].places;
      const auto tables = tables_at(places, of_side, order.table_shift(run), profile_->tables().size());
      if (auto status = decoder->begin_block({places.size(), run.count}, tables); !status) return status;
      const detail::CodedRows rows{order, run, predicted};
      if (auto status =
              side.wide_band(i).dequantise(*decoder, rows, {wide_values.data() + run.first * wide_stride, wide_stride});
          !status)
        return status;
      const auto of_run = coefficients.subspan(run.first * narrow_stride);
      if (auto status = side.narrow_band(i).dequantise(*decoder, rows, {of_run.data(), narrow_stride}); !status)
        return status;
      const Int8Rows narrow(run.count, side.narrow_of(i), of_run, narrow_stride);
      multiply(narrow, side.tensor.synthesis, values.subspan(run.first * stride, narrow.padded_rows() * stride));
    }

    loops.small_product(Into::added, {tokens, n, side.columns().wide}, {wide_values.data(), wide_stride},
                        {side.tensor.wide_synthesis.data(), n}, {values.data(), stride});
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      const auto bytes = side.keys ? group[layer].keys : group[layer].values;
      for (std::size_t place = 0; place < tokens; ++place) {
        const std::size_t token = order.tokens[place];
        const auto row = values.subspan(place * stride + layer * width, width);
        if (side.keys) rotation.turn(token, row, geometry.head_dim);
        from_float(geometry.cache_type, row, bytes.subspan((token + apart) * row_bytes, row_bytes));
      }
    }
  }
  return decoder->finish();
}

}  // namespace krul
