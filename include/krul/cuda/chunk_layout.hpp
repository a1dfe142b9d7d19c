#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/compress/joint/block_rotation.hpp"
#include "krul/compress/joint/joint_chunk.hpp"
#include "krul/core/geometry.hpp"
#include "krul/cuda/chunk_verdict.hpp"
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
  RowPlaces places = {};                             ///< of the chunk's rows
  std::array<std::vector<std::byte*>, 2> rows = {};  ///< [layers] where the cache's keys and values begin
};

/// A chunk as it lies in a room of a device's memory, and the kernels that decode it there, in their order.
struct ChunkLayout {
  std::vector<std::byte> arrays = {};            ///< to be copied
  std::byte* arrays_at = nullptr;                ///< to there, in the room
  std::size_t bytes = 0;                         ///< of the room that all of it takes
  DecodeSymbols symbols = {};                    ///< one warp
  std::array<MultiplyRows, 2> predictions = {};  ///< of K and V; no rows: nothing is predicted
  std::array<StoreRows, 2> sides = {};           ///< of K and V: their `side` is that of the kernels before
  const ChunkVerdict* verdict = nullptr;         ///< of the kernels, in the room

  /// @param position  of the chunk's first row
  /// @param features  [rows, F] of the chunk's rows; F may be 0
  [[nodiscard]] static ChunkLayout of(const JointChunk& chunk, const ChunkTarget& target, const Geometry& geometry,
                                      Position position, std::span<const float> features);
};

