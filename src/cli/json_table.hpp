#pragma once

#include <functional>
#include <string>
#include <vector>

#include "krul/eval/result_table.hpp"
#include "tool.hpp"

namespace krul::cli {

/// A column of a table for people, filled from the rows of a JSON result.
struct JsonColumn {
  std::vector<std::string> keys;  ///< of the values that stand in a cell
  std::string title;
  std::string unit = {};
  int decimals = 1;
  double scale = 1;           ///< what numbers are multiplied by
  std::string between = " ";  ///< several values of one cell

  using Align = eval::ResultTable::Align;
  Align align = Align::right;
  std::function<std::string(const Json&)> show = {};  ///< a value's text, null's too; empty: as table_text says

  /// A column of names.
  [[nodiscard]] static JsonColumn text(std::string key, std::string title) {
    return {.keys = {std::move(key)}, .title = std::move(title), .align = Align::left};
  }
};

/// The rows as a table. Texts are escaped; null is printed as "-", and nothing where a row lacks the key.
/// @param rows  [rows] objects whose values under the columns' keys are numbers, texts or null
[[nodiscard]] std::string table_text(const Json& rows, const std::vector<JsonColumn>& columns);

}  // namespace krul::cli
