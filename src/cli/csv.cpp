#include "csv.hpp"

namespace krul::cli {
namespace {

std::string field(const Json& value) {
  if (value.is_null()) return "";
  if (!value.is_string()) return value.dump();
  const auto text = value.get<std::string>();
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char letter : text) quoted += letter == '"' ? std::string("\"\"") : std::string(1, letter);
  return quoted + '"';
}

}  // namespace

std::string csv_text(const Json& rows) {
  std::string text;
  if (rows.empty()) return text;
  for (const auto& [key, value] : rows.front().items()) text += (text.empty() ? "" : ",") + field(key);
  for (const auto& row : rows) {
    text += '\n';
    bool first = true;
    for (const auto& [key, value] : rows.front().items()) {
      text += (first ? "" : ",") + field(row.value(key, Json(nullptr)));
      first = false;
    }
  }
  return text + '\n';
}

}  // namespace krul::cli
