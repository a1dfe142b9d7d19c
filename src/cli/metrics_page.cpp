#include "metrics_page.hpp"

#include <cstdio>

#include "krul/core/escaped.hpp"
#include "krul/core/file_io.hpp"

namespace krul::cli {

MetricsPage::~MetricsPage() {
  if (!is_begun_) return;  // which was told
  if (const Status status = write(); !status)
    std::fprintf(stderr, "krul: the metrics could not be written: %s\n", escaped(status.error().message).c_str());
}

void MetricsPage::add(const StoreEvent& event) {
  const std::lock_guard guard(mutex_);
  counts_.add(event);
}

Status MetricsPage::write() {
  const auto text = [&] {
    const std::lock_guard guard(mutex_);
    return prometheus_text(counts_, {.labels = {{"store", store_}}});
  }();
  Status written = replace_file(file_, text);
  is_begun_ = is_begun_ || written;
  return written;
}

}  // namespace krul::cli
