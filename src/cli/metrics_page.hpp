#pragma once

#include <filesystem>
#include <mutex>
#include <string>

#include "krul/core/error.hpp"
#include "krul/store/store_counts.hpp"

namespace krul::cli {

/// Counts what is asked of a store, and keeps that in a file in Prometheus' text format.
class MetricsPage {
 public:
  /// @param store  its name, which each sample has as a label
  MetricsPage(std::filesystem::path file, std::string store) : file_(std::move(file)), store_(std::move(store)) {}
  /// Writes the page if that was possible before. What goes wrong is a line on standard error: nobody is left to be
  /// told otherwise.
  ~MetricsPage();
  MetricsPage(const MetricsPage&) = delete;
  MetricsPage& operator=(const MetricsPage&) = delete;

  void add(const StoreEvent& event);
  /// Replaces the file, so that nobody reads half of it.
  /// @return as replace_file
  [[nodiscard]] Status write();

 private:
  std::filesystem::path file_;
  std::string store_;
  mutable std::mutex mutex_;
  StoreCounts counts_;
  bool is_begun_ = false;
};

}  // namespace krul::cli
