#pragma once

#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "krul/backend/layer_batch.hpp"
#include "krul/core/conformance_report.hpp"

namespace krul {

/// Proves the bookkeeping of a LayerBatch. That the activations move with their rows is checked by check_backend.
/// @param make  make() returns an empty batch
template <class Make>
requires LayerBatch<std::invoke_result_t<Make&>> ConformanceReport check_layer_batch(Make&& make) {
  using namespace conformance;
  const std::vector<Position> gaps{0, 1, 2, 3, 7, 8, 20, 21, 22};
  const auto holds = [](const auto& batch, const std::vector<Position>& wanted) {
    return std::ranges::equal(batch.positions(), wanted);
  };
  ConformanceReport report;

  report.add("batch: assign replaces the rows, gaps allowed", [&] {
    auto batch = make();
    for (const auto& positions : {gaps, std::vector<Position>{5}, std::vector<Position>{}, gaps}) {
      batch.assign(positions);
      require(holds(batch, positions), "positions() are not those of the last assign");
    }
    return std::string();
  });

  report.add("batch: positions that do not ascend are refused", [&] {
    auto batch = make();
    require_refused([&] { batch.assign(std::vector<Position>{3, 2}); }, "assign of descending positions");
    require_refused([&] { batch.assign(std::vector<Position>{2, 2}); }, "assign of a position twice");
    return std::string();
  });

  report.add("batch: keep leaves the named rows in their order", [&] {
    struct Case {
      std::vector<RowRange> rows;
      std::vector<Position> left;
    };
    const Case cases[] = {
        {{{0, 9}}, gaps},
        {{{0, 2}, {2, 9}}, gaps},
        {{{0, 1}, {4, 6}, {8, 9}}, {0, 7, 8, 22}},
        {{{3, 3}, {5, 9}}, {8, 20, 21, 22}},
        {{{8, 9}}, {22}},
        {{}, {}},
    };
    for (const auto& [rows, left] : cases) {
      auto batch = make();
      batch.assign(gaps);
      batch.keep(rows);
      require(holds(batch, left), "keep of " + std::to_string(rows.size()) + " ranges leaves other rows than those");
    }
    auto batch = make();
    batch.assign(gaps);
    for (const RowRange rows : {RowRange{1, 8}, RowRange{1, 7}, RowRange{0, 2}}) batch.keep(std::span(&rows, 1));
    require(holds(batch, {2, 3}), "keep after keep leaves other rows than those");
    return std::string();
  });

  report.add("batch: ranges that overlap, descend or exceed the rows are refused", [&] {
    for (const auto& rows : {std::vector<RowRange>{{0, 3}, {2, 4}}, std::vector<RowRange>{{4, 6}, {0, 2}},
                             std::vector<RowRange>{{3, 2}}, std::vector<RowRange>{{0, 10}}}) {
      auto batch = make();
      batch.assign(gaps);
      require_refused([&] { batch.keep(rows); }, "keep of such ranges");
    }
    return std::string();
  });

  return report;
}

}  // namespace krul
