#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "coding_order.hpp"
#include "krul/compress/entropy/table_choice.hpp"
#include "krul/compress/joint_transform.hpp"

namespace krul::detail {

/// The columns of a tensor that count for a run of rows.
struct Columns {
  std::size_t count = 0, wide = 0;     ///< leading ones, and how many of them are wide
  std::vector<char> coded;             ///< [count] whether a column is coded; others are only predicted
  std::vector<std::uint8_t> expected;  ///< the tables to expect for those that are
  std::vector<std::uint32_t> places;   ///< of those among the columns that the first run codes
};

[[nodiscard]] inline Columns columns_at(const Profile::Tensor& tensor, StepScale step, const CodingOrder::Run& run,
                                        const CodingOrder::Run& first) {
  Columns columns;
  std::uint32_t place = 0;
  for (std::size_t i = 0; i < tensor.spreads.size(); ++i) {
    if (step.expected_table(tensor.spreads[i], run.finest) < JointTransform::least_spread) break;
    const std::uint8_t table = tensor.tables[i];
    columns.coded.push_back(step.expected_table(table, run.finest) >= JointTransform::least_table);
    if (columns.coded.back() != 0) {
      columns.expected.push_back(step.expected_table(table, run.usual));
      columns.places.push_back(place);
    }
    place += step.expected_table(table, first.finest) >= JointTransform::least_table ? 1U : 0U;
  }
  columns.count = columns.coded.size();
  columns.wide = std::min(columns.count, tensor.wide_columns());
  return columns;
}

/// The tables of a run's columns.
/// @param places  of them, among those that the first run codes
/// @param all     of these
[[nodiscard]] inline std::vector<std::uint8_t> tables_at(std::span<const std::uint32_t> places,
                                                         std::span<const std::uint8_t> all, int shift,
                                                         std::size_t size) {
  std::vector<std::uint8_t> tables;
  tables.reserve(places.size());
  for (const std::uint32_t place : places) tables.push_back(shifted_table(all[place], shift, size));
  return tables;
}

/// Columns up to whole panels.
[[nodiscard]] constexpr std::size_t padded(std::size_t columns) {
  return (columns + Int8Panels::width - 1) / Int8Panels::width * Int8Panels::width;
}

}  // namespace krul::detail
