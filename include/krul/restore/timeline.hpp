#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/resource.hpp"

namespace krul {

/// One piece of work; seconds from the start of the restore.
struct Event {
  Resource resource = Resource::cores;
  std::string name;
  std::optional<std::size_t> layer;  ///< none: belongs to the whole pass
  double begin_s = 0;
  double end_s = 0;
  friend bool operator==(const Event&, const Event&) = default;
};

/// Who did what when, predicted or measured.
class Timeline {
 public:
  /// @throws PreconditionError unless begin_s <= end_s, both finite
  void add(Event event) {
    expects(std::isfinite(event.begin_s) && std::isfinite(event.end_s) && event.begin_s <= event.end_s,
            "Timeline: an event must end after it begins, at finite times");
    events_.push_back(std::move(event));
  }
  [[nodiscard]] const std::vector<Event>& events() const noexcept { return events_; }
  /// All its events' seconds of one resource together.
  [[nodiscard]] double busy_s(Resource resource) const noexcept {
    double busy_s = 0;
    for (const Event& event : events_)
      if (event.resource == resource) busy_s += event.end_s - event.begin_s;
    return busy_s;
  }

 private:
  std::vector<Event> events_;
};

namespace detail {

inline void append_json_text(std::string& json, std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  json += '"';
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (code < 0x20) {
      json += "\\u00";
      json += digits[code >> 4];
      json += digits[code & 15];
    } else {
      if (c == '"' || c == '\\') json += '\\';
      json += c;
    }
  }
  json += '"';
}

inline void append_json_number(std::string& json, double value) {
  char text[32];
  json.append(text, std::to_chars(text, text + sizeof text, value).ptr);
}

}  // namespace detail

/// The timeline in the Trace Event Format of Chrome, one row a resource: open it in Perfetto or chrome://tracing.
/// Names should be UTF-8. Independent of the locale.
[[nodiscard]] inline std::string chrome_trace(const Timeline& timeline, std::string_view title = "krul") {
  std::string json =
      R"({"displayTimeUnit":"ms","traceEvents":[{"ph":"M","pid":1,"name":"process_name","args":{"name":)";
  detail::append_json_text(json, title);
  json += "}}";
  for (const Resource resource : all_resources) {
    // Most machines have no device.
    if (resource != Resource::link && resource != Resource::cores && timeline.busy_s(resource) <= 0) continue;
    json += ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":" + std::to_string(static_cast<unsigned>(resource)) +
            ",\"name\":\"thread_name\",\"args\":{\"name\":";
    detail::append_json_text(json, name(resource));
    json += "}}";
  }
  for (const Event& event : timeline.events()) {
    json +=
        ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":" + std::to_string(static_cast<unsigned>(event.resource)) + ",\"name\":";
    detail::append_json_text(json, event.name);
    json += ",\"ts\":";  // microseconds
    detail::append_json_number(json, event.begin_s * 1e6);
    json += ",\"dur\":";
    detail::append_json_number(json, (event.end_s - event.begin_s) * 1e6);
    if (event.layer) json += ",\"args\":{\"layer\":" + std::to_string(*event.layer) + "}";
    json += "}";
  }
  return json + "]}\n";
}

}  // namespace krul
