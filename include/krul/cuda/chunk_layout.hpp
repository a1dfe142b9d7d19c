#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/compress/joint/block_rotation.hpp"
#include "krul/compress/joint/joint_chunk.hpp"
#include "krul/core/geometry.hpp"
#include "krul/cuda/device_profile.hpp"
#include "krul/cuda/device_room.hpp"
#include "krul/cuda/kernels/decode_symbols.hpp"
#include "krul/cuda/kernels/joint_rows.hpp"

namespace krul::cuda {

/// What a chunk is decoded with and to. All pointers are of the device.
struct ChunkTarget {
  std::byte* room;                             ///< aligned as DeviceRoom says
  std::array<const DeviceTensor*, 2> tensors;  ///< of K and of V
  const krul::detail::AliasTable* tables;
  std::uint32_t table_count;
  std::array<std::vector<void*>, 2> rows = {};  ///< [layers] where the chunk's first row goes
};

/// A chunk as it lies in a room of a device's memory, and the kernels that decode it there, in their order.
struct ChunkLayout {
  std::vector<std::byte> arrays;                   ///< to be copied to the room's begin
  std::size_t bytes = 0;                           ///< of the room that all of it takes
  DecodeSymbols symbols = {};                      ///< one warp
  std::array<MultiplyRows, 2> predictions = {};    ///< of K and V; no rows: nothing is predicted
  std::array<StoreRows, 2> sides = {};             ///< of K and V: their `side` is that of the kernels before
  krul::detail::DecodeOutcome* outcome = nullptr;  ///< of the symbols

