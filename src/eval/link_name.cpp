#include "krul/eval/link_name.hpp"

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string_view>

namespace krul::eval {

Result<LinkName> parse_link(const std::string& text) {
  if (text == "disk") return LinkName{text, LinkName::Kind::disk};
  if (text == "memory") return LinkName{text, LinkName::Kind::memory};
  if (text == "pcie") return LinkName{.text = text, .kind = LinkName::Kind::memory, .to_device = true};
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  std::string unit = end;
  double latency_s = throttled_latency_s;
  const std::size_t plus = unit.find('+');
  if (plus != std::string::npos) {
    const std::string after = unit.substr(plus + 1);
    latency_s = std::strtod(after.c_str(), &end) * 1e-3;
    if (std::string_view(end) != "ms" || !(latency_s >= 0) || latency_s > 1) unit.clear();
    unit.resize(std::min(unit.size(), plus));
  }
  const double scale = unit == "kB/s" ? 1e3 : unit == "MB/s" ? 1e6 : unit == "GB/s" ? 1e9 : 0;
  if (scale > 0 && number > 0 && number * scale >= 1e3 && number * scale <= 1e12)
    return LinkName{.text = text, .kind = LinkName::Kind::rate, .bytes_per_s = number * scale, .latency_s = latency_s};
  if (plus == std::string::npos && unit == "x" && number >= 0.01 && number <= 100)
    return LinkName{.text = text, .kind = LinkName::Kind::relative, .factor = number};
  return fail(ErrorCode::invalid_argument,
              "unknown link \"" + text +
                  "\"; there are disk, memory, pcie (from memory to a device), rates such as 100MB/s (kB/s, MB/s, "
                  "GB/s; 1 kB/s to 1000 GB/s) or 100MB/s+20ms with a latency of at most 1000ms, and 1.3x: a "
                  "link at which recomputing takes 1.3 times as long as loading all at two bytes a value");
}

Result<std::vector<LinkName>> parse_links(const std::string& text) {
  std::vector<LinkName> links;
  std::stringstream list(text);
  for (std::string item; std::getline(list, item, ',');) {
    auto link = parse_link(item);
    if (!link) return propagate(link);
    links.push_back(*link);
  }
  if (links.empty()) return fail(ErrorCode::invalid_argument, "no links given");
  return links;
}

}  // namespace krul::eval