namespace detail {

[[nodiscard]] constexpr std::size_t whole_panels(std::size_t columns) noexcept {
  return (columns + 15) / 16 * 16;
}

/// A run of each row; the same for K and V.
[[nodiscard]] inline std::vector<std::uint32_t> runs_of_rows(const JointChunk& chunk) {
  std::vector<std::uint32_t> run_of;
  for (std::size_t i = 0; i < chunk.runs[0].size(); ++i)
    run_of.insert(run_of.end(), chunk.runs[0][i].count, static_cast<std::uint32_t>(i));
  return run_of;
}

/// One side without its room and what is predicted.
[[nodiscard]] inline JointSide side_of(const JointChunk& chunk, std::size_t side, const DeviceTensor& tensor) {
  const auto& first = chunk.runs[side].front();
  return {.scales = tensor.scales,
          .prediction_scales = tensor.prediction_scales,
          .wide_synthesis = tensor.wide_synthesis,
          .synthesis = tensor.synthesis,
          .values = tensor.values,
          .runs = nullptr,
          .run_count = static_cast<std::uint32_t>(chunk.runs[side].size()),
          .rows = static_cast<std::uint32_t>(chunk.rows),
          .run_of = nullptr,
          .steps = nullptr,
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
  const std::size_t apart = chunk.has_first_row ? 1 : 0, half = geometry.rotary.dimensions / 2;
  const std::size_t width = features.size() / std::max<std::size_t>(chunk.rows + apart, 1);
  ChunkLayout layout;
  // Symbols come first: how many there are is known before any array that says where they are.
  DeviceRoom symbols(target.room);
  std::vector<SymbolRun> symbol_runs;
  for (const auto& runs : chunk.runs)
    for (const JointChunk::Run& run : runs)
      symbol_runs.push_back({.columns = static_cast<std::uint32_t>(run.tables.size()),
                             .tokens = static_cast<std::uint32_t>(run.count),
                             .tables = nullptr,
                             .symbols = symbols.reserve<std::int16_t>(run.tables.size() * run.count)});
  layout.arrays_at = target.room + symbols.size();
  DeviceRoom room(layout.arrays_at);

  const auto* const run_of = room.add(detail::runs_of_rows(chunk));
  const auto* const steps = room.add(chunk.steps);
  std::size_t next = 0;
  for (std::size_t side = 0; side < 2; ++side) {
    std::vector<JointRun> runs;
    for (const JointChunk::Run& run : chunk.runs[side]) {
      SymbolRun& of_symbols = symbol_runs[next++];
      of_symbols.tables = room.add(run.tables);
      runs.push_back({.first = static_cast<std::uint32_t>(run.first),
                      .count = static_cast<std::uint32_t>(run.count),
                      .columns = static_cast<std::uint32_t>(run.columns),
                      .wide = static_cast<std::uint32_t>(run.wide),
                      .symbol_of = room.add(run.symbol_of),
                      .symbols = of_symbols.symbols});
    }
    JointSide& here = layout.sides[side].side;
    here = detail::side_of(chunk, side, *target.tensors[side]);
    here.runs = room.add(runs);
    here.run_of = run_of;
    here.steps = steps;
  }
  const std::vector<SymbolStreams> streams{{.bytes = room.add(chunk.symbols),
                                            .size = static_cast<std::uint32_t>(chunk.symbols.size()),
                                            .streams = static_cast<std::uint32_t>(chunk.streams),
                                            .runs = room.add(symbol_runs),
                                            .run_count = static_cast<std::uint32_t>(symbol_runs.size())}};
  layout.symbols = {.tables = target.tables,
                    .table_count = target.table_count,
                    .chunks = room.add(streams),
                    .chunk_count = 1,
                    .outcomes = nullptr};

  // Angles by row of the chunk; the one at position 0 is not turned.
  const krul::detail::BlockRotation rotation(geometry.rotary, position + static_cast<Position>(apart), chunk.rows);
  std::vector<float> cosines(apart * half), sines(apart * half);
  cosines.insert(cosines.end(), rotation.cosines().begin(), rotation.cosines().end());
  sines.insert(sines.end(), rotation.sines().begin(), rotation.sines().end());
  const auto* const tokens = room.add(chunk.tokens);
  const float *const cosines_at = room.add(cosines), *const sines_at = room.add(sines);
  for (std::size_t side = 0; side < 2; ++side) {
    StoreRows& store = layout.sides[side];
    store = {.side = store.side,
             .type = geometry.cache_type,
             .width = static_cast<std::uint32_t>(geometry.kv_values()),
             .dim = static_cast<std::uint32_t>(geometry.head_dim),
             .layers = static_cast<std::uint32_t>(target.rows[side].size()),
             .to = room.add(target.rows[side]),
             .places = target.places,
             .tokens = tokens,
             .cosines = side == 0 ? cosines_at : nullptr,
             .sines = sines_at,
             .half = static_cast<std::uint32_t>(half),
             .interleaved = geometry.rotary.pairs == RotaryPairs::interleaved,
             .not_finite = nullptr};
  }

  Int8Rows given;
  if (width > 0 && chunk.rows > 0) given = Int8Rows(chunk.rows, width, features.subspan(apart * width));
  const auto* const words = room.add(std::span(given.row(0), given.rows() * given.quads()));
  const auto* const scales = room.add(std::span(given.scales(), given.rows()));
  std::vector<std::uint32_t> given_of;  // places name rows of the chunk
  for (const std::uint32_t token : chunk.tokens) given_of.push_back(token - static_cast<std::uint32_t>(apart));
  const auto* const predicted_of = room.add(given_of);

  auto* const verdict = const_cast<ChunkVerdict*>(room.add(std::vector<ChunkVerdict>(1)));
  layout.verdict = verdict;
  layout.symbols.outcomes = &verdict->symbols;
  for (StoreRows& store : layout.sides) store.not_finite = &verdict->not_finite;
  for (std::size_t side = 0; side < 2; ++side) {
    JointSide& here = layout.sides[side].side;
    detail::reserve_side(here, room);
    if (given.rows() == 0 || here.predicted_stride == 0) continue;
    auto* const out = room.reserve<float>(given.rows() * here.predicted_stride);
    layout.predictions[side] = {.words = words,
                                .scales = scales,
                                .rows = static_cast<std::uint32_t>(given.rows()),
                                .quads = static_cast<std::uint32_t>(given.quads()),
                                .panels = target.tensors[side]->prediction,
                                .columns = here.predicted_stride,
                                .out = out};
    here.predicted = out;
    here.predicted_of = predicted_of;
  }
  layout.bytes = symbols.size() + room.size();
  layout.arrays.assign(room.filled().begin(), room.filled().end());
  return layout;
}

}  // namespace krul::cuda
