#pragma once

#include <algorithm>
#include <cstddef>

#include "krul/core/workers.hpp"
#include "krul/model/detail/pool.hpp"
#include "krul/model/matrix_kernels.hpp"

namespace krul::detail {

/// Most rows that go through a step of a layer together.
inline constexpr std::size_t tile_rows = 128;

/// Calls body(PanelRange, worker) for no more than a block of panels at a time.
template <class Body>
void block_by_block(PanelRange panels, std::size_t worker, Body&& body) {
  for (; panels.begin < panels.end; panels.begin += block_panels)
    body(PanelRange{panels.begin, std::min(panels.begin + block_panels, panels.end)}, worker);
}

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
    block_by_block({0, count}, worker, body);
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
    // First a long run for each worker, as reading goes fastest on and on; then short ones, so that all end together.
    const std::size_t threads = workers->threads();
    const std::size_t first = count * 3 / 4 / threads / unit * unit, rest = count - first * threads;
    const std::size_t run = std::max(rest / (4 * threads) / unit * unit, unit);
    const std::size_t firsts = first == 0 ? 0 : threads;
    workers->parallel_for(firsts + (rest + run - 1) / run, [&](std::size_t index, std::size_t worker) {
      const std::size_t begin = index < firsts ? index * first : firsts * first + (index - firsts) * run;
      block_by_block({begin, std::min(begin + (index < firsts ? first : run), count)}, worker, body);
    });
  }
};
/// @}

}  // namespace krul::detail
