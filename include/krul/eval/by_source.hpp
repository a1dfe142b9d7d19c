#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace krul::eval {

/// Totals of everything and of each source of data, so that a mean cannot hide a source on which a strategy fails.
/// @tparam Totals  has add(...), whatever its arguments
template <class Totals>
class BySource {
 public:
  /// Adds the same to the totals of everything and to those of one source.
  template <class... Item>
  void add(std::string_view source, const Item&... item) {
    all_.add(item...);
    auto found =
        std::find_if(sources_.begin(), sources_.end(), [&](const auto& entry) { return entry.first == source; });
    if (found == sources_.end()) found = sources_.insert(found, {std::string(source), Totals{}});
    found->second.add(item...);
  }

  [[nodiscard]] const Totals& all() const noexcept { return all_; }
  /// [sources], in the order in which they first came
  [[nodiscard]] const std::vector<std::pair<std::string, Totals>>& sources() const noexcept { return sources_; }

 private:
  Totals all_;
  std::vector<std::pair<std::string, Totals>> sources_;
};

/// Lets the first `limit` of each source through; 0: all.
class SourceLimit {
 public:
  explicit SourceLimit(std::size_t limit) : limit_(limit) {}
  /// Counts one of this source; whether it is let through.
  [[nodiscard]] bool take(const std::string& source) { return limit_ == 0 || ++taken_[source] <= limit_; }

 private:
  std::size_t limit_;
  std::map<std::string, std::size_t> taken_;
};

}  // namespace krul::eval
