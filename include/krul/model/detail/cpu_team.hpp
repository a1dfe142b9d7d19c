#pragma once

#include <algorithm>
#include <cstddef>

#include "krul/core/workers.hpp"
#include "krul/model/detail/pool.hpp"
#include "krul/model/matrix_kernels.hpp"

namespace krul::detail {

/// Most rows that go through a step of a layer together.
inline constexpr std::size_t tile_rows = 128;

/// How one tile of rows is worked on. Both kinds offer the same loops, so that each step is written once:
///   rows(count, body(row, worker)), panels(count, unit, body(PanelRange, worker)), panel runs in multiples of unit.
/// @{
/// One worker does all of it, one of several tiles at a time.
struct AloneOnTile {
  std::size_t worker;

  template <class Body>
  void rows(std::size_t count, Body&& body) const {
    for (std::size_t row = 0; row < count; ++row) body(row, worker);
  }
  template <class Body>
  void panels(std::size_t count, std::size_t, Body&& body) const {
    for (std::size_t begin = 0; begin < count; begin += block_panels)
      body(PanelRange{begin, std::min(begin + block_panels, count)}, worker);
  }
};

/// All workers share each loop, with a barrier after it.
struct TogetherOnTile {
  Workers* workers;

  template <class Body>
  void rows(std::size_t count, Body&& body) const {
    constexpr std::size_t chunk = 8;  // fewer are not worth waking anybody
    workers->parallel_for((count + chunk - 1) / chunk, [&](std::size_t index, std::size_t worker) {
      for (std::size_t row = index * chunk; row < std::min(count, (index + 1) * chunk); ++row) body(row, worker);
    });
  }
  template <class Body>
  void panels(std::size_t count, std::size_t unit, Body&& body) const {
    // Some four runs a worker: long enough to stream, short enough to end together.
    const std::size_t wanted = count / (4 * workers->threads());
    const std::size_t run = std::clamp(wanted / unit * unit, unit, block_panels);
    workers->parallel_for((count + run - 1) / run, [&](std::size_t index, std::size_t worker) {
      body(PanelRange{index * run, std::min((index + 1) * run, count)}, worker);
    });
  }
};
/// @}

}  // namespace krul::detail
