#include "json_table.hpp"

#include <limits>

namespace krul::cli {
namespace {

std::string cell_of(const Json& row, const std::string& key, const JsonColumn& column) {
  const auto value = row.find(key);
  if (value == row.end()) return {};
  if (column.show) return column.show(*value);
  if (value->is_string()) return escaped(value->get<std::string>());
  return eval::cell(value->is_null() ? std::numeric_limits<double>::quiet_NaN() : value->get<double>() * column.scale,
                    column.decimals);
}

}  // namespace

std::string table_text(const Json& rows, const std::vector<JsonColumn>& columns) {
  std::vector<eval::ResultTable::Column> titles;
  for (const JsonColumn& column : columns) titles.push_back({column.title, column.unit, column.align});
  eval::ResultTable table(std::move(titles));
  for (const Json& row : rows) {
    std::vector<std::string> cells;
    for (const JsonColumn& column : columns) {
      std::string cell;
      for (const std::string& key : column.keys)
        cell += (cell.empty() ? "" : column.between) + cell_of(row, key, column);
      cells.push_back(std::move(cell));
    }
    table.add(std::move(cells));
  }
  return table.text();
}

}  // namespace krul::cli
