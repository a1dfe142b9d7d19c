#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/core/clock.hpp"
#include "krul/core/error.hpp"
#include "krul/store/store_event.hpp"

namespace krul {

/// Calls of one kind.
struct OperationCounts {
  /// Upper ends of the histogram's bins, in seconds; there is one more bin without an end.
  static constexpr std::array<double, 8> bin_ends = {0.0001, 0.0005, 0.002, 0.01, 0.05, 0.2, 1, 5};
  static constexpr std::size_t codes = static_cast<std::size_t>(ErrorCode::medium) + 1;

  std::uint64_t calls = 0;                                ///< that ended, well or not
  std::uint64_t bytes = 0;                                ///< written or read by those that ended well
  std::array<std::uint64_t, codes> errors{};              ///< by ErrorCode
  Duration time{};                                        ///< of all, added up
  std::array<std::uint64_t, bin_ends.size() + 1> bins{};  ///< calls by duration

  [[nodiscard]] std::uint64_t failed() const noexcept {
    std::uint64_t sum = 0;
    for (const std::uint64_t count : errors) sum += count;
    return sum;
  }
};

/// What was asked of a store so far.
struct StoreCounts {
  std::array<OperationCounts, store_operations> operations{};

  [[nodiscard]] const OperationCounts& of(StoreOperation operation) const noexcept {
    return operations[static_cast<std::size_t>(operation)];
  }
  void add(const StoreEvent& event) noexcept {
    OperationCounts& counts = operations[static_cast<std::size_t>(event.operation)];
    ++counts.calls;
    counts.bytes += event.bytes;
    counts.time += event.duration;
    if (event.error) ++counts.errors[static_cast<std::size_t>(event.error->code)];
    const auto& ends = OperationCounts::bin_ends;
    const auto bin = std::lower_bound(ends.begin(), ends.end(), seconds(event.duration)) - ends.begin();
    ++counts.bins[static_cast<std::size_t>(bin)];
  }
};

/// How prometheus_text names what it prints.
struct PrometheusNames {
  std::string prefix = "krul_store";                             ///< [a-zA-Z_:][a-zA-Z0-9_:]*
  std::vector<std::pair<std::string, std::string>> labels = {};  ///< of every sample; values may be any UTF-8
};

namespace detail {

/// {a="b",operation="get"} with values escaped as the format asks.
[[nodiscard]] inline std::string prometheus_labels(const PrometheusNames& names,
                                                   std::vector<std::pair<std::string, std::string>> own) {
  own.insert(own.begin(), names.labels.begin(), names.labels.end());
  std::string text = "{";
  for (const auto& [label, value] : own) {
    text += (text.size() > 1 ? "," : "") + label + "=\"";
    for (const char character : value) {
      if (character == '\\' || character == '"') text += '\\';
      if (character == '\n')
        text += "\\n";
      else
        text += character;
    }
    text += '"';
  }
  return text + "}";
}

}  // namespace detail

/// The counts in Prometheus' text format, version 0.0.4: counters of calls, bytes and errors by operation, and a
/// histogram of seconds. Operations that nobody asked for are there with 0; errors only if there were some.
[[nodiscard]] inline std::string prometheus_text(const StoreCounts& counts, const PrometheusNames& names = {}) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  const auto metric = [&](const std::string& metric_name, const char* type, const char* help) {
    const std::string full = names.prefix + "_" + metric_name;
    text << "# HELP " << full << ' ' << help << "\n# TYPE " << full << ' ' << type << '\n';
    return full;
  };
  const auto each = [&](auto&& visit) {
    for (std::size_t i = 0; i < store_operations; ++i)
      visit(std::string(name(static_cast<StoreOperation>(i))), counts.operations[i]);
  };
  const std::string calls = metric("calls_total", "counter", "Calls that ended, well or not.");
  each([&](const std::string& operation, const OperationCounts& of) {
    text << calls << detail::prometheus_labels(names, {{"operation", operation}}) << ' ' << of.calls << '\n';
  });
  const std::string bytes = metric("bytes_total", "counter", "Bytes of objects that were written or read.");
  each([&](const std::string& operation, const OperationCounts& of) {
    text << bytes << detail::prometheus_labels(names, {{"operation", operation}}) << ' ' << of.bytes << '\n';
  });
  const std::string errors = metric("errors_total", "counter", "Calls that failed, by the error's code.");
  each([&](const std::string& operation, const OperationCounts& of) {
    for (std::size_t code = 0; code < of.errors.size(); ++code)
      if (of.errors[code] > 0)
        text << errors
             << detail::prometheus_labels(
                    names, {{"operation", operation}, {"code", std::string(name(static_cast<ErrorCode>(code)))}})
             << ' ' << of.errors[code] << '\n';
  });
  const std::string histogram = metric("seconds", "histogram", "Seconds from a call to its end.");
  each([&](const std::string& operation, const OperationCounts& of) {
    std::uint64_t sum = 0;
    for (std::size_t bin = 0; bin < of.bins.size(); ++bin) {
      std::ostringstream end;
      end.imbue(std::locale::classic());
      if (bin < OperationCounts::bin_ends.size())
        end << OperationCounts::bin_ends[bin];
      else
        end << "+Inf";
      text << histogram << "_bucket" << detail::prometheus_labels(names, {{"operation", operation}, {"le", end.str()}})
           << ' ' << (sum += of.bins[bin]) << '\n';
    }
    const std::string labels = detail::prometheus_labels(names, {{"operation", operation}});
    text << histogram << "_sum" << labels << ' ' << seconds(of.time) << '\n';
    text << histogram << "_count" << labels << ' ' << of.calls << '\n';
  });
  return text.str();
}

}  // namespace krul
