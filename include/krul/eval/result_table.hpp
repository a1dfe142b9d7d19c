#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/eval/statistics.hpp"

namespace krul::eval {

/// A table for people, in plain text: names to the left, figures to the right, units in a line of their own.
class ResultTable {
 public:
  enum class Align { left, right };
  struct Column {
    std::string title;
    std::string unit = {};  ///< empty where a figure has none
    Align align = Align::right;
  };

  /// @throws PreconditionError if there is no column
  explicit ResultTable(std::vector<Column> columns) : columns_(std::move(columns)) {
    expects(!columns_.empty(), "ResultTable: no columns");
  }

  /// @param cells  [columns], UTF-8
  /// @throws       PreconditionError if there is not one cell a column
  void add(std::vector<std::string> cells) {
    expects(cells.size() == columns_.size(), "ResultTable: one cell for each column");
    rows_.push_back(std::move(cells));
  }

  /// Title, units, a rule, the rows; two spaces between columns, none at the end of a line.
  [[nodiscard]] std::string text() const {
    std::vector<std::string> titles, units, rules;
    bool any_unit = false;
    for (const auto& column : columns_) {
      titles.push_back(column.title);
      units.push_back(column.unit);
      any_unit = any_unit || !column.unit.empty();
    }
    std::vector<std::size_t> widths(columns_.size());
    const auto widen = [&](const std::vector<std::string>& cells) {
      for (std::size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], width(cells[i]));
    };
    widen(titles);
    widen(units);
    for (const auto& row : rows_) widen(row);
    for (const std::size_t wide : widths) rules.emplace_back(wide, '-');

    std::string found = line(titles, widths);
    if (any_unit) found += line(units, widths);
    found += line(rules, widths);
    for (const auto& row : rows_) found += line(row, widths);
    return found;
  }

 private:
  /// Characters, not bytes: those that continue a UTF-8 sequence take no place.
  static std::size_t width(std::string_view cell) {
    return static_cast<std::size_t>(
        std::count_if(cell.begin(), cell.end(), [](char byte) { return (byte & 0xC0) != 0x80; }));
  }

  std::string line(const std::vector<std::string>& cells, const std::vector<std::size_t>& widths) const {
    std::string text;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string padding(widths[i] - width(cells[i]), ' ');
      if (i > 0) text += "  ";
      text += columns_[i].align == Align::left ? cells[i] + padding : padding + cells[i];
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text + '\n';
  }

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// A cell with so many digits after the point; "-" for what was not measured (NaN).
[[nodiscard]] inline std::string cell(double value, int decimals = 1) {
  if (std::isnan(value)) return "-";
  char text[400];  // the largest double has 309 digits before the point
  std::snprintf(text, sizeof text, "%.*f", std::clamp(decimals, 0, 60), value);
  return text;
}

/// "1.23 MB", "12.0 kB", "7 B"
[[nodiscard]] inline std::string human_bytes(double bytes) {
  if (bytes >= 1e6) return cell(bytes / 1e6, 2) + " MB";
  if (bytes >= 1e3) return cell(bytes / 1e3, 1) + " kB";
  return cell(bytes, 0) + " B";
}

/// "1.42 [1.38, 1.47]": the median ratio and its interval; "1.42, too few rounds" if there is none of 95 %.
[[nodiscard]] inline std::string cell(const PairedRatio& ratio, int decimals = 2) {
  const std::string median = cell(ratio.median, decimals);
  if (!ratio.has_interval()) return median + ", too few rounds";
  return median + " [" + cell(ratio.interval.low, decimals) + ", " + cell(ratio.interval.high, decimals) + "]";
}

}  // namespace krul::eval