  /// @param position  of the chunk's first row
  /// @param features  [rows, F] of the chunk's rows; F may be 0
  [[nodiscard]] static ChunkLayout of(const JointChunk& chunk, const ChunkTarget& target, const Geometry& geometry,
                                      Position position, std::span<const float> features);
};

namespace detail {

[[nodiscard]] constexpr std::size_t whole_panels(std::size_t columns) noexcept {
  return (columns + 15) / 16 * 16;
}

/// The arrays of one side; its symbols' room is handed out later.
[[nodiscard]] inline JointSide side_arrays(const JointChunk& chunk, std::size_t side, const DeviceTensor& tensor,
                                           DeviceRoom& room) {
  std::vector<std::uint32_t> run_of(chunk.rows);
  for (std::size_t i = 0; i < chunk.runs[side].size(); ++i)
    for (std::size_t row = 0; row < chunk.runs[side][i].count; ++row)
      run_of[chunk.runs[side][i].first + row] = static_cast<std::uint32_t>(i);
  const auto& first = chunk.runs[side].front();
  return {.scales = tensor.scales,
          .prediction_scales = tensor.prediction_scales,
          .wide_synthesis = tensor.wide_synthesis,
          .synthesis = tensor.synthesis,
          .values = tensor.values,
          .runs = nullptr,
          .run_count = static_cast<std::uint32_t>(chunk.runs[side].size()),
          .rows = static_cast<std::uint32_t>(chunk.rows),
          .run_of = room.add(run_of),
          .steps = room.add(chunk.steps),
          .predicted = nullptr,
          .predicted_stride = static_cast<std::uint32_t>(whole_panels(first.columns)),
          .predicted_of = nullptr,
          .wide_values = nullptr,
          .coefficients = nullptr,
          .wide_stride = static_cast<std::uint32_t>(whole_panels(first.wide)),
          .narrow_stride = static_cast<std::uint32_t>(whole_panels(first.columns - first.wide)),
          .words = nullptr,
          .row_scales = nullptr,
          .decoded = nullptr};
}

inline void reserve_side(JointSide& side, DeviceRoom& room) {
  side.wide_values = room.reserve<float>(std::size_t{side.rows} * side.wide_stride);
  side.coefficients = room.reserve<float>(std::size_t{side.rows} * side.narrow_stride);
  side.words = room.reserve<std::uint32_t>(std::size_t{side.rows} * side.narrow_stride / 4);
  side.row_scales = room.reserve<float>(side.rows);
  side.decoded = room.reserve<float>(std::size_t{side.rows} * side.values);
}

}  // namespace detail

inline ChunkLayout ChunkLayout::of(const JointChunk& chunk, const ChunkTarget& target, const Geometry& geometry,
                                   Position position, std::span<const float> features) {
  std::byte* const base = target.room;
  const std::size_t apart = chunk.has_first_row ? 1 : 0, half = geometry.rotary.dimensions / 2;
  const std::size_t width = chunk.rows + apart == 0 ? 0 : features.size() / (chunk.rows + apart);
  // Where symbols will lie is known once all arrays are: a first pass measures, a second one fills.
  ChunkLayout layout;
  std::size_t symbols_at = 0;
  for (const bool measured : {false, true}) {
    DeviceRoom room(base);
    layout = {};
    std::byte* next_symbols = base + symbols_at;
    std::vector<SymbolRun> symbol_runs;
    const auto* const bytes = room.add(chunk.symbols);
    for (std::size_t side = 0; side < 2; ++side) {
      JointSide& here = layout.sides[side].side;
      here = detail::side_arrays(chunk, side, *target.tensors[side], room);
      std::vector<JointRun> runs;
      for (const JointChunk::Run& run : chunk.runs[side]) {
        auto* const symbols = reinterpret_cast<std::int16_t*>(next_symbols);
        next_symbols += (run.tables.size() * run.count * sizeof(std::int16_t) + 15) / 16 * 16;
        runs.push_back({.first = static_cast<std::uint32_t>(run.first),
                        .count = static_cast<std::uint32_t>(run.count),
                        .columns = static_cast<std::uint32_t>(run.columns),
                        .wide = static_cast<std::uint32_t>(run.wide),
                        .symbol_of = room.add(run.symbol_of),
                        .symbols = symbols});
        symbol_runs.push_back({.columns = static_cast<std::uint32_t>(run.tables.size()),
                               .tokens = static_cast<std::uint32_t>(run.count),
                               .tables = room.add(run.tables),
                               .symbols = symbols});
      }
      here.runs = room.add(runs);
    }
    const auto* const runs = room.add(symbol_runs);
    const std::vector<SymbolStreams> streams{{.bytes = bytes,
                                              .size = static_cast<std::uint32_t>(chunk.symbols.size()),
                                              .streams = static_cast<std::uint32_t>(chunk.streams),
                                              .runs = runs,
                                              .run_count = static_cast<std::uint32_t>(symbol_runs.size())}};
    const auto* const stream = room.add(streams);

    // Angles by row of the chunk; the one at position 0 is not turned.
    const krul::detail::BlockRotation rotation(geometry.rotary, position + static_cast<Position>(apart), chunk.rows);
    std::vector<float> cosines(apart * half), sines(apart * half);
    cosines.insert(cosines.end(), rotation.cosines().begin(), rotation.cosines().end());
    sines.insert(sines.end(), rotation.sines().begin(), rotation.sines().end());
    const auto* const tokens = room.add(chunk.tokens);
    const float *const cosines_at = room.add(cosines), *const sines_at = room.add(sines);

    Int8Rows given;
    if (width > 0 && chunk.rows > 0) given = Int8Rows(chunk.rows, width, features.subspan(apart * width));
    const std::size_t quads = given.quads();
    const auto* const words = room.add(std::span(given.row(0), given.rows() * quads));
    const auto* const scales = room.add(std::span(given.scales(), given.rows()));
    std::vector<std::uint32_t> given_of;  // places name rows of the chunk
    for (const std::uint32_t token : chunk.tokens) given_of.push_back(token - static_cast<std::uint32_t>(apart));
    const auto* const predicted_of = room.add(given_of);
    for (std::size_t side = 0; side < 2; ++side) {
      StoreRows& store = layout.sides[side];
      store = {.side = store.side,
               .type = geometry.cache_type,
               .width = static_cast<std::uint32_t>(geometry.kv_values()),
               .dim = static_cast<std::uint32_t>(geometry.head_dim),
               .layers = static_cast<std::uint32_t>(target.rows[side].size()),
               .to = room.add(target.rows[side]),
               .tokens = tokens,
               .cosines = side == 0 ? cosines_at : nullptr,
               .sines = sines_at,
               .half = static_cast<std::uint32_t>(half),
               .interleaved = geometry.rotary.pairs == RotaryPairs::interleaved};
    }
    layout.arrays.assign(room.filled().begin(), room.filled().end());
    if (!measured) {
      symbols_at = room.filled().size();
      continue;
    }
    expects(room.filled().size() == symbols_at, "ChunkLayout: both passes lay out the same");
    static_cast<void>(room.reserve<std::byte>(static_cast<std::size_t>(next_symbols - base) - symbols_at));
    layout.outcome = room.reserve<krul::detail::DecodeOutcome>(1);
    layout.symbols = {.tables = target.tables,
                      .table_count = target.table_count,
                      .chunks = stream,
                      .chunk_count = 1,
                      .outcomes = layout.outcome};
    for (std::size_t side = 0; side < 2; ++side) {
      JointSide& here = layout.sides[side].side;
      detail::reserve_side(here, room);
      if (given.rows() == 0 || here.predicted_stride == 0) continue;
      auto* const out = room.reserve<float>(given.rows() * here.predicted_stride);
      layout.predictions[side] = {.words = words,
                                  .scales = scales,
                                  .rows = static_cast<std::uint32_t>(given.rows()),
                                  .quads = static_cast<std::uint32_t>(quads),
                                  .panels = target.tensors[side]->prediction,
                                  .columns = here.predicted_stride,
                                  .out = out};
      here.predicted = out;
      here.predicted_of = predicted_of;
    }
    layout.bytes = room.size();
  }
  return layout;
}

}  // namespace krul::cuda
